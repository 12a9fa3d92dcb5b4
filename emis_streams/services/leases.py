"""What the registry's topic says: the last record of each instance, and whether it still holds.

Time is that of the brokers, as the records themselves tell it: it goes on with the newest record that was read. So no
clock of two machines is compared, and while brokers are away, and nobody's heartbeats are read, no lease runs out.
"""

import logging

from emis_streams.engine.throttled_log import ThrottledLog
from emis_streams.errors import InvalidEvent
from emis_streams.services.registry import ServiceInfo, info_of

logger = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 300
MOST_INSTANCES = 1_000
"""Of all services together. Who may write the topic can fill it up: grants are what keeps strangers out."""


class Leases:
    def __init__(self, lease_seconds: float) -> None:
        self._lease_ms = 1000 * lease_seconds
        self._now_ms = 0
        self._of: dict[str, tuple[ServiceInfo, int]] = {}
        """Each instance, and when it last told."""
        self.left_out = 0
        """Records that tell of no instance, or of one too many."""
        self._log = ThrottledLog(logger)

    def apply(self, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        """A record, of whatever bytes: what an instance tells of itself, or (no value) that it goes."""
        self._now_ms = max(self._now_ms, timestamp_ms)
        instance = (key or b"").decode(errors="backslashreplace")
        if value is None:
            self._of.pop(instance, None)
            return
        try:
            info = info_of(key, value)
            self._make_room(instance)
        except InvalidEvent as reason:
            self.left_out += 1
            self._log.warning(f"registry: left out what {instance[:_SHOWN_CHARACTERS]!r} tells of itself: {reason}")
            return
        self._of[instance] = (info, timestamp_ms)

    def _make_room(self, instance: str) -> None:
        """For one more, by forgetting those whose lease has run out. Raises InvalidEvent if there are too many."""
        if instance in self._of or len(self._of) < MOST_INSTANCES:
            return
        self._of = {name: (info, at) for name, (info, at) in self._of.items() if self._holds(at)}
        if len(self._of) >= MOST_INSTANCES:
            raise InvalidEvent(f"there are {MOST_INSTANCES} instances already")

    def _holds(self, told_ms: int) -> bool:
        return self._now_ms - told_ms <= self._lease_ms

    def holding(self) -> list[ServiceInfo]:
        """All whose lease has not run out, sorted by instance."""
        return [info for _, (info, told_ms) in sorted(self._of.items()) if self._holds(told_ms)]
