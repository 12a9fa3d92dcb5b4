"""What the registry's topic says: the last record of each instance, and whether it still holds.

Time is that of the brokers, as the records themselves tell it: it goes on with the newest record that was read. So no
clock of two machines is compared, and while brokers are away, and nobody's heartbeats are read, no lease runs out.
"""

import logging

import msgspec

from emis_streams.services.registry import ServiceInfo

logger = logging.getLogger(__name__)

_decode = msgspec.json.Decoder(ServiceInfo).decode


class Leases:
    def __init__(self, lease_seconds: float) -> None:
        self._lease_ms = 1000 * lease_seconds
        self._now_ms = 0
        self._of: dict[str, tuple[ServiceInfo, int]] = {}
        """Each instance, and when it last told."""

    def apply(self, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        """A record: what an instance tells of itself, or (no value) that it goes."""
        self._now_ms = max(self._now_ms, timestamp_ms)
        instance = (key or b"").decode(errors="backslashreplace")
        if value is None:
            self._of.pop(instance, None)
            return
        try:
            info = _decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            logger.warning("registry: what %s tells of itself cannot be read: %s", instance, error)
            return
        self._of[instance] = (info, timestamp_ms)

    def holding(self) -> list[ServiceInfo]:
        """All whose lease has not run out, sorted by instance."""
        return [info for _, (info, told_ms) in sorted(self._of.items()) if self._now_ms - told_ms <= self._lease_ms]
