"""Dead letters: records that could not be used, kept as they came, with where from and why.

A dead letter has the refused record's key, value and headers, and headers of ours behind them
(`dead_letter_headers.py`). Agents send them; the operator lists, shows, replays or corrects them.
Anybody may write to the topic: whatever a record there holds, it is read and shown.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from emis_streams import dead_letter_headers, events, topics
from emis_streams.dead_letter_headers import Header, Headers
from emis_streams.errors import InvalidEvent, Unavailable
from emis_streams.read_topic import Extent, fetched_to_end, partitions_of_topic, reader, record_at
from emis_streams.replays import Replay, noted
from emis_streams.settings import Settings

READ_TIMEOUT_SECONDS = 10.0
_PARTITION = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class DeadLetter:
    """A record of the dead-letter topic, read back."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    """All of them, ours too."""

    @property
    def place(self) -> str:
        """How the operator names it: `partition:offset` in the dead-letter topic."""
        return f"{self.partition}:{self.offset}"

    @cached_property
    def _parsed(self) -> dead_letter_headers.Parsed:
        return dead_letter_headers.parse(self.key, self.value, self.headers)

    @property
    def own_headers(self) -> list[Header]:
        """The headers that the record had when it was refused."""
        return self._parsed.own

    def said(self, name: str) -> str | None:
        """What our header of that name says (`topic`, `reason`, …)."""
        value = self._parsed.ours.get(name)
        return None if value is None else value.decode("utf-8", "replace")

    @property
    def topic(self) -> str | None:
        return self.said("topic")

    @property
    def origin(self) -> str:
        """Source topic:partition:offset."""
        return ":".join(self.said(name) or "?" for name in ("topic", "partition", "offset"))

    @property
    def reason(self) -> str:
        return self.said("reason") or "no reason given"

    @property
    def time(self) -> datetime | None:
        """When it was refused; None if the header is missing or unreadable."""
        try:
            return datetime.fromisoformat(self.said("time") or "")
        except ValueError:
            return None

    def summary(self) -> dict[str, Any]:
        """What `dead-letters list` says of it."""
        return {
            "place": self.place,
            "topic": self.topic,
            "partition": self.said("partition"),
            "offset": self.said("offset"),
            "reason": self.reason,
            "time": self.said("time"),
            "key": None if self.key is None else self.key.decode("utf-8", "replace"),
            "bytes": len(self.value or b""),
        }


class NoSuchLetter(Exception):
    """There is no dead letter at that place; the text says where there are some."""


class Batch(NamedTuple):
    """Some records of the dead-letter topic, of one partition, in order."""

    letters: list[DeadLetter]
    replays: list[Replay]
    """Which letters were sent again, as records among them note it."""
    n_records: int


async def batches(settings: Settings, until: Extent | None = None) -> AsyncIterator[Batch]:
    """All that the topic holds, or held then; raises Unavailable."""
    async for fetched in fetched_to_end(settings, topics.DEAD_LETTER, until=until):
        batch = Batch([], [], len(fetched.records))
        for record in fetched.records:
            replays = noted(record.value, record.headers)
            if replays is None:
                batch.letters.append(_letter(fetched.tp.partition, record))
            else:
                batch.replays.extend(replays)
        yield batch


async def letters(settings: Settings) -> AsyncIterator[DeadLetter]:
    """All dead letters, those of a partition in order; raises Unavailable."""
    async for batch in batches(settings):
        for letter in batch.letters:
            yield letter


async def letter_at(settings: Settings, partition: int, offset: int) -> DeadLetter:
    """One dead letter; raises NoSuchLetter or Unavailable."""
    try:
        async with reader(settings) as consumer:
            tps = {tp.partition: tp for tp in await partitions_of_topic(consumer, settings, topics.DEAD_LETTER)}
            if partition not in tps:
                raise NoSuchLetter(f"{topics.DEAD_LETTER} has the partitions 0 to {len(tps) - 1}, not {partition}")
            await _check_range(consumer, tps[partition], offset)
            return await _letter_at(consumer, tps[partition], offset)
    except KafkaError as error:
        raise Unavailable(f"{topics.DEAD_LETTER} cannot be read: {error}") from error


async def _check_range(consumer: Any, tp: TopicPartition, offset: int) -> None:
    """Raises NoSuchLetter for an offset outside of the log."""
    start, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
    if not start <= offset < end:
        held = f"{tp.partition}:{start} to {tp.partition}:{end - 1}" if end > start else "none"
        raise NoSuchLetter(f"no dead letter {tp.partition}:{offset}; this partition has {held}")


async def _letter_at(consumer: Any, tp: TopicPartition, offset: int) -> DeadLetter:
    place = f"{tp.partition}:{offset}"
    try:
        async with asyncio.timeout(READ_TIMEOUT_SECONDS):
            record = await record_at(consumer, tp, offset)
    except TimeoutError:
        if await consumer.position(tp) > offset:  # Only marks of transactions, and batches of aborted ones.
            raise NoSuchLetter(f"no dead letter {place}, and none after it") from None
        slow = f"{topics.DEAD_LETTER} {place} was not read within {READ_TIMEOUT_SECONDS:.0f} s: the brokers are slow"
        raise Unavailable(f"{slow}; try again") from None
    if record.offset != offset:
        raise NoSuchLetter(f"no dead letter {place}; the next one is {tp.partition}:{record.offset}")
    if noted(record.value, record.headers) is not None:
        raise NoSuchLetter(f"{place} is no dead letter: it notes which ones were replayed")
    return _letter(tp.partition, record)


def _letter(partition: int, record: Any) -> DeadLetter:
    return DeadLetter(partition, record.offset, record.key, record.value, tuple(record.headers))


class SentAgain(NamedTuple):
    """What is sent to the source topic again; versions decide there as always."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    partition: int | None
    """None: as the key says."""


def replay_of(letter: DeadLetter) -> SentAgain:
    """The record as it came, for the topic it came from. Raises InvalidEvent if that is no source topic."""
    topic = letter.topic
    if topic not in events.CONTRACTS:
        raise InvalidEvent(f"it is of {topic or 'no known topic'}, not of a topic of events: nothing to replay")
    if (whole := letter.said("cut")) is not None:
        raise InvalidEvent(
            f"it was cut when it was refused ({whole}): the whole record is at "
            f"{letter.origin}, while that topic keeps it"
        )
    partition = letter.said("partition") or ""
    keeps_place = letter.key is None and _PARTITION.fullmatch(partition)
    return SentAgain(
        topic=topic,
        key=letter.key,
        value=letter.value,
        headers=letter.own_headers,
        partition=int(partition) if keeps_place else None,
    )
