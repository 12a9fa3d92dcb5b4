"""Reads a whole topic, without a group: from the start to the end that it had when reading began."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from emis_streams.engine.fetch import Fetched, fetch
from emis_streams.engine.starting import start
from emis_streams.engine.stopping import stop
from emis_streams.kafka_refusals import no_topic, unavailable
from emis_streams.settings import Settings

FETCH_RECORDS = 5_000
FETCH_BYTES = 4 * 1024 * 1024
WAIT_MS = 500
Isolation = Literal["read_uncommitted", "read_committed"]
"""Changelogs are read committed, as workers read them: what a transaction has aborted was never in a table."""


@asynccontextmanager
async def reader(settings: Settings, isolation: Isolation = "read_uncommitted") -> AsyncIterator[Any]:
    """A consumer without a group; raises Unavailable if no broker answers."""
    consumer = AIOKafkaConsumer(
        **settings.kafka_client(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    try:
        try:
            await start(consumer)
        except KafkaConnectionError as error:
            raise await unavailable(settings, error) from None
        yield consumer
    finally:
        await stop(consumer)


async def partitions_of_topic(consumer: Any, settings: Settings, topic: str) -> list[TopicPartition]:
    """Its partitions; raises Unavailable if there is no such topic."""
    cluster = await consumer._client.fetch_all_metadata()
    if topic not in cluster.topics():
        raise no_topic(settings, topic)
    return [TopicPartition(topic, p) for p in sorted(cluster.partitions_for_topic(topic))]


async def records_to_end(
    settings: Settings, topic: str, isolation: Isolation = "read_uncommitted"
) -> AsyncIterator[list[Any]]:
    """Records of one partition at a time, those of a partition in order."""
    async for fetched in fetched_to_end(settings, topic, isolation):
        yield fetched.records


@dataclass(frozen=True)
class Extent:
    """What a topic holds at a moment, by partition: its first offset, and the one after the last."""

    starts: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]

    @property
    def n_offsets(self) -> int:
        """No fewer than there are records."""
        return sum(self.ends.values()) - sum(self.starts.values())


async def extent_of(settings: Settings, topic: str) -> Extent:
    """Raises Unavailable."""
    async with reader(settings) as consumer:
        return await _extent(consumer, settings, topic)


async def _extent(consumer: Any, settings: Settings, topic: str) -> Extent:
    tps = await partitions_of_topic(consumer, settings, topic)
    return Extent(await consumer.beginning_offsets(tps), await consumer.end_offsets(tps))


async def fetched_to_end(
    settings: Settings, topic: str, isolation: Isolation = "read_uncommitted", until: Extent | None = None
) -> AsyncIterator[Fetched]:
    """Records of one partition at a time, those of a partition in order; whatever their headers are.

    `until`: to the ends of then. What retention has deleted since is left out.
    """
    async with reader(settings, isolation) as consumer:
        now = await _extent(consumer, settings, topic)
        tps, starts, ends = list(now.ends), now.starts, now.ends if until is None else until.ends
        tps = [tp for tp in tps if tp in ends]
        open_tps = {tp for tp in tps if ends[tp] > starts[tp]}
        consumer.assign(list(open_tps))
        for tp in open_tps:
            consumer.seek(tp, starts[tp])
        while open_tps:
            for fetched in await fetch_some(consumer, open_tps):
                tp = fetched.tp
                if own := [record for record in fetched.records if record.offset < ends[tp]]:
                    yield replace(fetched, records=own)
                # By position, not by record: compaction may have removed the last ones.
                if fetched.end >= ends[tp]:
                    open_tps.discard(tp)
            consumer.pause(*[tp for tp in consumer.assignment() if tp not in open_tps])


async def record_at(consumer: Any, tp: TopicPartition, offset: int) -> Any:
    """The first record at or after the offset; waits for it."""
    consumer.assign([tp])
    consumer.seek(tp, offset)
    while True:
        for fetched in await fetch_some(consumer, [tp], most=1):
            if fetched.records:
                return fetched.records[0]


async def fetch_some(consumer: Any, tps: Collection[TopicPartition], most: int = FETCH_RECORDS) -> list[Fetched]:
    """Records of some of these partitions, which the consumer is assigned to; raises KafkaError.

    Not `getmany`: that one raises at header names that are not UTF-8.
    """
    return await fetch(consumer._fetcher, tps, WAIT_MS / 1000, most, FETCH_BYTES)
