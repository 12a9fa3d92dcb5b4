"""Reading one partition without a group, for ever: the replies to a process, and who is there."""

from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from emis_streams.engine.cluster import described
from emis_streams.engine.config_error import ConfigError
from emis_streams.engine.fetch import fetch, gathering
from emis_streams.engine.patience import Waiting
from emis_streams.engine.progress import Progress
from emis_streams.engine.starting import start
from emis_streams.engine.stopping import stop
from emis_streams.quantities import counted

_POLL_SECONDS = 1.0
_ANSWER_SECONDS = 45.0
"""Records whose header names are not UTF-8 are read again, which brokers may answer so late (`engine/header_names`)."""
_RECORDS_AT_ONCE = 500
_BYTES_AT_ONCE = 1_000_000


class PartitionMissing(ConfigError):
    """The topic has fewer partitions. It may be widened at any time, so this is waited for."""


async def read(
    client: Mapping[str, Any],
    tp: TopicPartition,
    take: Callable[[Any], None],
    waiting: Waiting,
    on_level: Callable[[], None],
    progress: Progress,
    *,
    from_start: bool,
    way_out: str = "",
) -> None:
    """Hands each record to `take`, from the start of the log or from where it ends now, until cancelled.

    `client`: arguments of every Kafka client. `on_level` is called when the end that was seen at the start is reached,
    which is at once without `from_start`. Brokers are waited for, as long as it takes, and so is a partition
    that the topic does not have; `way_out` says what to do then. `progress` notes each step.
    """
    consumer = AIOKafkaConsumer(
        **client, enable_auto_commit=False, auto_offset_reset="earliest", **gathering(linger_seconds=0)
    )
    try:
        await waiting.for_(lambda: start(consumer), KafkaError)
        consumer.assign([tp])
        begin, end = await _range(consumer, tp, waiting, way_out)
        position = begin if from_start else end
        consumer.seek(tp, position)
        is_level = False
        while True:
            if not is_level and position >= end:
                is_level = True
                on_level()
            progress.note(_ANSWER_SECONDS)
            position = await _read_some(consumer, tp, take, waiting, position)
    finally:
        await stop(consumer)


async def _range(consumer: AIOKafkaConsumer, tp: TopicPartition, waiting: Waiting, way_out: str) -> tuple[int, int]:
    """First offset of the log, and the one after its last."""
    found: list[int] = []

    async def ask() -> None:
        n_partitions = (await described(consumer._client, [tp.topic]))[tp.topic].n_partitions
        if tp.partition >= n_partitions:
            raise PartitionMissing(
                f"{tp.topic} has {counted(n_partitions, 'partition')}, and no partition {tp.partition}{way_out}"
            )
        found[:] = [(await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]]

    await waiting.for_(ask, KafkaError, PartitionMissing)
    begin, end = found
    return begin, end


async def _read_some(
    consumer: AIOKafkaConsumer, tp: TopicPartition, take: Callable[[Any], None], waiting: Waiting, position: int
) -> int:
    """Returns the offset after what was read."""
    ends = [position]

    async def read_some() -> None:
        for fetched in await fetch(consumer._fetcher, {tp}, _POLL_SECONDS, _RECORDS_AT_ONCE, _BYTES_AT_ONCE):
            for record in fetched.records:
                take(record)
            ends.append(fetched.end)

    await waiting.for_(read_some, KafkaError)
    return ends[-1]
