"""Reads a whole topic, without a group: from the start to the end that it had when reading began."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from emis_streams.engine.stopping import stop
from emis_streams.kafka_refusals import no_topic, unavailable
from emis_streams.settings import Settings

FETCH_RECORDS = 5_000
FETCH_BYTES = 4 * 1024 * 1024
WAIT_MS = 500


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[Any]:
    """A consumer without a group; raises Unavailable if no broker answers."""
    consumer = AIOKafkaConsumer(
        **settings.kafka_client(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    try:
        await consumer.start()
    except KafkaConnectionError as error:
        await stop(consumer)
        raise await unavailable(settings, error) from None
    try:
        yield consumer
    finally:
        await stop(consumer)


async def partitions_of_topic(consumer: Any, settings: Settings, topic: str) -> list[TopicPartition]:
    """Its partitions; raises Unavailable if there is no such topic."""
    cluster = await consumer._client.fetch_all_metadata()
    if topic not in cluster.topics():
        raise no_topic(settings, topic)
    return [TopicPartition(topic, p) for p in sorted(cluster.partitions_for_topic(topic))]


async def records_to_end(settings: Settings, topic: str) -> AsyncIterator[list[Any]]:
    """Records of one partition at a time, those of a partition in order."""
    async with reader(settings) as consumer:
        tps = await partitions_of_topic(consumer, settings, topic)
        starts = await consumer.beginning_offsets(tps)
        ends = await consumer.end_offsets(tps)
        open_tps = {tp for tp in tps if ends[tp] > starts[tp]}
        consumer.assign(list(open_tps))
        for tp in open_tps:
            consumer.seek(tp, starts[tp])
        while open_tps:
            fetched = await consumer.getmany(*open_tps, timeout_ms=WAIT_MS, max_records=FETCH_RECORDS)
            for tp, records in fetched.items():
                if own := [record for record in records if record.offset < ends[tp]]:
                    yield own
            # By position, not by record: compaction may have removed the last ones.
            open_tps = {tp for tp in open_tps if await consumer.position(tp) < ends[tp]}
            consumer.pause(*[tp for tp in consumer.assignment() if tp not in open_tps])
