"""Requests at a fixed rate, whatever the server does: a stall counts for everybody who came while it lasted.

Each arrival has its time; it takes a free connection, or a new one, or waits for one, and its latency is
counted from the time that it was to be sent.
"""

import asyncio
import itertools
import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

HUNG_SECONDS = 5.0
_TICK_SECONDS = 0.001
_MOST_CONNECTIONS = 900
_CONNECT_SECONDS = 3.0
_ANSWERED = (200, 201)


@dataclass
class Outcome:
    """What became of all arrivals of a phase."""

    rate: float
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    hung: int = 0
    sent_again: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    answered_ms: list[float] = field(default_factory=list)
    """Latencies of those that got what they asked for."""
    late_ms: list[float] = field(default_factory=list)
    """How much later than planned the client itself was."""

    @property
    def ok(self) -> int:
        return sum(self.statuses[status] for status in _ANSWERED)

    @property
    def n_errors(self) -> int:
        other = sum(n for status, n in self.statuses.items() if status not in (*_ANSWERED, 429, 503))
        return sum(self.errors.values()) + other

    def percentile_ms(self, part: float) -> float:
        return _percentile(self.latencies_ms, part)

    def answered_percentile_ms(self, part: float) -> float:
        return _percentile(self.answered_ms, part)

    @property
    def client_late_ms(self) -> float:
        return _percentile(self.late_ms, 0.99)


def _percentile(values: list[float], part: float) -> float:
    if not values:
        return float("inf")
    return round(sorted(values)[min(len(values) - 1, int(part * len(values)))], 1)


def get(path: str, host: str = "127.0.0.1") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode()


def post(path: str, body: Any, host: str = "127.0.0.1") -> bytes:
    value = json.dumps(body).encode()
    headers = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(value)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{headers}\r\n".encode() + value


@dataclass(frozen=True)
class Load:
    """What one kind of clients sends."""

    host: str
    port: int
    requests: Sequence[bytes]
    """Sent in turn, again and again."""
    rate: float
    seconds: float
    source: str | None = None
    """Address that they come from."""


def in_this_process(*loads: Load) -> list[Outcome]:
    """All at once. For a process of its own, so that neither probes nor attackers make honest clients late."""

    async def run() -> list[Outcome]:
        clients = [Client(load.host, load.port, load.requests, load.rate, load.source) for load in loads]
        return await asyncio.gather(*(c.run(load.seconds) for c, load in zip(clients, loads, strict=True)))

    return uvloop.run(run())


def capacity_in_this_process(load: Load, n_connections: int) -> float:
    """Answers per second of a closed loop, where each connection sends its next request at once."""

    async def run() -> float:
        client = Client(load.host, load.port, load.requests, 0.0, load.source)
        return await client.run_closed(load.seconds, n_connections)

    return uvloop.run(run())


class Connection(asyncio.Protocol):
    """One request at a time; tells the client when its answer is whole."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.planned: float | None = None
        self.n_answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, planned: float) -> None:
        assert self._transport is not None
        self.planned = planned
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        at = head.find(b"\r\ncontent-length:")
        length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < head_end + 4 + length:
            return
        status, stays = int(head[9:12]), b"\r\nconnection: close" not in head
        self._buffer = b""
        self.n_answers += 1
        planned, self.planned = self.planned, None
        if not stays:
            self.close()
        self._client.answered(self, status, planned, stays)

    def connection_lost(self, exc: Exception | None) -> None:
        planned, self.planned = self.planned, None
        was_idle = self.n_answers > 0 and not self._buffer
        self._client.lost(self, planned, exc, was_idle)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Client:
    """Of one phase."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], rate: float, source: str | None = None) -> None:
        self._address = host, port
        self._source = None if source is None else (source, 0)
        self._requests = itertools.cycle(requests)
        self._loop = asyncio.get_running_loop()
        self._free: list[Connection] = []
        self._all: set[Connection] = set()
        self._waiting: deque[float] = deque()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.outcome = Outcome(rate)

    async def run(self, seconds: float) -> Outcome:
        """Sends for so long, then waits for what is under way; what does not come then is hung."""
        rate, begun = self.outcome.rate, self._loop.time()
        n_all = int(rate * seconds)
        n_sent = 0
        while n_sent < n_all:
            now = self._loop.time()
            while n_sent < n_all and begun + n_sent / rate <= now:
                planned = begun + n_sent / rate
                self.outcome.late_ms.append((now - planned) * 1000)
                self._arrive(planned)
                n_sent += 1
            await asyncio.sleep(_TICK_SECONDS)
        deadline = self._loop.time() + HUNG_SECONDS
        while self._n_open() and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        self.outcome.hung += self._n_open()
        for connection in self._all:
            connection.planned = None
            connection.close()
        for task in self._tasks:
            task.cancel()
        return self.outcome

    async def run_closed(self, seconds: float, n_connections: int) -> float:
        """As many as come when each connection sends its next request at once: answers per second."""
        begun = self._loop.time()
        for _ in range(n_connections):
            self._arrive(begun)
        while self._loop.time() < begun + seconds:
            await asyncio.sleep(_TICK_SECONDS)
            for _ in range(len(self._free)):
                self._arrive(self._loop.time())
        n_done = self.outcome.ok
        for connection in self._all:
            connection.planned = None
            connection.close()
        return n_done / seconds

    def _n_open(self) -> int:
        return len(self._waiting) + sum(connection.planned is not None for connection in self._all)

    def _arrive(self, planned: float) -> None:
        if self._free:
            self._free.pop().send(next(self._requests), planned)
            return
        self._waiting.append(planned)
        if len(self._all) + self._opening < _MOST_CONNECTIONS and self._opening < len(self._waiting):
            self._opening += 1
            task = self._loop.create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self), *self._address, local_addr=self._source
                )
        except (OSError, TimeoutError) as error:
            if self._waiting:
                self._waiting.popleft()
                self.outcome.errors[f"connect: {type(error).__name__}"] += 1
            return
        finally:
            self._opening -= 1
        self._all.add(connection)
        self._take_next(connection)

    def _take_next(self, connection: Connection) -> None:
        if self._waiting:
            connection.send(next(self._requests), self._waiting.popleft())
        else:
            self._free.append(connection)

    def answered(self, connection: Connection, status: int, planned: float | None, stays: bool) -> None:
        self.outcome.statuses[status] += 1
        if planned is not None:
            took_ms = (self._loop.time() - planned) * 1000
            self.outcome.latencies_ms.append(took_ms)
            if status in _ANSWERED:
                self.outcome.answered_ms.append(took_ms)
        if stays:
            self._take_next(connection)

    def lost(self, connection: Connection, planned: float | None, error: Exception | None, was_idle: bool) -> None:
        """A server may close an idle connection just when a request comes: clients send it again (RFC 9112, 9.3.1)."""
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if planned is not None and was_idle:
            self.outcome.sent_again += 1
            self._arrive(planned)
        elif planned is not None:
            self.outcome.errors[type(error).__name__ if error else "closed"] += 1
