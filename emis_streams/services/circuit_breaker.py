"""A circuit breaker for asyncio: who failed several times in a row is left alone for a while, then probed.

Counts calls, not attempts: the retries of one call are inside of it. A cancelled call has no outcome, and one that
was begun before the last change of state no longer changes anything (decision 0015: why not a library). A call that
timed out while others were answered was slow, which is overload: only who answers nobody has failed (decision 0017).
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from emis_streams.quantities import counted

_KEPT_CHANGES = 20


class State(StrEnum):
    CLOSED = "CLOSED"
    """Calls pass."""
    OPEN = "OPEN"
    """No call passes."""
    HALF_OPEN = "HALF_OPEN"
    """A few calls pass, to find out."""


class Outcome(StrEnum):
    """Of a call that raised."""

    ANSWERED = "answered"
    """The other side refused it: an answer, hence a success."""
    FAILED = "failed"
    TIMED_OUT = "timed out"
    """A failure, unless another call was answered since this one was begun."""
    NONE = "none"
    """Nothing was asked, so that nothing was found out."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    threshold: int = 5
    """Failed calls in a row that open the breaker."""
    open_seconds: float = 60.0
    """How long no call passes; a probe without an outcome is given up after as long."""
    probes: int = 1
    """Calls under way at once while it is HALF_OPEN."""


RESET = "reset"
"""Reason of a change."""


@dataclass(frozen=True)
class Change:
    """Of the state, for people."""

    at: datetime
    before: State
    after: State
    reason: str


@dataclass
class Counts:
    """Since the start; a reset leaves them."""

    succeeded: int = 0
    failed: int = 0
    slow: int = 0
    """Timed out while others were answered."""
    cancelled: int = 0
    rejected: int = 0


class CircuitOpen(Exception):
    """The call was not made."""

    def __init__(self, name: str, retry_after_seconds: float) -> None:
        super().__init__(f"{name} failed several times in a row: no calls for {retry_after_seconds:.1f} s more")
        self.name = name
        self.retry_after_seconds = retry_after_seconds
        """0 while it is HALF_OPEN and all probes are under way: nobody knows how long they take."""


class _Call:
    """Under way. Made in a state, whose outcome it may change as long as it lasts."""

    __slots__ = ("begun", "generation")

    def __init__(self, generation: int, begun: float) -> None:
        self.generation = generation
        self.begun = begun


class CircuitBreaker:
    """Around the calls of one kind: `with breaker.calling(): await …`."""

    def __init__(self, name: str, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.limits = limits or Limits()
        self.counts = Counts()
        self.history: deque[Change] = deque(maxlen=_KEPT_CHANGES)
        """The last changes of state, the newest at the end."""
        self.failures_in_row = 0
        self.n_under_way = 0
        """Calls that have not ended yet."""
        self._clock = clock
        self._state = State.CLOSED
        self._generation = 0
        """Number of changes of state."""
        self._opened = 0.0
        self._probes: set[_Call] = set()
        self._answered = -math.inf
        """When the last answer came."""

    @property
    def state(self) -> State:
        """As the next call will find it."""
        if self._state is State.OPEN and self._clock() - self._opened >= self.limits.open_seconds:
            self._change(State.HALF_OPEN, f"{self.limits.open_seconds:g} s are over")
        return self._state

    @property
    def retry_after_seconds(self) -> float:
        """Until a call passes again; 0 if it is not OPEN."""
        if self.state is not State.OPEN:
            return 0.0
        return self._opened + self.limits.open_seconds - self._clock()

    def reset(self) -> None:
        """Calls pass again, whatever was before."""
        self._change(State.CLOSED, RESET)

    @contextmanager
    def calling(self, outcome_of: Callable[[Exception], Outcome] = lambda _error: Outcome.FAILED) -> Iterator[None]:
        """Around one call. Raises CircuitOpen if it must not be made; what it raises passes through.

        `outcome_of` says what an exception tells of the other side.
        """
        call = self._begin()
        self.n_under_way += 1
        try:
            yield
        except Exception as error:
            self._raised(call, error, outcome_of(error))
            raise
        except BaseException:  # Cancelled: nobody knows how it would have ended.
            self._cancelled(call)
            raise
        else:
            self._succeeded(call)
        finally:
            self.n_under_way -= 1

    def _begin(self) -> _Call:
        state, now = self.state, self._clock()
        if state is State.OPEN:
            self.counts.rejected += 1
            raise CircuitOpen(self.name, self.retry_after_seconds)
        call = _Call(self._generation, now)
        if state is State.HALF_OPEN:
            self._give_up_hung_probes(now)
            if len(self._probes) >= self.limits.probes:
                self.counts.rejected += 1
                raise CircuitOpen(self.name, 0.0)
            self._probes.add(call)
        return call

    def _give_up_hung_probes(self, now: float) -> None:
        self._probes = {probe for probe in self._probes if now - probe.begun < self.limits.open_seconds}

    def _is_current(self, call: _Call) -> bool:
        return call.generation == self._generation and (self._state is State.CLOSED or call in self._probes)

    def _raised(self, call: _Call, error: Exception, outcome: Outcome) -> None:
        if outcome is Outcome.ANSWERED:
            self._succeeded(call)
        elif outcome is Outcome.NONE:
            self._cancelled(call)
        elif outcome is Outcome.TIMED_OUT and self._answered > call.begun:
            self.counts.slow += 1
            self._probes.discard(call)
        else:
            self._failed(call, error)

    def _succeeded(self, call: _Call) -> None:
        self.counts.succeeded += 1
        self._answered = self._clock()
        if not self._is_current(call):
            return
        if self._state is State.HALF_OPEN:
            self._change(State.CLOSED, "a probe succeeded")
        self.failures_in_row = 0

    def _failed(self, call: _Call, error: Exception) -> None:
        self.counts.failed += 1
        if not self._is_current(call):
            return
        self.failures_in_row += 1
        said = str(error) or type(error).__name__
        if self._state is State.HALF_OPEN:
            self._change(State.OPEN, f"a probe failed: {said}")
        elif self.failures_in_row >= self.limits.threshold:
            self._change(State.OPEN, f"{counted(self.failures_in_row, 'call')} in a row failed, the last: {said}")

    def _cancelled(self, call: _Call) -> None:
        self.counts.cancelled += 1
        self._probes.discard(call)

    def _change(self, after: State, reason: str) -> None:
        self.history.append(Change(datetime.now(UTC), self._state, after, reason))
        self._state = after
        self._generation += 1
        self._probes.clear()
        if after is State.OPEN:
            self._opened = self._clock()
        if after is State.CLOSED:
            self.failures_in_row = 0
