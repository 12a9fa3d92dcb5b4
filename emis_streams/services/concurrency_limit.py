"""How many calls may be under way at once: a limit that follows from how long calls take.

Additive increase, multiplicative decrease, as `AIMDLimit` of Netflix concurrency-limits, with CoDel's signal (RFC
8289): the shortest latency of an interval. One slow call says little; if even the fastest call of an interval took
longer than the goal, calls wait for one another, and the limit falls. (Decision 0021: why not the other rules.)
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

_LEAST_FACTOR, _MOST_FACTOR = 0.5, 0.9
"""By which the limit falls in one interval: more, the longer calls take."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    minimum: int = 8
    maximum: int = 64
    initial: int | None = None
    """`maximum` by default."""
    goal_seconds: float = 0.25
    """Latency above which the limit falls."""
    interval_seconds: float = 0.1
    """The limit changes at most once in it, and at most once in the time that a call takes."""

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.first <= self.maximum:
            raise ValueError(f"{self}: 1 <= minimum <= initial <= maximum does not hold")

    @property
    def first(self) -> int:
        return self.maximum if self.initial is None else self.initial


class ConcurrencyLimit:
    """`value` is the limit. The caller counts its calls, refuses those above the limit, and reports how calls end."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self.bounds = bounds
        self.clock = clock
        self.value = bounds.first
        self._interval_begun = clock()
        self._shortest_seconds = math.inf
        """Latency of the calls that were begun and ended in this interval."""
        self._most_in_flight = 0
        self._was_refused = False

    def ended(self, begun: float, in_flight: int) -> None:
        """A call that was begun then (by `clock`) has ended; `in_flight` were under way with it."""
        now = self.clock()
        if begun >= self._interval_begun:  # Calls before it waited behind more than are allowed now.
            self._shortest_seconds = min(self._shortest_seconds, now - begun)
        self._note(now, in_flight)

    def overloaded(self, in_flight: int) -> None:
        """The other side refused a call, as it has too many."""
        self._was_refused = True
        self._note(self.clock(), in_flight)

    def _note(self, now: float, in_flight: int) -> None:
        self._most_in_flight = max(self._most_in_flight, in_flight)
        has_signal = self._was_refused or self._shortest_seconds < math.inf
        if has_signal and now - self._interval_begun >= self.bounds.interval_seconds:
            self.value = self._next_value()
            self._begin_interval(now)

    def _next_value(self) -> int:
        goal, shortest = self.bounds.goal_seconds, self._shortest_seconds
        if shortest < math.inf and shortest > goal:
            return self._lowered(max(_LEAST_FACTOR, min(_MOST_FACTOR, goal / shortest)))
        if self._was_refused:
            return self._lowered(_MOST_FACTOR)
        is_used = self._most_in_flight >= self.value // 2  # One user's share is half of it.
        return min(self.bounds.maximum, self.value + 1) if is_used else self.value

    def _lowered(self, factor: float) -> int:
        return max(self.bounds.minimum, min(self.value - 1, int(self.value * factor)))

    def _begin_interval(self, now: float) -> None:
        self._interval_begun = now
        self._shortest_seconds = math.inf
        self._most_in_flight = 0
        self._was_refused = False
