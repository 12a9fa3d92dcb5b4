"""The door of a web server: how many come in, how many are answered at once, how long anybody is waited for.

aiohttp has no bound on connections, on requests under way, or on the time that a client takes to send a
request or to take its answer. A `Connection` stands before each of its handlers and sees what passes; the
`Door` keeps the bounds over all of them.

What waits in a loop that is behind are requests that were read and not answered yet: all that came in
one turn of the loop. Their number times the time of one answer is how long the next one waits. So from
`max_requests` on, a request is refused before it is parsed, for a small part of what an answer costs.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web, web_protocol

from emis_streams.engine.connection import END, Connection, Reason
from emis_streams.engine.request_handler import ErrorAnswer, Handler

WebHandler = TypeVar("WebHandler", bound=Callable[..., Awaitable[web.StreamResponse]])
REASONS: tuple[Reason, ...] = ("overload", "full", "idle", "slow_request", "slow_reader")

_LOOK_EVERY_SECONDS = 0.25
_LINGERING_SECONDS = 1.0
"""For the rest of a body that nobody reads, so that its client gets the answer and not a reset."""
_MOST_STUCK = 100
"""Connections whose client takes nothing more: each holds an answer, and what is in its buffers."""
_MORE_THAN_A_LINE = re.compile(rb"(?i)\r\n(?:content-length|transfer-encoding|connection|upgrade|expect)\s*:")
"""Headers that make a request other than one with no body on a connection that stays."""

# Requests sent together that are parsed ahead, some kilobytes each: aiohttp's 32 are much for a thousand connections.
web_protocol.MAX_MSG_QUEUE_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class Limits:
    max_connections: int = 1_000
    max_requests: int = 128
    idle_seconds: float = 75.0
    """For a connection without a request."""
    receive_seconds: float = 10.0
    """For a request from its first byte to its last."""
    send_seconds: float = 20.0
    """For a client that takes nothing more of its answer."""
    max_body_bytes: int = 65_536
    spared: tuple[str, ...] = ()
    """Paths that are answered also when there are too many requests: how else could anybody ask why?"""
    refusal: bytes = b""
    """Headers and body of the 503, from the second line on."""
    refusal_page: bytes = b""
    """The same for browsers; empty: they get `refusal`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of every answer: also of what is no request, which no middleware sees."""
    error_answer: ErrorAnswer | None = None
    """For what cannot be parsed; None: it gets aiohttp's plain text."""


Gate = Callable[[bytes, str], bytes | None]
"""Looks at a plain GET request and the address that it comes from before it is parsed. Returns the whole answer, if it
is refused: a tenth of what a refusal by a handler costs, so that many of them keep nobody else waiting."""


