"""Dead letters: records that could not be used, kept as they came, with where from and why.

A dead letter has the refused record's key, value and headers, and headers of ours that begin with
`dlq.`. Agents send them; the operator lists, shows, replays or corrects them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emis_streams import events, rows, topics
from emis_streams.errors import InvalidEvent
from emis_streams.read_topic import partitions_of_topic, reader, records_to_end
from emis_streams.settings import Settings

Headers = Sequence[tuple[str, bytes]]

PREFIX = "dlq."
REPLAYED = "dlq.replayed"
"""On a record that was sent again from the dead letters: which one it was (partition:offset)."""
READ_TIMEOUT_SECONDS = 10.0
MAX_REASON_BYTES = 8_000
"""With the other headers well below the 64 KiB that the dead-letter topic has more than a source."""
CUT = "dlq.cut"
"""On a dead letter that is not whole: how large the refused record was."""
CUT_BYTES = 64 * 1024
"""So much is left of key and value of a record that is cut."""


def headers_for(
    topic: str, partition: int, offset: int, timestamp_ms: int, reason: str, now_ms: int
) -> list[tuple[str, bytes]]:
    """The headers that say where a refused record came from, why it was refused and when."""
    texts = {
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "timestamp": _time_text(timestamp_ms),
        "reason": reason,
        "time": _time_text(now_ms),
    }
    return [(PREFIX + name, _to_bytes(text)) for name, text in texts.items()]


def _to_bytes(text: str) -> bytes:
    """UTF-8 of any text, lone surrogates escaped, cut at a character."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= MAX_REASON_BYTES:
        return raw
    return raw[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode() + "…".encode()


def fitting(
    key: bytes | None, value: bytes | None, headers: Headers
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """Key, value and headers of a refused record as a dead letter can have them.

    The brokers' limit is for packed batches: what was in one may be many times larger than the dead-letter
    topic takes. Of such a record the beginnings of key and value are left, and a header that says so.
    """
    n_bytes = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, list(headers))
    if n_bytes <= topics.MAX_MESSAGE_BYTES:
        return key, value, list(headers)
    sizes = f"key of {len(key or b'')} bytes, value of {len(value or b'')} bytes, {len(headers)} headers"
    return key and key[:CUT_BYTES], value and value[:CUT_BYTES], [(CUT, sizes.encode())]


def _time_text(ms: int) -> str:
    if ms < 0:
        return ""
    return rows.from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def original_headers(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The headers that the record had before it was refused."""
    return [(name, value) for name, value in headers if not name.startswith(PREFIX)]


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

    def said(self, name: str) -> str | None:
        """What our header of that name says (`topic`, `reason`, …); the last one, if refused twice."""
        values = [value for header, value in self.headers if header == PREFIX + name]
        return values[-1].decode("utf-8", "replace") if values else None

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


async def letters(settings: Settings) -> AsyncIterator[DeadLetter]:
    """All dead letters, those of a partition in order; raises Unavailable."""
    async for records in records_to_end(settings, topics.DEAD_LETTER):
        for record in records:
            yield _letter(record)


async def letter_at(settings: Settings, partition: int, offset: int) -> DeadLetter:
    """One dead letter; raises NoSuchLetter or Unavailable."""
    async with reader(settings) as consumer:
        tps = {tp.partition: tp for tp in await partitions_of_topic(consumer, settings, topics.DEAD_LETTER)}
        if partition not in tps:
            raise NoSuchLetter(f"{topics.DEAD_LETTER} has the partitions 0 to {len(tps) - 1}, not {partition}")
        tp = tps[partition]
        start, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
        if not start <= offset < end:
            held = f"{partition}:{start} to {partition}:{end - 1}" if end > start else "none"
            raise NoSuchLetter(f"no dead letter {partition}:{offset}; this partition has {held}")
        return _letter(await _record_at(consumer, tp, offset))


async def _record_at(consumer: Any, tp: TopicPartition, offset: int) -> Any:
    consumer.assign([tp])
    consumer.seek(tp, offset)
    try:
        async with asyncio.timeout(READ_TIMEOUT_SECONDS):
            record = await consumer.getone(tp)
    except TimeoutError:
        raise NoSuchLetter(f"nothing read at {tp.partition}:{offset} in {READ_TIMEOUT_SECONDS:.0f} s") from None
    if record.offset != offset:
        raise NoSuchLetter(f"no dead letter {tp.partition}:{offset}; the next one is {tp.partition}:{record.offset}")
    return record


def _letter(record: Any) -> DeadLetter:
    return DeadLetter(record.partition, record.offset, record.key, record.value, tuple(record.headers))


@dataclass(frozen=True)
class Replay:
    """What is sent to the source topic again; versions decide there as always."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int | None
    """None: as the key says."""


def replay_of(letter: DeadLetter) -> Replay:
    """The record as it came, for the topic it came from. Raises InvalidEvent if that is no source topic."""
    topic = letter.topic
    if topic not in events.CONTRACTS:
        raise InvalidEvent(
            f"dead letter {letter.place} is of {topic or 'no known topic'}, not of a topic of events: nothing to replay"
        )
    if (whole := letter.said("cut")) is not None:
        raise InvalidEvent(
            f"dead letter {letter.place} was cut when it was refused ({whole}): the whole record is at "
            f"{letter.origin}, while that topic keeps it"
        )
    partition = letter.said("partition") or ""
    keeps_place = letter.key is None and partition.isdigit()
    return Replay(
        topic=topic,
        key=letter.key,
        value=letter.value,
        headers=[*original_headers(letter.headers), (REPLAYED, letter.place.encode())],
        partition=int(partition) if keeps_place else None,
    )


def refused_again(all_letters: Iterable[DeadLetter]) -> set[str]:
    """Places of the letters that were replayed and came back as newer letters."""
    return {name.decode("utf-8", "replace") for letter in all_letters for name in _replayed(letter)}


def _replayed(letter: DeadLetter) -> list[bytes]:
    return [value for header, value in letter.headers if header == REPLAYED]
