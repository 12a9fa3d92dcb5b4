"""A TCP proxy that can be told to be slow, deaf, one-way, or to cut a connection at a bad moment.

Proxies live on one event loop in a thread of their own; their knobs are plain attributes, read for each
piece that passes.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

HOST = "127.0.0.1"
_PIECE_BYTES = 64 * 1024
_MOST_ON_THE_WAY = 1024
"""Pieces of one direction of a connection; then its sender waits."""


@dataclass
class Knobs:
    """How the proxy behaves now."""

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    swallow_up: bool = False
    """What clients send vanishes."""
    swallow_down: bool = False
    """What the server answers vanishes."""
    refuse: bool = False
    """New connections are closed at once."""
    slice_bytes: int | None = None
    """Pieces are no larger."""
    cut_answer_to: bytes | None = None
    """A piece that contains this passes, its answer does not: both sides are cut instead."""


@dataclass(eq=False)
class Proxy:
    """Listens on `port`, hands on to `target_port`, both on loopback."""

    port: int
    target_port: int
    knobs: Knobs = field(default_factory=Knobs)
    n_cut: int = 0
    """Answers that were cut."""
    bytes_swallowed: int = 0
    _pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=set)

    def heal(self) -> None:
        """Behaves well again; connections that lost bytes are cut, since their streams are broken."""
        was_deaf = self.knobs.swallow_up or self.knobs.swallow_down
        self.knobs = Knobs()
        if was_deaf:
            self.cut_all()

    def cut_all(self) -> None:
        """Both sides of all connections are reset."""
        for pair in list(self._pairs):
            _abort(pair)

    async def serve(self) -> None:
        server = await asyncio.start_server(self._connected, HOST, self.port)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.knobs.refuse:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self.target_port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, up_writer)
        self._pairs.add(pair)
        cutting = asyncio.Event()
        try:
            await asyncio.gather(
                self._pump(reader, up_writer, cutting, is_up=True), self._pump(up_reader, writer, cutting, is_up=False)
            )
        finally:
            self._pairs.discard(pair)
            _abort(pair)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cutting: asyncio.Event, *, is_up: bool
    ) -> None:
        """Latency holds each piece back, not those behind it: the line stays as wide as it is."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_ON_THE_WAY)
        arriving = asyncio.create_task(self._arrive(on_the_way, writer, cutting, is_up))
        try:
            while piece := await reader.read(self.knobs.slice_bytes or _PIECE_BYTES):
                if cutting.is_set() and not is_up:
                    self.n_cut += 1
                    writer.transport.abort()
                    return
                knobs = self.knobs
                delay = max(0.0, knobs.latency_seconds + random.uniform(-1, 1) * knobs.jitter_seconds)
                await on_the_way.put((time.monotonic() + delay, piece))
            await on_the_way.put((time.monotonic(), b""))
            await arriving
        except OSError:
            return
        finally:
            arriving.cancel()
            writer.close()

    async def _arrive(
        self,
        on_the_way: "asyncio.Queue[tuple[float, bytes]]",
        writer: asyncio.StreamWriter,
        cutting: asyncio.Event,
        is_up: bool,
    ) -> None:
        """In the order in which they were sent; an empty piece is the end."""
        try:
            while True:
                due, piece = await on_the_way.get()
                if not piece:
                    return
                if (left := due - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                await self._pass(piece, writer, cutting, is_up)
        except OSError:
            writer.transport.abort()

    async def _pass(self, piece: bytes, writer: asyncio.StreamWriter, cutting: asyncio.Event, is_up: bool) -> None:
        knobs = self.knobs
        if knobs.swallow_up if is_up else knobs.swallow_down:
            self.bytes_swallowed += len(piece)
            return
        if is_up and knobs.cut_answer_to is not None and knobs.cut_answer_to in piece:
            cutting.set()
        writer.write(piece)
        await writer.drain()


def _abort(pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
    for writer in pair:
        writer.transport.abort()


class Proxies:
    """The thread that proxies live in."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def add(self, port: int, target_port: int) -> Proxy:
        proxy = Proxy(port, target_port)
        asyncio.run_coroutine_threadsafe(proxy.serve(), self._loop)
        return proxy

    def do(self, act: Callable[[], None]) -> None:
        """Acts on the proxies' loop, and waits until it is done."""

        async def acted() -> None:
            act()

        asyncio.run_coroutine_threadsafe(acted(), self._loop).result()

    def close(self) -> None:
        """Ends all proxies with their connections."""

        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
