"""Outboxes of a test's own: databases on SQLite or MariaDB, a topic, and publishers that share them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import Column, MetaData, String, Table, insert

from emis_streams.services.database import Database, Event, Transaction
from emis_streams.services.messages import Request
from emis_streams.services.outbox import OutboxPublisher
from tests.services import unique

TABLES = MetaData()
notes = Table("Notes", TABLES, Column("Text", String(100), primary_key=True))


@dataclass
class Instance:
    """What one process of a service has: its connections to the database, and a publisher."""

    database: Database
    publisher: OutboxPublisher
    topic: str

    async def keep(self, text: str) -> None:
        """Notes the text and emits it as an event, whose key is the text's first letter."""

        async def work(transaction: Transaction) -> Any:
            await transaction.emit(Event(self.topic, text[0], text.encode()))
            await transaction.execute(insert(notes).values(Text=text))
            return {"noted": text}

        await self.database.once(Request("note", text, b"{}"), work)

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Until the block ends."""
        task = asyncio.create_task(self.publisher.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@dataclass
class Outbox:
    """One database and one topic, shared by any number of instances."""

    url: str
    broker: str
    topic: str = field(default_factory=lambda: unique("noted"))
    instances: list[Instance] = field(default_factory=list)

    async def instance(self) -> Instance:
        database = Database.open(self.url, TABLES)
        await database.prepare()
        client = {"bootstrap_servers": self.broker}
        publisher = OutboxPublisher(database.outbox, database.has_events, client, self.topic)
        self.instances.append(Instance(database, publisher, self.topic))
        return self.instances[-1]

    async def is_empty(self) -> bool:
        return not await self.instances[0].database.outbox.events(1)

    async def close(self) -> None:
        for instance in self.instances:
            await instance.database.close()

    async def published(self, isolation_level: str = "read_committed") -> list[str]:
        """Texts in the topic, in the order of its log."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.broker, isolation_level=isolation_level)
        await consumer.start()
        try:
            tp = TopicPartition(self.topic, 0)
            consumer.assign([tp])
            await consumer.seek_to_beginning()
            end = (await consumer.end_offsets([tp]))[tp]
            found: list[str] = []
            while await consumer.position(tp) < end:
                batches = await consumer.getmany(timeout_ms=200)
                found += [record.value.decode() for records in batches.values() for record in records]
            return found
        finally:
            await consumer.stop()


def first_occurrences(texts: list[str]) -> list[str]:
    """Without what came again."""
    return list(dict.fromkeys(texts))
