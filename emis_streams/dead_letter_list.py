"""Dead letters, the newest first, a page at a time: bounded in records, memory and time, whatever the topic holds.

Of each partition the last records before a position are read, and merged by the time at which they were written. The
page ends where one partition has no more of them: what stands before could be newer than the rest of the others.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from emis_streams import dead_letter_headers, rows, topics
from emis_streams.dead_letters import DeadLetter
from emis_streams.errors import Unavailable
from emis_streams.lag_report import Camel
from emis_streams.read_topic import fetch_some, partitions_of_topic, reader
from emis_streams.replays import noted
from emis_streams.settings import Settings

PAGE_LETTERS = 50
"""On a page, at most."""
READ_SECONDS = 10.0
"""For a page; the brokers are asked for no longer."""
_WINDOW_RECORDS = 100
"""Of each partition: fewer where they are so large that the bytes below are reached."""
_MOST_BYTES = 8 * 1024 * 1024
_SHOWN_CHARACTERS = 500
_POSITION = re.compile(r"([0-9]{1,9})-([0-9]{1,18})")
_MOST_PARTITIONS = 1_000


class LetterLine(Camel, frozen=True, kw_only=True):
    """A dead letter in the list: without its value."""

    place: str
    """`partition:offset` in the dead-letter topic."""
    written_at: datetime
    """When it came into the dead-letter topic."""
    topic: str | None
    """Where the record came from, with `partition` and `offset`; null if the letter does not tell."""
    partition: str | None
    offset: str | None
    reason: str
    """The beginning, if it is long."""
    key: str | None
    bytes: int
    """Of its value."""


class Cause(Camel, frozen=True, kw_only=True):
    """Letters of one topic that were refused for one reason, but for the values that it names."""

    topic: str | None
    cause: str
    count: int
    last_at: datetime
    newest: str
    """Place of the newest of them."""


class LetterPage(Camel, frozen=True, kw_only=True):
    """Some dead letters, the newest first."""

    letters: tuple[LetterLine, ...]
    causes: tuple[Cause, ...]
    """Of the letters that were read for this page: those with the most first."""
    letters_read: int
    total: int
    """Records that the topic holds: dead letters, and notes of those that were replayed."""
    next_before: str | None
    """Ask for what comes after this page; null at the end."""


class Position(NamedTuple):
    """Where a page begins: before these offsets, by partition. Partitions that are not named begin at their ends."""

    before: Mapping[int, int]

    @staticmethod
    def of(text: str) -> "Position":
        """Raises ValueError for what is no position that a page gave."""
        parts = [_POSITION.fullmatch(part) for part in text.split(".")]
        if len(parts) > _MOST_PARTITIONS or not all(parts):
            raise ValueError(text)
        found = {int(part[1]): int(part[2]) for part in parts if part is not None}
        if len(found) != len(parts):
            raise ValueError(text)
        return Position(found)

    def __str__(self) -> str:
        return ".".join(f"{partition}-{offset}" for partition, offset in sorted(self.before.items()))


class Window(NamedTuple):
    """The records of a partition from `start` to before `end`; `first` is the earliest that it holds."""

    first: int
    start: int
    end: int


class _TooManyBytes(Exception):
    """The records of these windows are too large to be read at once."""


class _Read(NamedTuple):
    letters: list[tuple[int, LetterLine]]
    """With their offsets."""
    n_bytes: int


def _windows(
    firsts: Mapping[TopicPartition, int], tops: Mapping[TopicPartition, int], n_records: int
) -> dict[TopicPartition, Window]:
    """So many records of each partition before its top."""
    return {tp: Window(firsts[tp], max(firsts[tp], top - n_records), top) for tp, top in tops.items()}


def _by_number(windows: Mapping[TopicPartition, Window]) -> dict[int, Window]:
    return {tp.partition: window for tp, window in windows.items()}


async def letter_page(settings: Settings, position: Position | None = None) -> LetterPage:
    """A page of dead letters; raises Unavailable if the brokers do not answer in time."""
    try:
        async with asyncio.timeout(READ_SECONDS), reader(settings) as consumer:
            tps = await partitions_of_topic(consumer, settings, topics.DEAD_LETTER)
            firsts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            total = sum(ends[tp] - firsts[tp] for tp in tps)
            tops = {tp: _top(tp, ends[tp], position) for tp in tps}
            # The last record of each partition first: it says how many more can be read.
            newest = _windows(firsts, tops, 1)
            read = await _read(consumer, newest, None)
            n_records = min(_WINDOW_RECORDS, int(_MOST_BYTES / max(1, read.n_bytes)))
            if n_records > 1:
                with suppress(_TooManyBytes):  # Older ones are larger: then the newest are the page.
                    windows = _windows(firsts, tops, n_records)
                    return page_of(_by_number(windows), (await _read(consumer, windows, _MOST_BYTES)).letters, total)
            return page_of(_by_number(newest), read.letters, total)
    except TimeoutError:
        raise Unavailable(f"{topics.DEAD_LETTER} could not be read within {READ_SECONDS:.0f} s") from None
    except KafkaError as error:
        raise Unavailable(f"{topics.DEAD_LETTER} cannot be read: {error}") from error


def _top(tp: TopicPartition, end: int, position: Position | None) -> int:
    return end if position is None else min(end, position.before.get(tp.partition, end))


async def _read(consumer: Any, windows: Mapping[TopicPartition, Window], most_bytes: int | None) -> _Read:
    """The letters in these windows; raises _TooManyBytes."""
    n_bytes, found = 0, []
    open_tps = {tp for tp, window in windows.items() if window.start < window.end}
    consumer.assign(list(open_tps))
    for tp in open_tps:
        consumer.seek(tp, windows[tp].start)
    while open_tps:
        for fetched in await fetch_some(consumer, open_tps):
            end = windows[fetched.tp].end
            for record in fetched.records:
                n_bytes += len(record.value or b"") + len(record.key or b"")
                if record.offset < end and noted(record.value, record.headers) is None:
                    found.append((record.offset, line_of(fetched.tp.partition, record)))
            if most_bytes is not None and n_bytes > most_bytes:
                raise _TooManyBytes
            if fetched.end >= end:
                open_tps.discard(fetched.tp)
        consumer.pause(*[tp for tp in consumer.assignment() if tp not in open_tps])
    return _Read(found, n_bytes)


def line_of(partition: int, record: Any) -> LetterLine:
    """What the list shows of a record, whatever it is."""
    letter = DeadLetter(partition, record.offset, record.key, record.value, tuple(record.headers))
    return LetterLine(
        place=letter.place,
        written_at=rows.from_ms(min(max(0, record.timestamp), dead_letter_headers.LATEST_MS)),
        topic=letter.topic,
        partition=letter.said("partition"),
        offset=letter.said("offset"),
        reason=_shortened(letter.reason),
        key=None if letter.key is None else _shortened(letter.key.decode("utf-8", "replace")),
        bytes=len(letter.value or b""),
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


# -- rules ----------------------------------------------------------------------------------------


def page_of(windows: Mapping[int, Window], found: Sequence[tuple[int, LetterLine]], total: int) -> LetterPage:
    """The page that the letters read from these windows make. Pure."""
    shown, position = _merged(windows, found)
    return LetterPage(
        letters=tuple(shown),
        causes=tuple(causes_of(line for _, line in found)),
        letters_read=len(found),
        total=total,
        next_before=None if position is None else str(position),
    )


def _merged(
    windows: Mapping[int, Window], found: Iterable[tuple[int, LetterLine]]
) -> tuple[list[LetterLine], Position | None]:
    """The newest letters of all partitions, and where the next page begins; None: nowhere."""
    left: dict[int, list[tuple[int, LetterLine]]] = {partition: [] for partition in windows}
    for offset, line in sorted(found, key=lambda one: one[0]):
        left[int(line.place.partition(":")[0])].append((offset, line))
    shown: list[LetterLine] = []
    before = {partition: window.end for partition, window in windows.items()}
    while len(shown) < PAGE_LETTERS:
        dry = [p for p, window in windows.items() if not left[p] and window.start > window.first]
        heads = [p for p in windows if left[p]]
        if dry or not heads:
            break
        newest = max(heads, key=lambda p: (left[p][-1][1].written_at, -p))
        offset, line = left[newest].pop()
        before[newest] = offset
        shown.append(line)
    for partition, window in windows.items():
        if not left[partition]:  # What is left of its window is no dead letter.
            before[partition] = window.start
    at_end = all(before[partition] <= window.first for partition, window in windows.items())
    return shown, None if at_end else Position(before)


_NAMED = re.compile(
    r"\bUTF-(?:8|16|32)\b|\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:[0-9]{2})?|'[^']*'"
    r"|\"[^\"]*\"|`[^`]*`|\b[0-9a-f]{8}-[0-9a-f-]{27,}\b|[0-9]+(?:[.,:][0-9]+)*"
)
"""What differs between two records that were refused for the same reason: quoted values, ids, numbers, times."""


def cause_of(reason: str) -> str:
    """A reason without the values that it names."""
    lines = reason.strip().splitlines()
    return _NAMED.sub(_without_value, lines[-1].strip()) if lines else ""


def _without_value(found: re.Match[str]) -> str:
    """The names of encodings have numbers, too."""
    return found[0] if found[0].startswith("UTF-") else "…"


def causes_of(lines: Iterable[LetterLine]) -> list[Cause]:
    """By topic and reason, those with the most letters first."""
    groups: dict[tuple[str | None, str], list[LetterLine]] = {}
    for line in lines:
        groups.setdefault((line.topic, cause_of(line.reason)), []).append(line)
    found = [_cause(topic, cause, of) for (topic, cause), of in groups.items()]
    return sorted(found, key=lambda one: (-one.count, one.topic or "", one.cause))


def _cause(topic: str | None, cause: str, lines: Sequence[LetterLine]) -> Cause:
    newest = max(lines, key=lambda line: line.written_at)
    return Cause(topic=topic, cause=cause, count=len(lines), last_at=newest.written_at, newest=newest.place)