class Door:
    """Of one server. `counts` says how many requests and connections were turned away, and why."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.counts: Counter[Reason] = Counter()
        self.n_requests = 0
        """Read and not answered yet, without those whose handler waits for another process (`elsewhere`)."""
        self._connections: dict[Connection, None] = {}
        self._waiting: dict[Connection, None] = {}
        """Those that wait for their client, the longest first."""
        self._stuck: dict[Connection, None] = {}
        self._of_handler: dict[object, Connection] = {}
        self._server: web.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self._spared = tuple(f"{method} {path}".encode() for path in limits.spared for method in ("GET", "HEAD"))
        self.gate: Gate | None = None
        """Refuses some requests for reasons of its own, where there is room for more."""

    @property
    def n_connections(self) -> int:
        return len(self._connections)

    @property
    def is_full(self) -> bool:
        return self.n_requests >= self.limits.max_requests

    def open(self, server: web.Server) -> None:
        self._server = server
        self._watch = asyncio.create_task(self._look_now_and_then())

    def close(self) -> None:
        """No longer watches, and ends what waits without having asked for anything."""
        if self._watch is not None:
            self._watch.cancel()
        for connection in [c for c in self._connections if c.handler is None]:
            connection.end()

    def __call__(self) -> Connection:
        """A protocol for a new connection."""
        return Connection(self)

    def handler(self, connection: Connection) -> Handler:
        """aiohttp's, for a connection from which the first byte came."""
        assert self._server is not None
        arguments = {"loop": self._server._loop, **self._server._kwargs}
        handler = Handler(self.limits.headers, self.limits.error_answer, self._server, **arguments)
        self._of_handler[handler] = connection
        return handler

    def enter(self, connection: Connection) -> None:
        """A full house shows out who has been waited for longest."""
        if len(self._connections) >= self.limits.max_connections:
            victim = next(iter(self._waiting), connection)
            victim.end()
            self.counts["full"] += 1
            if victim is connection:
                return
        self._connections[connection] = self._waiting[connection] = None

    def leave(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        self._waiting.pop(connection, None)
        self._stuck.pop(connection, None)
        if connection.handler is not None:
            self._of_handler.pop(connection.handler, None)

    def begun(self, connection: Connection) -> None:
        self.n_requests += 1
        self._waiting.pop(connection, None)

    def done(self, connection: Connection) -> None:
        self.n_requests -= 1
        if connection in self._connections:
            self._waiting[connection] = None

    def stuck(self, connection: Connection) -> None:
        """Of many that take nothing more, the first has had the most time."""
        self._stuck[connection] = None
        if len(self._stuck) > _MOST_STUCK:
            self.counts["slow_reader"] += 1
            next(iter(self._stuck)).end()

    def goes_on(self, connection: Connection) -> None:
        self._stuck.pop(connection, None)

    def begin(self, request: web.Request) -> bool:
        """A handler is about to work on it (`answered` follows in any case); says whether it should be refused."""
        connection = self._of_handler.get(request.protocol)
        if connection is None:  # It has gone already.
            return False
        connection.begin()
        return connection.over and not request.path.startswith(self.limits.spared)

    def answered(self, request: web.Request) -> None:
        """Its handler has ended."""
        connection = self._of_handler.get(request.protocol)
        if connection is not None:
            connection.answered(request.body_exists)

    @contextmanager
    def elsewhere(self, request: web.Request) -> Iterator[None]:
        """While its handler waits for another process: it keeps nobody from this loop, and does not count.

        Whoever uses it bounds these requests: here nothing does.
        """
        connection = self._of_handler.get(request.protocol)
        if connection is None:  # It has gone already.
            yield
            return
        connection.go_elsewhere()
        try:
            yield
        finally:
            connection.come_back()

    def refusal_of(self, data: bytes, remote: str) -> tuple[bytes, bool] | None:
        """What to answer to the first bytes of a request, and whether the connection stays; None: let it in."""
        if self.is_full and not data.startswith(self._spared):
            self.counts["overload"] += 1
            is_plain = _is_plain(data)
            return self._overload(data, stays=is_plain), is_plain
        if self.gate is None or not _is_plain(data):
            return None
        refusal = self.gate(data, remote)
        return None if refusal is None else (refusal, True)

    def _overload(self, data: bytes, *, stays: bool) -> bytes:
        is_browser = self.limits.refusal_page and b"text/html" in data
        refusal = self.limits.refusal_page if is_browser else self.limits.refusal
        return b"HTTP/1.1 503 Service Unavailable\r\n" + (b"" if stays else b"Connection: close\r\n") + refusal

    async def _look_now_and_then(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            now = loop.time()
            for connection in list(self._connections):
                reason = connection.overdue(now)
                if reason is not None:
                    self.counts[reason] += 1
                    connection.end()
                elif connection.is_resting(now):
                    self._of_handler.pop(connection.handler, None)
                    connection.let_handler_go()


def _is_plain(data: bytes) -> bool:
    """Whether it is one whole request without a body, on a connection that stays."""
    return (
        data.startswith(b"GET ")
        and data.find(END) == len(data) - len(END)
        and b" HTTP/1.1\r\n" in data
        and _MORE_THAN_A_LINE.search(data) is None
    )


DOOR: web.AppKey[Door] = web.AppKey("door", Door)
"""Where a web application has its door, if it has one."""


class Runner(web.AppRunner):
    """Runs an application behind its door."""

    def __init__(self, app: web.Application) -> None:
        self._door = app[DOOR]
        limits = self._door.limits
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=2 * limits.idle_seconds,
            lingering_time=_LINGERING_SECONDS,
            auto_decompress=False,
        )

    @property
    def server(self) -> Callable[[], asyncio.Protocol] | None:  # type: ignore[override]
        """What a site makes its connections with."""
        return None if self._server is None else self._door

    async def setup(self) -> None:
        await super().setup()
        assert self._server is not None
        self._door.open(self._server)

    async def cleanup(self) -> None:
        self._door.close()
        await super().cleanup()


def reads_body(handler: WebHandler) -> WebHandler:
    """Decorator of a web handler that reads bodies itself, no further than it needs: their length may be unknown."""
    handler.reads_body = True  # type: ignore[attr-defined]
    return handler


def too_large(request: web.Request, limits: Limits) -> bool:
    """Whether more comes with it than anybody will read."""
    if not request.body_exists:
        return False
    length = request.content_length
    if length is not None:
        return length > limits.max_body_bytes
    return request.can_read_body and not getattr(request.match_info.handler, "reads_body", False)
