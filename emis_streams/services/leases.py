"""What the registry's topic says: the last record of each instance, and whether it still holds.

Leases run by one clock, the reader's monotonic one, which says how much later than another a record was read. So no
wall clock can end a lease: neither an instance's, nor a broker's that is set. Only of records that were there before
the reader came are the times taken, against that of the last of them. A gap between two records counts for a few
seconds at most: while brokers are away, or the reader is, nobody's heartbeats are read, and no lease runs out.
"""

import logging

from emis_streams.engine.throttled_log import ThrottledLog
from emis_streams.errors import InvalidEvent
from emis_streams.services.registry import Health, ServiceInfo, info_of

logger = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 300
MOST_INSTANCES = 1_000
"""Of all services together. Who may write the topic can fill it up: grants are what keeps strangers out."""
LONGEST_GAP_SECONDS = 5.0
"""Whoever reads beats as well, so a longer gap between two records is one of the reader or of the brokers."""


class Leases:
    """Times are in seconds, on a line that begins as the brokers' time and goes on by the reader's own clock."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._now = 0.0
        self._read_at: float | None = None
        """Monotonic, of the last record; None: the end that was seen at the start is not reached yet."""
        self._of: dict[str, tuple[ServiceInfo, float]] = {}
        """Each instance, and when its last record came."""
        self._health: dict[str, tuple[Health, bool, float]] = {}
        """What each tells of its health, whether it is shutting down, and since when."""
        self.left_out = 0
        """Records that tell of no instance, or of one too many."""
        self._log = ThrottledLog(logger)

    @property
    def read_at(self) -> float | None:
        """Monotonic, of the last record, or of the end that was there at the start; None before that."""
        return self._read_at

    def start_timing(self, monotonic: float) -> None:
        """All records that were there before are read: from now on, what comes is timed when it comes."""
        self._read_at = monotonic
        self._of = {instance: (info, min(at, self._now)) for instance, (info, at) in self._of.items()}

    def apply(self, key: bytes | None, value: bytes | None, timestamp_ms: int, monotonic: float) -> None:
        """A record of any bytes, read at `monotonic`: what an instance tells of itself, or (no value) that it goes."""
        self._now = self._time_of(timestamp_ms, monotonic)
        instance = (key or b"").decode(errors="backslashreplace")
        if value is None:
            self._of.pop(instance, None)
            self._health.pop(instance, None)
            return
        try:
            info = info_of(key, value)
            self._make_room(instance)
        except InvalidEvent as reason:
            self.left_out += 1
            self._log.warning(f"registry: left out what {instance[:_SHOWN_CHARACTERS]!r} tells of itself: {reason}")
            return
        self._of[instance] = (info, self._now)
        known = self._health.get(instance)
        if known is None or known[:2] != (info.health, info.is_draining):
            self._health[instance] = (info.health, info.is_draining, self._now)

    def _time_of(self, timestamp_ms: int, monotonic: float) -> float:
        if self._read_at is None:
            return timestamp_ms / 1000
        gap, self._read_at = monotonic - self._read_at, monotonic
        return self._now + min(max(0.0, gap), LONGEST_GAP_SECONDS)

    def _make_room(self, instance: str) -> None:
        """For one more, by forgetting those whose lease has run out. Raises InvalidEvent if there are too many."""
        if instance in self._of or len(self._of) < MOST_INSTANCES:
            return
        self._of = {name: (info, at) for name, (info, at) in self._of.items() if self._holds(at)}
        self._health = {name: found for name, found in self._health.items() if name in self._of}
        if len(self._of) >= MOST_INSTANCES:
            raise InvalidEvent(f"there are {MOST_INSTANCES} instances already")

    def _holds(self, told_at: float) -> bool:
        return self._now - told_at <= self._lease_seconds

    def lapsed(self) -> list[tuple[ServiceInfo, float]]:
        """All whose lease has run out and that did not say goodbye, with the seconds since they were last heard of."""
        return [(info, self._now - at) for _, (info, at) in sorted(self._of.items()) if not self._holds(at)]

    def unwell_seconds(self) -> dict[str, float]:
        """For how long each instance has told that it is degraded, unhealthy or shutting down, as far as was read."""
        return {
            instance: self._now - since
            for instance, (health, is_draining, since) in self._health.items()
            if is_draining or health is not Health.HEALTHY
        }

    def holding(self) -> list[ServiceInfo]:
        """All whose lease has not run out, sorted by instance."""
        return [info for _, (info, at) in sorted(self._of.items()) if self._holds(at)]
