"""One connection of a web server: sees what passes between its client and aiohttp's handler, for the `Door`."""

import asyncio
import socket
from typing import TYPE_CHECKING, Literal, cast

from aiohttp.web_protocol import RequestHandler

if TYPE_CHECKING:
    from emis_streams.engine.door import Door
    from emis_streams.engine.request_handler import Handler

Reason = Literal["overload", "full", "idle", "slow_request", "slow_reader"]
END = b"\r\n\r\n"
"""Of a request without a body."""
_REST_SECONDS = 1.0
"""After an answer, until aiohttp's handler is let go: clients that ask one request after the other keep theirs."""
_SEND_BUFFER_BYTES = 131_072
"""The system's own buffer of a connection: it would take some megabytes of answers that nobody reads."""


class Connection(asyncio.Protocol):
    """Passes everything on to aiohttp's handler, which is made with the first byte and let go after some idle time.

    aiohttp keeps the last request of a connection until the next one: some 40 objects, which are new with each
    request. With 10,000 open pages the garbage collector then stops the process for 0.4 s at a time (issue 18).
    """

    __slots__ = (
        "_begun",
        "_closing_since",
        "_door",
        "_had_body",
        "_is_broken",
        "_is_elsewhere",
        "_is_whole",
        "_loop",
        "_n_answered",
        "_part_since",
        "_stuck_since",
        "_transport",
        "_waits_since",
        "handler",
        "over",
    )

    def __init__(self, door: "Door") -> None:
        self.handler: Handler | None = None
        self.over = False
        """Whether its request came when there were enough."""
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._begun = False
        self._is_elsewhere = False
        """Whether its handler waits for another process, so that its request does not count."""
        self._is_whole = True
        """Whether everything so far ended where a request without a body does."""
        self._is_broken = False
        """Whether something came that is no request. Nothing after it is looked at: the parser would make an error of
        each piece, with twice that piece in its text."""
        self._n_answered = 0
        self._had_body = False
        """Whether the request that was answered last came with a body: some of it may be still on its way."""
        self._waits_since = self._loop.time()
        self._part_since: float | None = None
        self._stuck_since: float | None = None
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no class of asyncio's.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._door.enter(self)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._is_broken:
            return
        if not self._begun and self._part_since is None:
            may_refuse = self._door.is_full or self._door.gate is not None
            if may_refuse and self._is_at_the_begin() and self._refused(data):
                return
            self._part_since = self._loop.time()
        self._is_whole = self._is_whole and data.endswith(END)
        if self.handler is None:
            self.handler = self._door.handler(self)
            self.handler.connection_made(self._transport)
        self.handler.data_received(data)
        if self.handler._messages:
            self._is_broken = _is_error(self.handler._messages[-1][0])
            self.handler.is_browser = self._is_broken and b"text/html" in data
            self.begin()

    def _is_at_the_begin(self) -> bool:
        """Whether what comes now must be the begin of a request: all before was read to its end, and answered.

        Else a refusal could get in between, and whoever shares the connection (behind a proxy) be told
        the answer of another.
        """
        return self._is_whole and (self.handler is None or self._waits_for_a_request(self.handler))

    def _waits_for_a_request(self, handler: RequestHandler) -> bool:
        """Or is about to: below Python 3.12, a turn of the loop lies between an answer and aiohttp's waiting again, and
        under load most clients send their next request just then.
        """
        if handler._waiter is not None and not handler._waiter.done():
            return True
        all_answered = handler._request_count == self._n_answered and not handler._request_in_progress
        return all_answered and not self._had_body

    def _refused(self, data: bytes) -> bool:
        assert self._transport is not None
        peer = self._transport.get_extra_info("peername")
        refusal = self._door.refusal_of(data, str(peer[0]) if peer else "")
        if refusal is None:
            return False
        answer, stays = refusal
        self._transport.write(answer)
        if not stays:
            self._transport.close()
        return True

    def begin(self) -> None:
        """A whole request is here (or something that is none, and gets its 400)."""
        if self._begun or self._stuck_since is not None:
            return
        self.over = self._door.is_full
        self._begun = True
        self._door.begun(self)

    def answered(self, had_body: bool) -> None:
        """The answer is about to be written; if more was sent meanwhile, the next one is begun."""
        self._n_answered += 1
        self._had_body = had_body
        self._part_since = None
        self._done()
        if self.handler is not None and self.handler._messages:
            self.begin()

    def go_elsewhere(self) -> None:
        """Its handler waits for another process."""
        if self._begun and not self._is_elsewhere:
            self._is_elsewhere = True
            self._door.n_requests -= 1

    def come_back(self) -> None:
        """Its handler goes on."""
        if self._is_elsewhere:
            self._is_elsewhere = False
            self._door.n_requests += 1

    def _done(self) -> None:
        if self._begun:
            self.come_back()
            self._begun = False
            self._waits_since = self._loop.time()
            self._door.done(self)

    def pause_writing(self) -> None:
        self._stuck_since = self._loop.time()
        self._done()
        if self.handler is not None:
            self.handler.pause_writing()
        self._door.stuck(self)

    def resume_writing(self) -> None:
        self._stuck_since = None
        self._door.goes_on(self)
        if self.handler is not None:
            self.handler.resume_writing()
            if self.handler._messages:
                self.begin()

    def eof_received(self) -> None:
        if self.handler is not None:
            self.handler.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self.handler is not None:
            self.handler.connection_lost(exc)

    def end(self) -> None:
        """At once, whatever was not taken yet."""
        self._leave()
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        self._door.leave(self)
        self._done()

    def is_resting(self, now: float) -> bool:
        """Whether all that came was answered some time ago, so that its handler holds nothing that is still needed."""
        handler = self.handler
        if handler is None or self._begun or self._part_since is not None or now - self._waits_since < _REST_SECONDS:
            return False
        is_open = self._stuck_since is None and self._transport is not None and not self._transport.is_closing()
        waits = handler._waiter is not None and not handler._waiter.done() and not handler._messages
        return is_open and waits and self._is_whole and not self._is_broken

    def let_handler_go(self) -> None:
        """Ends aiohttp's handler; the connection stays, and its next request gets another one."""
        handler, self.handler = self.handler, None
        assert handler is not None
        self._n_answered, self._had_body = 0, False
        handler.transport = None  # Else it would close it.
        handler.connection_lost(None)

    def overdue(self, now: float) -> Reason | None:
        """Why it has been waited for long enough, if so."""
        limits = self._door.limits
        assert self._transport is not None
        if self._closing_since is None and self._transport.is_closing():
            self._closing_since = now
        for since in (self._stuck_since, self._closing_since):
            if since is not None and now - since > limits.send_seconds:
                return "slow_reader"
        if self._begun or self._stuck_since is not None:
            return None
        if self._part_since is not None:
            return "slow_request" if now - self._part_since > limits.receive_seconds else None
        return "idle" if now - self._waits_since > limits.idle_seconds else None


def _is_error(message: object) -> bool:
    """Whether the parser refused it. Such an error is kept; its frames would keep all that was received until garbage
    is collected, which can be hundreds of megabytes, and are forgotten."""
    error = getattr(message, "exc", None)
    if error is not None:
        error.__traceback__ = None
    return error is not None
