"""The registry that all processes share: a compacted topic of one partition, which each reads from its start."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import TopicPartition

from emis_streams.broker_clock import LOG_APPEND_TIME, BrokerClock
from emis_streams.engine.patience import Waiting
from emis_streams.engine.progress import Progress
from emis_streams.services import one_partition
from emis_streams.services.errors import NotSent
from emis_streams.services.kafka_carrier import Sender
from emis_streams.services.leases import Leases
from emis_streams.services.registry import ServiceInfo, record_of
from emis_streams.topics import REGISTRY

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 3.0
LEASE_SECONDS = 10.0
"""Three heartbeats may get lost."""


class TopicRegistry:
    """See `registry.ServiceRegistry`. `run` reads until cancelled, `beat` keeps an instance's lease."""

    def __init__(
        self,
        client: Mapping[str, Any],
        sender: Sender,
        topic: str = REGISTRY,
        lease_seconds: float = LEASE_SECONDS,
        clock: BrokerClock | None = None,
    ) -> None:
        """`client`: arguments of every Kafka client. `clock` learns the brokers' time from each acknowledgement."""
        self.level = asyncio.Event()
        """Set once the end that was seen at the start is reached."""
        self._client = client
        self._sender = sender
        self._tp = TopicPartition(topic, 0)
        self._leases = Leases(lease_seconds)
        self._lease_seconds = lease_seconds
        self._beats_since: float | None = None
        """Monotonic; None while this process does not tell of itself."""
        self._clock = clock or BrokerClock()
        self.progress = Progress("reading the registry")
        self._waiting = Waiting(lambda text: logger.warning("registry: %s", text))

    async def register(self, info: ServiceInfo) -> None:
        """Raises NotSent, ValueError (what it tells of itself is too much)."""
        await self._send(*record_of(info))

    async def deregister(self, info: ServiceInfo) -> None:
        """Raises NotSent."""
        await self._send(info.instance.encode(), None)

    async def _send(self, key: bytes, value: bytes | None) -> None:
        sent_at = time.monotonic()
        acknowledged = await self._sender.send_and_wait(self._tp.topic, key, value, [], 0)
        if acknowledged.timestamp_type == LOG_APPEND_TIME:
            self._clock.note(acknowledged.timestamp, sent_at, time.monotonic())
        else:
            self._clock.unstamped_topic = self._tp.topic

    def get_all(self) -> list[ServiceInfo]:
        return self._leases.holding()

    def lapsed(self) -> list[tuple[ServiceInfo, float]]:
        """Instances that stopped telling of themselves without leaving, with the seconds since the last time."""
        return self._leases.lapsed()

    def unwell_seconds(self) -> dict[str, float]:
        """For how long each instance that is not healthy has told so."""
        return self._leases.unwell_seconds()

    @property
    def left_out(self) -> int:
        """Records that told of no instance, since the start."""
        return self._leases.left_out

    def standstill(self, now: float, limit_seconds: float) -> str | None:
        """Why nothing is read for longer than the limit, by a monotonic time; None: it is, or is waited for."""
        return None if self._waiting.reason is not None else self.progress.standstill(now, limit_seconds)

    @property
    def waiting_for(self) -> str | None:
        """Why brokers cannot be reached now; None if nothing is waited for."""
        return self._waiting.reason or self._silence(time.monotonic())

    def _silence(self, now: float) -> str | None:
        """Brokers that stand still break no connection, and raise nothing for a minute or two.

        But who tells of itself also reads it.
        """
        if self._beats_since is None or self._leases.read_at is None:
            return None
        seconds = now - max(self._beats_since, self._leases.read_at)
        if seconds <= self._lease_seconds:
            return None
        return f"nothing was read of {self._tp.topic} for {seconds:.0f} s, not even this process's own heartbeats"

    async def beat(self, told: Callable[[], Awaitable[ServiceInfo]], seconds: float = HEARTBEAT_SECONDS) -> None:
        """Registers what the instance tells of itself, again and again until cancelled."""

        async def register() -> None:
            await self.register(await told())

        self._beats_since = time.monotonic()
        try:
            while True:
                await self._waiting.for_(register, NotSent)
                await asyncio.sleep(seconds)
        finally:
            self._beats_since = None

    async def run(self) -> None:
        """Raises only what no waiting mends."""
        await one_partition.read(
            self._client,
            self._tp,
            lambda record: self._leases.apply(record.key, record.value, record.timestamp, time.monotonic()),
            self._waiting,
            self._has_caught_up,
            self.progress,
            from_start=True,
        )

    def _has_caught_up(self) -> None:
        self._leases.start_timing(time.monotonic())
        self.level.set()
