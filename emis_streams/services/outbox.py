"""Sends the events of a service's database, in their order, and forgets them once the brokers have them."""

import asyncio
import logging
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from emis_streams import tracing
from emis_streams.engine.patience import Waiting
from emis_streams.errors import Unavailable
from emis_streams.services.database import Database
from emis_streams.services.errors import NotSent
from emis_streams.services.kafka_carrier import Sender

logger = logging.getLogger(__name__)

_AT_ONCE = 500
_LOOK_SECONDS = 1.0
"""Events of another instance, or of before a restart, wake nobody."""


@dataclass
class Counts:
    sent: int = 0


class OutboxPublisher:
    """`run` sends until cancelled. At least once: who dies between sending and forgetting sends again."""

    def __init__(self, database: Database, sender: Sender) -> None:
        self.counts = Counts()
        self._database = database
        self._sender = sender
        self._waiting = Waiting(lambda text: logger.warning("outbox: %s", text))

    async def run(self) -> None:
        """Raises only what no waiting mends."""
        while True:
            self._database.has_events.clear()
            await self._waiting.for_(self._send_all, NotSent, KafkaError, Unavailable)
            try:
                await asyncio.wait_for(self._database.has_events.wait(), _LOOK_SECONDS)
            except TimeoutError:
                continue

    async def _send_all(self) -> None:
        while events := await self._database.events(_AT_ONCE):
            deliveries = [
                await self._sender.send(e.topic, e.key.encode(), e.value, tracing.headers_of(e.traceparent))
                for _, e in events
            ]
            await asyncio.gather(*deliveries)
            await self._database.sent([id_ for id_, _ in events])
            self.counts.sent += len(events)
