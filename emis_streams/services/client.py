"""Calls of other services: `send` waits for the answer, `emit` for the brokers.

From the outside in: circuit breaker → one deadline for the whole call → retries, as far as the budget goes → time-out
of each attempt. All attempts carry the same idempotency key, so that the service carries out one call once.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Protocol
from zlib import crc32

import stamina
from opentelemetry.trace import SpanKind

from emis_streams import tracing
from emis_streams.services import messages
from emis_streams.services.breakers import Breakers
from emis_streams.services.circuit_breaker import Outcome
from emis_streams.services.errors import (
    CallFailed,
    DeadlineExceeded,
    NoAnswer,
    NotReady,
    Refused,
    ServiceOverloaded,
)
from emis_streams.services.messages import RawHeader, Request
from emis_streams.services.retry_budget import RetryBudget

_LONGEST_WAIT_SECONDS = 8.0
_KEY_BYTES = 16
_STICKY_NS = 5_000_000


@dataclass(frozen=True, kw_only=True)
class CallOptions:
    timeout_seconds: float = 5.0
    """Of each attempt."""
    retries: int = 3
    """Attempts after the first."""
    deadline_seconds: float = 30.0
    """Of the whole call, waits included; the service does not begin with what is over."""
    circuit_breaker: bool = True
    first_wait_seconds: float = 1.0
    """Before the first retry, then twice as long each time, up to 8 s; a random part of as much is added."""


class Carrier(Protocol):
    """Brings a request to a service. Raises NotSent, NotReady, and Refused for what is too large."""

    async def ask(self, service: str, request: Request) -> tuple[Sequence[RawHeader], bytes | None]:
        """Headers and value of the reply, waited for as long as it takes."""

    async def tell(self, service: str, request: Request) -> None:
        """Returns when the brokers have acknowledged it."""


class ServiceClient:
    """Of one process, for all services that it calls."""

    def __init__(
        self,
        carrier: Carrier,
        breakers: Breakers | None = None,
        options: CallOptions | None = None,
        budget: RetryBudget | None = None,
    ) -> None:
        self.breakers = breakers or Breakers()
        self._carrier = carrier
        self._options = options or CallOptions()
        self._budget = budget or RetryBudget()

    async def send(
        self,
        service: str,
        pattern: str,
        data: Any,
        options: CallOptions | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """What the service answers. `data` is whatever JSON can say; calls with the same key are carried out once.

        Raises Refused (its answer is no), CircuitOpen (not asked), CallFailed (no answer), TypeError (not JSON).
        """
        return await self._call(service, pattern, data, options, idempotency_key, is_asking=True)

    async def emit(
        self,
        service: str,
        pattern: str,
        data: Any,
        options: CallOptions | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Returns when the brokers have it: the service will get it, whenever it runs. Raises what `send` does."""
        await self._call(service, pattern, data, options, idempotency_key, is_asking=False)

    async def _call(
        self,
        service: str,
        pattern: str,
        data: Any,
        options: CallOptions | None,
        idempotency_key: str | None,
        *,
        is_asking: bool,
    ) -> Any:
        options = options or self._options
        request = Request(
            pattern,
            idempotency_key or token_hex(_KEY_BYTES),
            messages.value_of(data),
            expires_at=time.monotonic() + options.deadline_seconds if is_asking else math.inf,
            spread=_spread(idempotency_key),
        )
        call = _Call(self._carrier, service, request, options, self._budget, is_asking=is_asking)
        breaker = self.breakers.of(service, pattern)
        with (
            tracing.span(f"{service} {pattern}", SpanKind.CLIENT if is_asking else SpanKind.PRODUCER),
            breaker.calling(outcome_of) if options.circuit_breaker else nullcontext(),
        ):
            return await call.result()


def _spread(given_key: str | None) -> int:
    """The same for the same key, wherever it comes from, so that it meets the instance that carries it out already.

    Calls without one go to the same partition for some milliseconds: many requests in few batches cost sender,
    brokers and service a third of what each in a batch of its own does (docs/benchmarks.md).
    """
    return time.monotonic_ns() // _STICKY_NS if given_key is None else crc32(given_key.encode())


def outcome_of(error: Exception) -> Outcome:
    """What the circuit breaker makes of a call that raised: it counts what the service fails at, and nothing else."""
    if isinstance(error, (Refused, ServiceOverloaded)):
        return Outcome.ANSWERED
    if isinstance(error, NotReady):
        return Outcome.NONE
    return Outcome.TIMED_OUT if isinstance(error, (NoAnswer, DeadlineExceeded)) else Outcome.FAILED


class _Call:
    """One call with all its attempts."""

    def __init__(
        self,
        carrier: Carrier,
        service: str,
        request: Request,
        options: CallOptions,
        budget: RetryBudget,
        *,
        is_asking: bool,
    ) -> None:
        self._carrier = carrier
        self._service = service
        self._request = request
        self._options = options
        self._budget = budget
        self._is_asking = is_asking
        self._retries_left = options.retries
        self._last_error: Exception | None = None

    async def result(self) -> Any:
        self._budget.called()
        try:
            async with asyncio.timeout(self._options.deadline_seconds):
                return await self._with_retries()
        except TimeoutError:
            last = f"; before: {self._last_error}" if self._last_error else ""
            text = f"{self._name}: no answer within the {self._options.deadline_seconds:g} s of the whole call{last}"
            raise DeadlineExceeded(text) from self._last_error

    @property
    def _name(self) -> str:
        return f"{self._service} {self._request.pattern}"

    async def _with_retries(self) -> Any:
        """Only what has failed once is handed to stamina, which costs 60 µs: more than all else of a call."""
        try:
            return await self._attempt()
        except CallFailed as error:
            failed = error
        first = self._options.first_wait_seconds
        async for attempt in stamina.retry_context(
            on=self._may_retry,
            attempts=None,
            timeout=None,
            wait_initial=first,
            wait_max=_LONGEST_WAIT_SECONDS * first + first,
            wait_jitter=first,
        ):
            with attempt:
                if attempt.num == 1:
                    raise failed
                return await self._attempt()
        raise AssertionError("stamina returns or raises")

    def _may_retry(self, error: Exception) -> bool:
        if not isinstance(error, CallFailed):  # Cancelled at the deadline, or a refusal.
            return False
        self._last_error = error
        self._retries_left -= 1
        return self._retries_left >= 0 and error.may_retry and self._budget.take()

    async def _attempt(self) -> Any:
        seconds = self._options.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                if not self._is_asking:
                    return await self._carrier.tell(self._service, self._request)
                headers, value = await self._carrier.ask(self._service, self._request)
        except TimeoutError:
            raise NoAnswer(f"{self._name}: no answer within {seconds:g} s") from None
        return messages.result_of(headers, value)
