"""The registry that all processes share: a compacted topic of one partition, which each reads from its start."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from emis_streams.engine.fetch import fetch, gathering
from emis_streams.engine.patience import Waiting
from emis_streams.engine.starting import start
from emis_streams.services.errors import NotSent
from emis_streams.services.kafka_carrier import Sender
from emis_streams.services.leases import Leases
from emis_streams.services.registry import ServiceInfo

logger = logging.getLogger(__name__)

REGISTRY = "emis.registry"
HEARTBEAT_SECONDS = 3.0
LEASE_SECONDS = 10.0
"""Three heartbeats may get lost."""
_POLL_SECONDS = 1.0
_RECORDS_AT_ONCE = 500
_BYTES_AT_ONCE = 1_000_000

_encode = msgspec.json.Encoder().encode


class TopicRegistry:
    """See `registry.ServiceRegistry`. `run` reads until cancelled, `beat` keeps an instance's lease."""

    def __init__(
        self, client: Mapping[str, Any], sender: Sender, topic: str = REGISTRY, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        """`client`: arguments of every Kafka client."""
        self.level = asyncio.Event()
        """Set once the end that was seen at the start is reached."""
        self._client = client
        self._sender = sender
        self._tp = TopicPartition(topic, 0)
        self._leases = Leases(lease_seconds)
        self._waiting = Waiting(lambda text: logger.warning("registry: %s", text))

    async def register(self, info: ServiceInfo) -> None:
        """Raises NotSent."""
        await self._sender.send_and_wait(self._tp.topic, info.instance.encode(), _encode(info), [], 0)

    async def deregister(self, info: ServiceInfo) -> None:
        """Raises NotSent."""
        await self._sender.send_and_wait(self._tp.topic, info.instance.encode(), None, [], 0)

    def instances(self, name: str) -> list[ServiceInfo]:
        return [info for info in self.get_all() if info.name == name and not info.is_draining]

    def get_all(self) -> list[ServiceInfo]:
        return self._leases.holding()

    async def beat(self, told: Callable[[], ServiceInfo], seconds: float = HEARTBEAT_SECONDS) -> None:
        """Registers what the instance tells of itself, again and again until cancelled."""
        while True:
            await self._waiting.for_(lambda: self.register(told()), NotSent)
            await asyncio.sleep(seconds)

    async def run(self) -> None:
        """Raises only what no waiting mends."""
        consumer = AIOKafkaConsumer(
            **self._client, enable_auto_commit=False, auto_offset_reset="earliest", **gathering(linger_seconds=0)
        )
        try:
            await self._waiting.for_(lambda: start(consumer), KafkaError)
            consumer.assign([self._tp])
            end = await self._go_to_start(consumer)
            while True:
                if await consumer.position(self._tp) >= end:
                    self.level.set()
                await self._waiting.for_(lambda: self._read_some(consumer), KafkaError)
        finally:
            await consumer.stop()

    async def _go_to_start(self, consumer: AIOKafkaConsumer) -> int:
        """Returns the end as it is now."""
        offsets: dict[str, int] = {}

        async def ask() -> None:
            offsets["begin"] = (await consumer.beginning_offsets([self._tp]))[self._tp]
            offsets["end"] = (await consumer.end_offsets([self._tp]))[self._tp]

        await self._waiting.for_(ask, KafkaError)
        consumer.seek(self._tp, offsets["begin"])
        return offsets["end"]

    async def _read_some(self, consumer: AIOKafkaConsumer) -> None:
        for fetched in await fetch(consumer._fetcher, {self._tp}, _POLL_SECONDS, _RECORDS_AT_ONCE, _BYTES_AT_ONCE):
            for record in fetched.records:
                self._leases.apply(record.key, record.value, record.timestamp)
