"""Changelogs read from their start, for commands: no group, nothing kept."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from emis_streams import rows, topics
from emis_streams.changelog_rows import refusals
from emis_streams.engine.denied import denied
from emis_streams.engine.starting import start
from emis_streams.engine.stopping import stop
from emis_streams.errors import Unavailable
from emis_streams.kafka_refusals import no_topic, unavailable
from emis_streams.read_topic import fetch_some
from emis_streams.settings import Settings

_FETCH_RECORDS = 5_000
_FETCH_BYTES = 4 * 1024 * 1024
_FETCH_WAIT_MS = 10
"""A fetch that waits at the end of one partition holds up the first one of the next."""


class Changelogs:
    """All partitions of the changelogs, with offsets as followers see them (read committed)."""

    def __init__(self, consumer: Any, partitions: Collection[TopicPartition]) -> None:
        self._consumer = consumer
        self.partitions = sorted(partitions)
        self.no_rows: dict[TopicPartition, set[bytes | None]] = {}
        """Keys whose last record that was read is no row."""

    async def begins(self) -> dict[TopicPartition, int]:
        """Where each partition's log begins."""
        offsets: dict[TopicPartition, int] = await self._consumer.beginning_offsets(self.partitions)
        return offsets

    async def ends(self) -> dict[TopicPartition, int]:
        """Where each partition's log ends now."""
        offsets: dict[TopicPartition, int] = await self._consumer.end_offsets(self.partitions)
        return offsets

    async def read(self, tp: TopicPartition, start: int, end: int, into: dict[bytes, bytes]) -> AsyncIterator[int]:
        """Puts what `rows.merged` leaves of each key of [start, end) into the dict; yields how far it is."""
        self._consumer.assign([tp])
        self._consumer.seek(tp, start)
        at = start
        while at < end:
            for fetched in await fetch_some(self._consumer, [tp], _FETCH_RECORDS):
                self._keep_rows(tp, [record for record in fetched.records if record.offset < end], into)
                # By position, not by record: compaction may have removed the last ones.
                at = fetched.end
            yield min(at, end)

    def _keep_rows(self, tp: TopicPartition, records: Sequence[Any], into: dict[bytes, bytes]) -> None:
        refused = dict(refusals(tp.topic, records))
        no_rows = self.no_rows.setdefault(tp, set())
        for place, record in enumerate(records):
            if place not in refused:
                into[record.key] = rows.merged(record.value, into.get(record.key))
                no_rows.discard(record.key)
            elif record.value is not None or record.key in into:
                no_rows.add(record.key)
            else:
                no_rows.discard(record.key)  # A tombstone where there was no row.


@asynccontextmanager
async def open_changelogs(settings: Settings) -> AsyncIterator[Changelogs]:
    """Raises Unavailable if no broker answers, or a changelog is missing."""
    consumer = AIOKafkaConsumer(
        **settings.kafka_client(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        await start(consumer)
        yield Changelogs(consumer, await _partitions(consumer, settings))
    except KafkaConnectionError as error:
        raise await unavailable(settings, error) from error
    except KafkaError as error:
        reason = denied(error) or str(error) or type(error).__name__
        raise Unavailable(f"Kafka at KAFKA_BROKERS={settings.kafka_brokers!r}: {reason}") from error
    finally:
        await stop(consumer)


async def _partitions(consumer: Any, settings: Settings) -> list[TopicPartition]:
    cluster = await consumer._client.fetch_all_metadata()
    names = [subject.changelog for subject in topics.SUBJECTS]
    missing = sorted(set(names) - cluster.topics())
    if missing:
        raise no_topic(settings, missing[0])
    return [TopicPartition(name, partition) for name in names for partition in cluster.partitions_for_topic(name)]
