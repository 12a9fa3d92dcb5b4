"""Clients that mean no good: each holds what it can get hold of, for some seconds."""

import asyncio
import gzip
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

_BIG = "/api/consumer-lag"
_STEP_SECONDS = 0.5


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    page: str
    """A path that is answered with 200."""

    async def connect(self, receive_buffer: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, (self.host, self.port))
        return await asyncio.open_connection(sock=sock)

    def get(self, path: str, more: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n".encode()


Attack = Callable[[Target, float], Coroutine[Any, Any, str]]
"""Attacks for about so many seconds; returns what is wrong with what came back, if anything."""


async def _many(target: Target, n: int, one: Callable[[int], Awaitable[None]]) -> None:
    """Whatever happens to their connections is what such clients are to expect."""

    async def tried(number: int) -> None:
        try:
            await one(number)
        except OSError:
            return

    await asyncio.gather(*(tried(number) for number in range(n)))


async def _drip(target: Target, seconds: float, head: bytes, drop: bytes) -> None:
    _, writer = await target.connect()
    writer.write(head)
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end and not writer.is_closing():
        await asyncio.sleep(_STEP_SECONDS)
        writer.write(drop)
    writer.transport.abort()


async def slow_headers(target: Target, seconds: float) -> str:
    """A thousand that send a byte of a header now and then."""
    await _many(target, 1_000, lambda _: _drip(target, seconds, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", b"x"))
    return ""


async def slow_body(target: Target, seconds: float) -> str:
    """A thousand that send a byte of a body now and then."""
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\n"
    await _many(target, 1_000, lambda _: _drip(target, seconds, head, b"x"))
    return ""


async def slow_reader(target: Target, seconds: float) -> str:
    """Three hundred that ask for much and read nothing."""

    async def one(_number: int) -> None:
        _, writer = await target.connect(receive_buffer=4_096)
        assert isinstance(writer.transport, asyncio.ReadTransport)
        writer.transport.pause_reading()
        writer.write(target.get(_BIG) * 100)
        await asyncio.sleep(seconds)
        writer.transport.abort()

    await _many(target, 300, one)
    return ""


async def idle(target: Target, seconds: float) -> str:
    """Two thousand that say nothing."""

    async def one(_number: int) -> None:
        _, writer = await target.connect()
        await asyncio.sleep(seconds)
        writer.transport.abort()

    await _many(target, 2_000, one)
    return ""


async def pipelined(target: Target, seconds: float) -> str:
    """Ten thousand requests at once over one connection: all are answered, in order."""
    n = 10_000
    reader, writer = await target.connect()
    writer.write(target.get(target.page) * (n - 1) + target.get(target.page, "Connection: close\r\n"))
    n_answers, tail = 0, b""
    async with asyncio.timeout(100 + seconds):
        while chunk := await reader.read(1 << 20):
            whole = tail + chunk
            n_answers += whole.count(b"HTTP/1.1 200 OK\r\n")
            tail = whole[-16:]  # one less than what is counted
    writer.close()
    return "" if n_answers == n else f"{n_answers} of {n} were answered"


async def huge(target: Target, seconds: float) -> str:
    """Heads and bodies of megabytes, some of them packed."""
    post = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    bomb = gzip.compress(bytes(50_000_000))
    requests = [
        b"GET /" + b"x" * 2_000_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 2_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(100_000)) + b"\r\n",
        post + b"Content-Length: 2000000000\r\n\r\n" + bytes(4_000_000),
        post + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + bytes(65_536) + b"\r\n") * 60,
        post + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb,
        post
        + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(bomb)
        + bomb
        + b"\r\n0\r\n\r\n",
    ]
    return await _refused(target, requests * 10, seconds)


async def malformed(target: Target, seconds: float) -> str:
    """What is not HTTP."""
    requests = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x00" * 1_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n X: folded\r\n\r\n",
        b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
    ]
    return await _refused(target, requests * 100, seconds)


async def _refused(target: Target, requests: list[bytes], seconds: float) -> str:
    """Each on a connection of its own: an answer of 4xx, or the end of the connection."""
    wrong: list[bytes] = []

    async def one(number: int) -> None:
        reader, writer = await target.connect()
        try:
            writer.write(requests[number])
            async with asyncio.timeout(seconds + 60):
                answer = await reader.read(200)
        finally:
            writer.transport.abort()
        if answer and not answer.startswith(b"HTTP/1.1 4") and not answer.startswith(b"HTTP/1.0 4"):
            wrong.append(answer[:80])

    try:
        for first in range(0, len(requests), 100):
            group = requests[first : first + 100]
            await _many(target, len(group), lambda number, first=first: one(first + number))  # type: ignore[misc]
    except TimeoutError:
        return "a bad request got neither answer nor end"
    return f"{len(wrong)} were not refused, the first: {wrong[0]!r}" if wrong else ""


async def disconnects(target: Target, seconds: float) -> str:
    """Clients that go in the middle of the answer."""
    end = asyncio.get_running_loop().time() + seconds

    async def one(_number: int) -> None:
        while asyncio.get_running_loop().time() < end:
            reader, writer = await target.connect(receive_buffer=4_096)
            writer.write(target.get(_BIG) * 3)
            await reader.read(10)
            writer.transport.abort()

    await _many(target, 50, one)
    return ""


ATTACKS: tuple[Attack, ...] = (
    slow_headers,
    slow_body,
    slow_reader,
    idle,
    pipelined,
    huge,
    malformed,
    disconnects,
)


def main(name: str, host: str, port: str, page: str, seconds: str) -> None:
    """In a process of its own, so that its work does not make honest clients late."""
    attack = next(attack for attack in ATTACKS if attack.__name__ == name)
    sys.stdout.write(asyncio.run(attack(Target(host, int(port), page), float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
