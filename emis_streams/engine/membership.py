"""Whether a worker still belongs to its group.

What a worker owns is its own as long as the group hears of it. While the coordinator cannot be reached
nobody knows: one that takes over begins every session anew, so the worker is most likely a member
still. Only the answer to the next heartbeat tells; until then nothing may be sent.
"""

import asyncio
import logging
import time
from typing import Any

from aiokafka.protocol.commit import OffsetCommitRequest

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05


class SessionLost(Exception):
    """The group has no such member any more: the partitions may belong to another worker now."""


def _boottime() -> float:
    """Seconds that go on while the process, or the machine, is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Membership:
    """Of one consumer in its group. Written by the consumer's thread, read by others."""

    def __init__(self) -> None:
        self.last_heartbeat = 0.0
        """Boot time at which the last heartbeat was sent that the group answered."""
        self.coordinator_lost_at = 0.0
        """Monotonic time at which the group's coordinator last turned out to be away, or another one."""
        self._coordinator: Any = None
        self._doubted = False

    def watch(self, coordinator: Any) -> None:
        """Notes every answered heartbeat of this coordinator (aiokafka's GroupCoordinator), and when it is lost."""
        self._coordinator = coordinator
        heartbeat, dead = coordinator._do_heartbeat, coordinator.coordinator_dead

        async def timed_heartbeat() -> bool:
            sent = _boottime()
            answered: bool = await heartbeat()
            if answered:
                self.last_heartbeat = sent
            return answered

        def noted_dead() -> None:
            self.coordinator_lost_at = time.monotonic()
            dead()

        coordinator._do_heartbeat = timed_heartbeat
        coordinator.coordinator_dead = noted_dead

    def note_answer(self) -> None:
        """The group has just answered otherwise."""
        self.last_heartbeat = _boottime()

    def seconds_since_heartbeat(self) -> float:
        return _boottime() - self.last_heartbeat

    @property
    def has_coordinator(self) -> bool:
        """Whether a broker is known to answer for the group; else one is looked for, as long as that takes."""
        return self._coordinator is None or self._coordinator.coordinator_id is not None

    @property
    def is_member(self) -> bool:
        """By the last word of the group, however old that is."""
        generation: int = self._coordinator.generation
        return generation != OffsetCommitRequest.DEFAULT_GENERATION_ID

    async def certain(self, session_timeout_seconds: float) -> None:
        """Until the last answered heartbeat is younger than the session; raises SessionLost."""
        while (silent_seconds := self.seconds_since_heartbeat()) > session_timeout_seconds:
            if not self.is_member:
                raise SessionLost(f"no heartbeat for {silent_seconds:.1f} s, and the group knows this member no more")
            if not self._doubted:
                self._doubted = True
                logger.warning("no heartbeat was answered for %.1f s: nothing is sent until one is", silent_seconds)
            await asyncio.sleep(_LOOK_SECONDS)
        if self._doubted:
            self._doubted = False
            logger.warning("the group answers again: sending goes on")
