"""What a service does with the requests that come to it: an agent over slices, each request a task of its own.

A request counts as done when the brokers have its reply (or its dead letter): a service that dies before gets it again,
and the idempotency key sees to it that it is carried out once.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry.trace import SpanKind

from emis_streams import tracing
from emis_streams.broker_clock import LOG_APPEND_TIME, BrokerClock
from emis_streams.engine.patience import Waiting
from emis_streams.engine.slices import Slice
from emis_streams.engine.throttled_log import ThrottledLog
from emis_streams.errors import InvalidEvent, Unavailable
from emis_streams.services import messages, request_content
from emis_streams.services.errors import Denied, NoSuchTopic, NotSent, Refused, ServiceOverloaded, ServiceUnavailable
from emis_streams.services.kafka_carrier import Sender
from emis_streams.services.messages import Arrival, Request
from emis_streams.services.time_limit import TimeLimit
from emis_streams.services.waiting_room import WaitingRoom

logger = logging.getLogger(__name__)

T = TypeVar("T")
Handler = Callable[[T, Request], Awaitable[Any]]
"""Gets what is asked for, as its type, and the request; returns the result. Raises Refused, Unavailable."""
DeadLetter = Callable[[Slice, Any, str], Awaitable[None]]
"""Keeps a record of the slice that nobody can answer, with the reason."""

_HANDLER_SECONDS = 45.0
_MOST_EMITTED_AT_ONCE = 256
"""They wait for what they need, as long as it takes, and must not keep those out that somebody waits for."""
_LONGEST_WAIT_SECONDS = 30.0
"""For brokers that do not take a reply: a topic or partition that a request names may not be there at all."""


@dataclass
class Counts:
    """Of requests, since the start."""

    carried_out: int = 0
    refused: int = 0
    failed: int = 0
    expired: int = 0
    """Not begun, as nobody waited any more."""
    overloaded: int = 0
    """Answered at once that there is too much to do."""
    repeated: int = 0
    """Came again while the first one was being carried out: answered with its result."""
    given_up: int = 0
    """Not carried out in time: counted as failed, too."""
    unreadable: int = 0
    """Dead letters."""
    unreplied: int = 0
    """The brokers did not take the reply while anybody waited for it, or there is no such topic or partition."""


@dataclass(frozen=True)
class _Answer:
    """How a pattern is answered."""

    type_: Any
    handler: Handler[Any]


@dataclass
class _Execution:
    """Of a request that is being carried out now."""

    request: Request
    since: float
    """Monotonic."""
    result: "asyncio.Future[Any] | None" = None
    """Made when the same request comes again and waits for it."""

    def ends_with(self, result: Any, error: BaseException | None = None) -> None:
        if self.result is None or self.result.done():
            return
        if error is None:
            self.result.set_result(result)
        elif isinstance(error, asyncio.CancelledError):
            self.result.cancel()
        else:
            self.result.set_exception(error)


class GivenUp(Exception):
    """The handler of a request did not end in time, or by itself: it is not carried out."""


class Requests:
    """`answers` declares a pattern; `serve` is the agent of the request topic."""

    def __init__(
        self,
        sender: Sender,
        dead_letter: DeadLetter,
        room: WaitingRoom | None = None,
        clock: BrokerClock | None = None,
        handler_seconds: float = _HANDLER_SECONDS,
    ) -> None:
        """`room` says how many requests are answered at once, and how long the others wait for it.

        `clock` tells how long a request has been in the log. `handler_seconds`: a handler that takes longer is
        cancelled, and its request given up.
        """
        self.counts = Counts()
        self._clock = clock or BrokerClock()
        self.given_up_in_a_row = 0
        """Requests since one was last carried out."""
        self._time_limit = TimeLimit(handler_seconds)
        self._sender = sender
        self._dead_letter = dead_letter
        self._answers: dict[str, _Answer] = {}
        self._under_way: dict[tuple[str, str], _Execution] = {}
        self.room = room or WaitingRoom()
        self._emitted_at_once = asyncio.Semaphore(_MOST_EMITTED_AT_ONCE)
        self._waiting = Waiting(lambda text: logger.warning("replies: %s", text))
        self._unreplied = ThrottledLog(logger)
        self._expired = ThrottledLog(logger)
        self._waiting_for_service = Waiting(lambda text: logger.warning("carrying out: %s", text))

    def waits_for(self) -> str | None:
        """What requests under way wait for now, deliberately; None: nothing."""
        return self._waiting.reason or self._waiting_for_service.reason

    def standstill(self, now: float, limit_seconds: float) -> str | None:
        """The request that is being carried out for longer than the limit, by a monotonic time; None: there is none."""
        oldest = next(iter(list(self._under_way.values())), None)
        if oldest is None or now - oldest.since <= limit_seconds:
            return None
        request = oldest.request
        return f"{request.pattern} {request.idempotency_key} is being carried out for {now - oldest.since:.0f} s"

    @property
    def patterns(self) -> list[str]:
        return sorted(self._answers)

    def answers(self, pattern: str, type_: type[T]) -> Callable[[Handler[T]], Handler[T]]:
        """Decorator of what answers requests of this pattern, whose value is JSON of that type."""

        def declare(handler: Handler[T]) -> Handler[T]:
            self._answers[pattern] = _Answer(type_, handler)
            return handler

        return declare

    async def serve(self, slices: AsyncIterable[Slice]) -> None:
        """Until cancelled."""
        async for batch in slices:
            batch.done_when(*[asyncio.create_task(self._answer_in_turn(batch, record)) for record in batch.records])

    async def _answer_in_turn(self, batch: Slice, record: Any) -> None:
        arrival = self._arrival(batch, record)
        try:
            request = messages.request_of(record.headers, record.value, arrival)
        except InvalidEvent as reason:
            self.counts.unreadable += 1
            await self._dead_letter(batch, record, str(reason))
            return
        if request.expires_at <= arrival.monotonic:
            self._leave_out(request, arrival)
            return
        with tracing.span(self._span_name(request), SpanKind.SERVER, parent=tracing.parent_in(record.headers)):
            if request.reply_to is not None:
                await self._answer_asked(request)
            else:
                async with self._emitted_at_once:
                    await self._carry_out_emitted(batch, record, request)

    def _span_name(self, request: Request) -> str:
        """The pattern, if it is one of ours: any other is whatever somebody has written."""
        return request.pattern if request.pattern in self._answers else "unknown"

    async def _answer_asked(self, request: Request) -> None:
        """In its turn, or soon that there is too much to do."""
        try:
            begun = self.room.enter_at_once()
            if begun is None:
                begun = await self.room.wait()
        except ServiceOverloaded as reason:
            self.counts.overloaded += 1
            await self._reply(request, *messages.error_reply(request.correlation_id, reason))
            return
        is_result = False
        try:
            headers, value = await self._answer(request)
            is_result = not messages.is_error(headers)
        finally:
            self.room.leave(begun if is_result else None)
        await self._reply(request, headers, value)

    def _leave_out(self, request: Request, arrival: Arrival) -> None:
        self.counts.expired += 1
        late = arrival.monotonic - request.expires_at
        self._expired.warning(
            f"{request.pattern}: not carried out, as nobody waits for it any more: it came {late:.1f} s after its time "
            f"was over, and was in the log for {arrival.waited_seconds:.1f} s",
            arrival.monotonic,
        )

    def _arrival(self, batch: Slice, record: Any) -> Arrival:
        """Where the brokers' time is not known, only what the request has waited in this process is counted."""
        now = time.monotonic()
        waited = self._clock.seconds_since(record.timestamp) if record.timestamp_type == LOG_APPEND_TIME else None
        return Arrival(now, self._clock.unix_seconds(), now - batch.delivered_at if waited is None else waited)

    async def _answer(self, request: Request) -> tuple[list[messages.Header], bytes]:
        """The reply, whatever becomes of the request."""
        try:
            return messages.reply(request.correlation_id, await self._result(request))
        except Refused as refusal:
            self.counts.refused += 1
            return messages.error_reply(request.correlation_id, refusal)
        except Unavailable as reason:
            self.counts.failed += 1
            return messages.error_reply(request.correlation_id, ServiceUnavailable(str(reason)))
        except Exception as error:
            self.counts.failed += 1
            logger.exception("%s %s failed", request.pattern, request.idempotency_key)
            return messages.error_reply(request.correlation_id, error)

    async def _carry_out_emitted(self, batch: Slice, record: Any, request: Request) -> None:
        """Nobody waits, so it waits itself for what it needs; what can never be done becomes a dead letter."""

        async def carry_out() -> None:
            await self._result(request)

        try:
            await self._waiting_for_service.for_(carry_out, Unavailable)
        except Refused as refusal:
            self.counts.refused += 1
            await self._dead_letter(batch, record, f"{request.pattern}: {refusal.kind}: {refusal.detail}")
        except Exception as error:
            self.counts.failed += 1
            logger.exception("%s %s failed", request.pattern, request.idempotency_key)
            await self._dead_letter(batch, record, f"{request.pattern}: {error!r}")

    async def _result(self, request: Request) -> Any:
        """Of the request, or of the same one that is being carried out already."""
        key = (request.pattern, request.idempotency_key)
        execution = self._under_way.get(key)
        if execution is not None:
            return await self._result_of(execution, request)
        execution = self._under_way[key] = _Execution(request, time.monotonic())
        try:
            result = await self._carry_out(request)
        except BaseException as error:
            execution.ends_with(None, error)
            raise
        finally:
            del self._under_way[key]
        execution.ends_with(result)
        return result

    async def _result_of(self, execution: _Execution, request: Request) -> Any:
        if not request_content.are_same(execution.request.value, request.value):
            raise Refused("key-reused", f"idempotency key {request.idempotency_key} came with another content")
        self.counts.repeated += 1
        if execution.result is None:
            execution.result = asyncio.get_running_loop().create_future()
        return await asyncio.shield(execution.result)

    async def _carry_out(self, request: Request) -> Any:
        answer = self._answers.get(request.pattern)
        if answer is None:
            raise Refused("unknown-pattern", f"{request.pattern!r} is none of {', '.join(self.patterns)}")
        asked = messages.data_of(request, answer.type_)
        result = await self._handled(answer.handler(asked, request))
        self.counts.carried_out += 1
        self.given_up_in_a_row = 0
        return result

    async def _handled(self, handling: Awaitable[Any]) -> Any:
        """The handler's result. Raises GivenUp if there is none in time, and what the handler raises."""
        is_late = False
        task = self._time_limit.begin()
        try:
            try:
                return await handling
            finally:
                is_late = self._time_limit.end(task)
        except asyncio.CancelledError:
            if task.cancelling():  # Somebody else wants this task to end.
                raise
            if is_late:
                raise self._given_up() from None
            raise GivenUp("its handler was cancelled from inside") from None
        except Exception as error:
            if is_late:
                raise self._given_up() from error
            raise

    def _given_up(self) -> GivenUp:
        self.counts.given_up += 1
        self.given_up_in_a_row += 1
        return GivenUp(f"not carried out within {self._time_limit.seconds:g} s")

    async def _reply(self, request: Request, headers: list[messages.Header], value: bytes) -> None:
        try:
            await self._send_reply(request, headers, value)
        except (NoSuchTopic, Denied) as reason:  # Anybody can name one; who waits for a reply sees to its topic.
            self._not_replied(request, str(reason))
        except NotSent:
            await self._send_while_waited_for(request, lambda: self._send_reply(request, headers, value))

    async def _send_reply(self, request: Request, headers: list[messages.Header], value: bytes) -> None:
        """Raises NotSent. Instead of a reply that its topic does not take, one is sent that says so."""
        reply_to = request.reply_to
        assert reply_to is not None
        key = request.idempotency_key.encode()
        try:
            await self._sender.send_and_wait(reply_to.topic, key, value, headers, reply_to.partition)
        except Refused as too_large:
            logger.error("%s: reply of %d bytes: %s", request.pattern, len(value), too_large)
            headers, value = messages.error_reply(request.correlation_id, too_large)
            try:
                await self._sender.send_and_wait(reply_to.topic, key, value, headers, reply_to.partition)
            except Refused as reason:
                self._not_replied(request, str(reason))

    def _not_replied(self, request: Request, reason: str) -> None:
        self.counts.unreplied += 1
        self._unreplied.warning(f"{request.pattern}: no reply is sent: {reason}")

    async def _send_while_waited_for(self, request: Request, send: Callable[[], Awaitable[None]]) -> None:
        """Only replies whose first attempt failed come here: waiting costs more than most requests."""
        try:
            async with asyncio.timeout(min(request.expires_at - time.monotonic(), _LONGEST_WAIT_SECONDS)):
                await self._waiting.for_(send, NotSent)
        except TimeoutError:
            self._not_replied(request, "nobody waits for it any more")
