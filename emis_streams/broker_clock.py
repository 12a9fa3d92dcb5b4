"""The brokers' clock, as this process knows it: the one clock that times of two machines are compared by.

A broker says what time it is when it acknowledges a record of a topic with LogAppendTime: that lies between the moment
of sending and that of the acknowledgement, both by this process's monotonic clock. So a machine's own wall clock may be
wrong by any amount, to either side, and may jump. The brokers' clocks themselves are taken to agree with each other.
"""

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

LOG_APPEND_TIME = 1
"""`timestamp_type` of a record, or of an acknowledgement, whose time is the broker's."""
KEPT_SAMPLES = 8
_DRIFT_SECONDS = 0.05
"""Two right clocks may go apart by as much between samples. More than that: one of the two was set."""
_STEADY_SECONDS = 1.0


class BrokerClock:
    """Of one process. Until the first sample all times are those of the machine's own clock."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._samples: deque[tuple[float, float]] = deque(maxlen=KEPT_SAMPLES)
        """Each: the least and the most that the brokers' time is ahead of the monotonic clock, in seconds."""
        self._best: tuple[float, float] | None = None
        self._last_seconds = float("-inf")
        self.unstamped_topic: str | None = None
        """A topic whose acknowledgements say no time, as its records have the times of their producers."""
        self.sampled_at = float("-inf")
        """Monotonic, of the last sample."""

    def note(self, broker_ms: int, not_before: float, not_after: float) -> None:
        """The brokers' clock showed `broker_ms` (Unix time) between these two moments of the monotonic clock."""
        sample = (broker_ms / 1000 - not_after, (broker_ms + 1) / 1000 - not_before)
        agreeing = [s for s in self._samples if _overlap(s, sample)]
        if len(agreeing) < len(self._samples):  # The brokers' clock was set, or this process did not run for a while.
            self._samples = deque(agreeing, KEPT_SAMPLES)
        self._samples.append(sample)
        self.unstamped_topic = None
        self._best = min(self._samples, key=lambda s: s[1] - s[0])
        self.sampled_at = not_after

    @property
    def is_known(self) -> bool:
        return self._best is not None

    def unix_seconds(self) -> float:
        """The brokers' time now; the machine's own if it is not known."""
        return self._wall() if self._best is None else self._monotonic() + sum(self._best) / 2

    def now(self) -> datetime:
        """As `unix_seconds`, for what is kept or sent: never earlier than a moment ago, unless a clock was set back."""
        seconds = self.unix_seconds()
        if not 0 < self._last_seconds - seconds < _STEADY_SECONDS:
            self._last_seconds = seconds
        return datetime.fromtimestamp(self._last_seconds, UTC)

    def seconds_since(self, broker_ms: int) -> float | None:
        """At least so long ago the brokers' clock showed `broker_ms`; None if it is not known, never negative."""
        if self._best is None:
            return None
        return max(0.0, self._monotonic() + self._best[0] - broker_ms / 1000)

    def skew_seconds(self) -> float | None:
        """How far the machine's own clock is ahead of the brokers' now (negative: behind); None if not known."""
        return None if self._best is None else self._wall() - self.unix_seconds()


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] + _DRIFT_SECONDS and other[0] <= one[1] + _DRIFT_SECONDS
