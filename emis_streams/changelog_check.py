"""Finds the records of changelogs that are no rows and are the last of their key, and mends them.

Compaction keeps the last record of a key: a row before it is lost in time. A record that is followed by a row of its
key, or by a tombstone where there never was a row, goes by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from emis_streams import rows
from emis_streams.changelog_rows import CHANGELOGS, refusals
from emis_streams.engine.fetch import Fetched
from emis_streams.kafka_refusals import unavailable
from emis_streams.read_topic import fetch_some, reader
from emis_streams.settings import Settings

_MOST_UNPACKED_BYTES = 2**31 - 1


class Unread(msgspec.Struct, rename="camel", frozen=True):
    """A partition with a transaction that is open: what comes after its first record is read once it has ended."""

    topic: str
    partition: int
    offset: int
    """The last stable offset."""
    n_unread: int


class NoRow(msgspec.Struct, rename="camel", frozen=True):
    """A record of a changelog that is no row, and the last one of its key."""

    topic: str
    partition: int
    offset: int
    key: str | None
    reason: str
    has_row: bool
    """Whether the log still has a row of this key, which is to be sent again; else a tombstone is."""


@dataclass
class _Found:
    """Of one partition."""

    last: dict[bytes | None, tuple[int, str]] = field(default_factory=dict)
    """Offset and reason of what is no row and the last record of its key."""
    rows: dict[bytes, bytes] = field(default_factory=dict)
    """The row that the log has of these keys."""


class Changes:
    """What was found, and what mends it."""

    def __init__(self) -> None:
        self.found: dict[TopicPartition, _Found] = {}
        self.unread: list[Unread] = []

    def no_rows(self) -> list[NoRow]:
        return [
            NoRow(tp.topic, tp.partition, offset, _text(key), reason, key in found.rows)
            for tp, found in sorted(self.found.items())
            for key, (offset, reason) in sorted(found.last.items(), key=lambda item: item[1])
        ]

    def records(self) -> Iterable[tuple[TopicPartition, bytes, bytes | None]]:
        """Partition, key and value to send: the row that the log still has, or a tombstone."""
        for tp, found in self.found.items():
            for key in found.last:
                if key is not None:  # Brokers take no null keys into compacted topics, so none can replace it.
                    yield tp, key, found.rows.get(key)


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "backslashreplace")


async def check(settings: Settings) -> Changes:
    """Reads all changelogs to their last stable offsets, as workers do; raises Unavailable."""
    changes = Changes()
    async with reader(settings, "read_committed") as consumer, reader(settings) as uncommitted:
        cluster = await consumer._client.fetch_all_metadata()
        names = [name for name in CHANGELOGS if name in cluster.topics()]
        tps = [TopicPartition(name, p) for name in names for p in sorted(cluster.partitions_for_topic(name))]
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        for tp in tps:
            found = await _check(consumer, tp, begins[tp], ends[tp])
            if found.last:
                changes.found[tp] = found
        latest = await uncommitted.end_offsets(tps)
        stable = await consumer.end_offsets(tps)
    changes.unread = [Unread(tp.topic, tp.partition, stable[tp], n) for tp in tps if (n := latest[tp] - stable[tp]) > 0]
    return changes


async def _check(consumer: Any, tp: TopicPartition, begin: int, end: int) -> _Found:
    found = _Found()
    async for fetched in _read(consumer, tp, begin, end):
        _note_last(found, fetched)
    keys = {key for key in found.last if key is not None}
    if keys:
        async for fetched in _read(consumer, tp, begin, end):
            _keep_rows(found, fetched, keys)
    _finish(found)
    return found


def _finish(found: _Found) -> None:
    """A tombstone where the log has no row leaves nothing to mend."""
    for key, (offset, reason) in list(found.last.items()):
        if not reason and key not in found.rows:
            del found.last[key]
        else:
            found.last[key] = (offset, reason or "a null value after a row")


def _note_last(found: _Found, fetched: Fetched) -> None:
    refused = dict(refusals(fetched.tp.topic, fetched.records))
    if not refused and not found.last:
        return
    for place, record in enumerate(fetched.records):
        if place in refused:
            found.last[record.key] = (
                record.offset,
                "" if record.value is None and record.key is not None else refused[place],
            )
        else:
            found.last.pop(record.key, None)


def _keep_rows(found: _Found, fetched: Fetched, keys: set[bytes]) -> None:
    own = [record for record in fetched.records if record.key in keys]
    refused = {place for place, _ in refusals(fetched.tp.topic, own)}
    for place, record in enumerate(own):
        if place not in refused:
            found.rows[record.key] = rows.merged(record.value, found.rows.get(record.key))


async def _read(consumer: Any, tp: TopicPartition, begin: int, end: int) -> AsyncIterator[Fetched]:
    consumer.assign([tp])
    consumer.seek(tp, begin)
    at = begin
    while at < end:
        for fetched in await fetch_some(consumer, [tp]):
            yield fetched
            at = fetched.end


async def repair(settings: Settings, changes: Changes) -> int:
    """Sends what mends the changelogs; how many records the brokers took. Raises Unavailable, KafkaError.

    Packed, as keys of strangers may be larger unpacked than a topic takes: then what replaces them fits as well.

    May run beside workers. A newer row that arrives meanwhile is followed by an older one then: its owner sees that it
    went back, and sends its own row again.
    """
    producer = AIOKafkaProducer(
        **settings.kafka_client(),
        acks="all",  # Not idempotent: after one record that is refused, all others would be.
        compression_type="gzip",
        max_request_size=_MOST_UNPACKED_BYTES,
    )
    try:
        await producer.start()
        sent = [await producer.send(tp.topic, value, key, tp.partition) for tp, key, value in changes.records()]
        ended = await asyncio.gather(*sent, return_exceptions=True)
        failures = [error for error in ended if isinstance(error, BaseException)]
        for error in failures:
            if not isinstance(error, MessageSizeTooLargeError):
                raise error
        return len(sent) - len(failures)
    except KafkaConnectionError as error:
        raise await unavailable(settings, error) from None
    finally:
        await producer.stop()
