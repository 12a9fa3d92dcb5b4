"""Sync latency: from an event's time to when it is visible (in the read model, in the database)."""

import math
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from emis_streams.lag_report import LatencySummary

WINDOW_SECONDS = 60
SAMPLES_PER_CALL = 32
"""Quantiles look at this many of a slice; count, average and maximum look at all."""
_STEP = math.log(1.05)
"""Quantiles are exact to 5 %."""
_LEAST_SECONDS = 1e-4


@dataclass
class _Second:
    """What was observed within one second."""

    at: int
    """Monotonic."""
    count: int = 0
    total_seconds: float = 0.0
    max_seconds: float = 0.0
    histogram: Counter[int] = field(default_factory=Counter)


class SyncLatency:
    """Latencies over the last minute; events older than the start are a backlog, and only counted.

    Times of events are compared with the brokers' clock, everything else is by this process's monotonic one.

    May be fed from one thread and read from another.
    """

    def __init__(self, started_at: float) -> None:
        """`started_at`: when this worker started, monotonic."""
        self._started_at = started_at
        self._seconds: deque[_Second] = deque()
        self._lock = threading.Lock()
        self.count_total = 0
        self.seconds_total = 0.0
        self.backlog_total = 0

    def observe(self, event_times_us: Sequence[int], unix_seconds: float, monotonic: float) -> None:
        """These events (times in µs since 1970) became visible now: `unix_seconds` by the brokers' clock."""
        started_us = round((unix_seconds - (monotonic - self._started_at)) * 1_000_000)
        fresh = [us for us in event_times_us if us >= started_us]
        with self._lock:
            self.backlog_total += len(event_times_us) - len(fresh)
            if fresh:
                self._add(fresh, round(unix_seconds * 1_000_000), monotonic)

    def _add(self, fresh: list[int], now_us: int, now: float) -> None:
        # An event stamped by a clock that is ahead of ours counts as visible at once.
        latencies_us = [now_us - us if us < now_us else 0 for us in fresh]
        total_seconds = sum(latencies_us) / 1_000_000
        second = self._second(now)
        second.count += len(fresh)
        second.total_seconds += total_seconds
        second.max_seconds = max(second.max_seconds, max(latencies_us) / 1_000_000)
        stride = max(1, len(fresh) // SAMPLES_PER_CALL)
        for us in latencies_us[::stride]:
            second.histogram[_bucket(us / 1_000_000)] += stride
        self.count_total += len(fresh)
        self.seconds_total += total_seconds

    def _second(self, now: float) -> _Second:
        at = int(now)
        if not self._seconds or self._seconds[-1].at < at:
            self._seconds.append(_Second(at))
            self._forget(now)
        return self._seconds[-1]

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0].at < now - WINDOW_SECONDS:
            self._seconds.popleft()

    def summary(self, now: float, threshold_seconds: float = math.inf) -> LatencySummary:
        """Average and quantiles over the last minute before `now` (monotonic); None where nothing was observed."""
        with self._lock:
            self._forget(now)
            count = sum(s.count for s in self._seconds)
            total = sum(s.total_seconds for s in self._seconds)
            highest = max((s.max_seconds for s in self._seconds), default=0.0)
            histogram: Counter[int] = Counter()
            for second in self._seconds:
                histogram.update(second.histogram)
        average = total / count if count else None
        return LatencySummary(
            count=count,
            average_seconds=average,
            p50_seconds=_quantile(histogram, 0.50),
            p99_seconds=_quantile(histogram, 0.99),
            max_seconds=highest if count else None,
            window_seconds=float(WINDOW_SECONDS),
            backlog_count=self.backlog_total,
            alerts=("sync_latency_over_threshold",) if average is not None and average > threshold_seconds else (),
        )


def _bucket(seconds: float) -> int:
    return max(0, math.ceil(math.log(max(seconds, _LEAST_SECONDS) / _LEAST_SECONDS) / _STEP))


def _quantile(histogram: Counter[int], share: float) -> float | None:
    """Upper edge of the bucket that the share lies in."""
    wanted = share * histogram.total()
    reached = 0
    for bucket in sorted(histogram):
        reached += histogram[bucket]
        if reached >= wanted:
            return _LEAST_SECONDS * math.exp(bucket * _STEP)
    return None
