"""A small Faust application on the engine, and nothing of ours: what the engine's tests run."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.web.base import BlueprintManager

from emis_streams.engine.app import App
from emis_streams.engine.options import Options
from emis_streams.engine.slices import Slice
from emis_streams.engine.table import Table
from tests.services import free_port, unique, until

PARTITIONS = 2
VERSION_BYTES = 8


def row(version: int, text: str = "") -> bytes:
    return b"%08d" % version + text.encode()


def newer(new: bytes, stored: bytes | None) -> bytes:
    return new if stored is None or new[:VERSION_BYTES] >= stored[:VERSION_BYTES] else stored


def app_of(name: str, broker: str, folder: Path, options: Options) -> App:
    """An application without agents, tables and pages, for topics of two partitions."""
    app = App(
        name,
        engine_options=options,
        broker=f"slices://{broker}",
        datadir=folder,
        topic_partitions=PARTITIONS,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=0.5,
        broker_commit_interval=0.1,
        web_port=free_port(),
        web_bind="127.0.0.1",
    )
    app.web.blueprints = BlueprintManager()
    return app


@dataclass
class Rig:
    """One worker: keeps the highest version of each key of its topic."""

    broker: str
    folder: Path
    name: str = field(default_factory=lambda: unique("engine"))
    may_begin: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared: the agent stands still before it writes a slice."""
    may_finish: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared: the agent stands still between writing a slice and saying when it is done."""
    slices: list[Slice] = field(default_factory=list)
    """What the agent was handed, in order."""
    options: dict[str, Any] = field(default_factory=dict)
    app: App = field(init=False)
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        self.may_begin.set()
        self.may_finish.set()
        options: dict[str, Any] = {"client": {"bootstrap_servers": self.broker}, "slice_records": 50, **self.options}
        self.app = app_of(self.name, self.broker, self.folder, Options(**options))
        self.table = self.app.Table("kept", partitions=PARTITIONS, topics=[self.topic], merge=newer)
        self.app.agent(self.app.slices(self.topic), name="keep")(self.keep)

    @property
    def topic(self) -> str:
        return f"{self.name}-events"

    @property
    def changelog(self) -> str:
        return f"{self.name}-kept-changelog"

    async def keep(self, slices: AsyncIterable[Slice]) -> None:
        async for batch in slices:
            self.slices.append(batch)
            await self.may_begin.wait()
            rows: dict[bytes, bytes] = {}
            stored = self.table.stored(batch, [record.key for record in batch.records])
            for record in batch.records:
                kept = rows.get(record.key, stored[record.key])
                if newer(record.value, kept) is not kept:
                    rows[record.key] = record.value
            written = self.table.write(batch, rows)
            await self.may_finish.wait()
            batch.done_when(written)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        """The worker, with its partitions taken over."""
        await self.app.start()
        try:
            await until(lambda: self.app.tables.recovery.completed.is_set())
            yield self
        finally:
            self.may_begin.set()
            self.may_finish.set()
            await self.app.stop()

    def other(self, folder: Path) -> "Rig":
        """Another worker of the same group."""
        return Rig(self.broker, folder, self.name)

    # -- the brokers, seen from outside ---------------------------------------------------------

    async def make_topics(self) -> None:
        async with admin(self.broker) as client:
            await client.create_topics(
                [
                    NewTopic(self.topic, PARTITIONS, 1),
                    NewTopic(self.changelog, PARTITIONS, 1, topic_configs={"cleanup.policy": "compact"}),
                ]
            )

    async def produce(self, records: dict[str, bytes] | list[tuple[str, bytes]], topic: str | None = None) -> None:
        pairs = list(records.items()) if isinstance(records, dict) else records
        async with producer(self.broker) as client:
            sent = [await client.send(topic or self.topic, value, key.encode()) for key, value in pairs]
            await asyncio.gather(*sent)

    async def committed(self) -> dict[int, int]:
        """Committed offset by partition, of those where something is committed."""
        async with admin(self.broker) as client:
            offsets = await client.list_consumer_group_offsets(self.name)
        return {tp.partition: meta.offset for tp, meta in offsets.items() if tp.topic == self.topic}

    async def ends(self, topic: str | None = None) -> dict[int, int]:
        async with reader(self.broker) as client:
            tps = [TopicPartition(topic or self.topic, n) for n in range(PARTITIONS)]
            return {tp.partition: end for tp, end in (await client.end_offsets(tps)).items()}

    async def all_committed(self) -> bool:
        committed = await self.committed()
        ends = await self.ends()
        return all(committed.get(n, 0) == end for n, end in ends.items())

    async def log(self, topic: str) -> list[tuple[str, bytes]]:
        """All records of a topic, in order within each partition."""
        found: list[tuple[str, bytes]] = []
        async with reader(self.broker) as client:
            tps = [TopicPartition(topic, n) for n in range(PARTITIONS)]
            client.assign(tps)
            await client.seek_to_beginning()
            ends = await client.end_offsets(tps)
            while any([await client.position(tp) < end for tp, end in ends.items()]):
                for records in (await client.getmany(timeout_ms=200)).values():
                    found += [(record.key.decode(), record.value) for record in records]
        return found

    async def kept_in_changelog(self) -> dict[str, bytes]:
        """What a reader that takes the last record of each key would keep."""
        return dict(await self.log(self.changelog))

    def kept_in_table(self) -> dict[str, bytes]:
        store = self.table.store
        return {k.decode(): v for n in store.open_partitions for k, v in store.partition(n).items()}


@asynccontextmanager
async def admin(broker: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=broker)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def producer(broker: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(bootstrap_servers=broker, acks="all", **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@asynccontextmanager
async def reader(broker: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    client = AIOKafkaConsumer(bootstrap_servers=broker, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


Condition = Callable[[], Any]
