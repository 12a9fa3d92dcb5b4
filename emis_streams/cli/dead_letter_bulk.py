"""All dead letters at once: listed, exported, sent again, corrected. Memory does not grow with their number."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import click
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import RecordMetadata

from emis_streams import replays, settings, topics
from emis_streams.cli.dead_letter_lines import correction_of, line_of
from emis_streams.cli.lines import chunks_of, lines_of
from emis_streams.cli.logs import visible
from emis_streams.cli.progress import progress
from emis_streams.dead_letter_headers import Header
from emis_streams.dead_letter_index import LetterIndex
from emis_streams.dead_letters import Batch, DeadLetter, batches, replay_of
from emis_streams.errors import InvalidEvent
from emis_streams.producer import EventProducer, Record, records_of
from emis_streams.read_topic import Extent, extent_of

CHUNK_LINES = 1_000


@dataclass(frozen=True)
class Choice:
    """Which letters are meant."""

    reason: str
    """A part of it; empty: any."""
    topic: str | None
    """Where they came from; None: anywhere."""

    def has(self, letter: DeadLetter) -> bool:
        return self.reason in letter.reason and self.topic in (None, letter.topic)


@dataclass(frozen=True)
class Correction:
    """A record in place of a letter."""

    place: str
    headers: list[Header]
    """Of the refused record."""
    record: Record


async def _extent() -> Extent:
    return await extent_of(settings.current(), topics.DEAD_LETTER)


async def _each(extent: Extent, what: str) -> AsyncIterator[Batch]:
    """All that the topic held then, with progress on stderr."""
    with progress(what, extent.n_offsets) as advance:
        async for batch in batches(settings.current(), extent):
            yield batch
            advance(batch.n_records)


async def _indexed(index: LetterIndex) -> Extent:
    extent = await _extent()
    async for batch in _each(extent, "dead letters read"):
        index.add(batch.letters, batch.replays)
    index.complete()
    return extent


async def newest(index: LetterIndex, choice: Choice, limit: int) -> tuple[int, list[DeadLetter]]:
    """How many are chosen, and the newest so many of them, the oldest first. Raises Unavailable."""
    n_found = 0
    kept: list[tuple[str, str, DeadLetter]] = []
    async for batch in _each(await _extent(), "dead letters read"):
        index.add(batch.letters, batch.replays)
        chosen = [letter for letter in batch.letters if choice.has(letter)]
        n_found += len(chosen)
        for letter in chosen:
            entry = (letter.said("time") or "", letter.place, letter)
            heapq.heappush(kept, entry) if len(kept) < limit else heapq.heappushpop(kept, entry)
    index.complete()
    return n_found, [letter for *_, letter in sorted(kept)]


async def export(index: LetterIndex, choice: Choice, every: bool, write: Callable[[bytes], object]) -> int:
    """Writes a line of each, and returns how many. Raises Unavailable.

    `every`: also those that were sent again and did not come back.
    """
    n_found = 0
    async for batch in _each(await _indexed(index), "dead letters looked at"):
        for letter in batch.letters:
            is_done = not every and index.replayed(letter) and not index.refused_again(letter)
            if choice.has(letter) and not is_done:
                write(line_of(letter))
                n_found += 1
    return n_found


async def replay_all(index: LetterIndex, choice: Choice) -> tuple[int, int]:
    """How many of those that did not come back from a replay were sent again, and how many there are."""
    n_sent = n_chosen = 0
    extent = await _indexed(index)
    async with EventProducer() as producer:
        async for batch in _each(extent, "dead letters looked at"):
            chosen = [one for one in batch.letters if choice.has(one) and not index.refused_again(one)]
            n_chosen += len(chosen)
            n_sent += await send_again(producer, chosen)
    return n_sent, n_chosen


async def send_again(producer: EventProducer, chosen: Sequence[DeadLetter]) -> int:
    """Sends what can be sent, and notes in the dead-letter topic where it is now."""
    under_way = [(letter, delivery) for letter in chosen if (delivery := await _begin(producer, letter))]
    sent = [_replay(letter.place, await delivery) for letter, delivery in under_way]
    await _note(producer, sent)
    return len(sent)


async def _begin(producer: EventProducer, letter: DeadLetter) -> "asyncio.Future[RecordMetadata] | None":
    """Sends one again; None, and a line for the operator, if that cannot be done."""
    try:
        return await producer.send_record(*replay_of(letter))
    except InvalidEvent as error:
        reason = str(error)
    except MessageSizeTooLargeError:
        reason = f"larger than {letter.topic} takes"
    click.echo(visible(f"dead letter {letter.place} was not sent: {reason}"), err=True)
    return None


def _replay(place: str, at: RecordMetadata) -> replays.Replay:
    return replays.Replay(place, at.topic, at.partition, at.offset)


async def _note(producer: EventProducer, sent: Sequence[replays.Replay]) -> None:
    """After the sends: a crash in between leaves letters that look as if they had not been replayed, no more."""
    for note in replays.notes_of(sent):
        await producer.send_record(topics.DEAD_LETTER, None, note.value, note.headers)


async def put_lines(index: LetterIndex, file: BinaryIO) -> tuple[int, int]:
    """How many of the file's lines were sent, and how many could not be. Raises Unavailable."""
    async for batch in _each(await _extent(), "dead letters read"):
        index.add_headers(batch.letters)
    n_sent = n_refused = 0
    async with EventProducer() as producer:
        with progress("lines") as advance:
            async for chunk in chunks_of(lines_of(file), CHUNK_LINES):
                good, refused = _checked(chunk, index)
                for number, reason in sorted(refused.items()):
                    click.echo(visible(f"line {number}: {reason}"), err=True)
                n_sent += len(await send_corrected(producer, good))
                n_refused += len(refused)
                advance(len(chunk))
    return n_sent, n_refused


def _checked(chunk: Sequence[tuple[int, bytes]], index: LetterIndex) -> tuple[list[Correction], dict[int, str]]:
    """The corrected records of these lines; and by number of line, why others cannot be sent."""
    good: list[Correction] = []
    refused: dict[int, str] = {}
    for number, line in chunk:
        try:
            read = correction_of(line)
            place = f"{read.place[0]}:{read.place[1]}"
            if (headers := index.headers_at(place)) is None:
                raise InvalidEvent(f"there is no dead letter {place}")
            good.append(corrected(place, headers, read.event))
        except InvalidEvent as reason:
            refused[number] = str(reason)
    return good, refused


def corrected(place: str, headers: list[Header], event: bytes) -> Correction:
    """The event as a record, which gets the letter's own headers. Raises InvalidEvent."""
    (record,) = records_of([event])
    n_bytes = DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, headers)
    if n_bytes > topics.MAX_MESSAGE_BYTES:
        raise InvalidEvent(
            f"{n_bytes:,} bytes with the headers of the dead letter, {topics.MAX_MESSAGE_BYTES:,} at most"
        )
    return Correction(place, headers, record)


async def send_corrected(producer: EventProducer, corrections: Sequence[Correction]) -> list[RecordMetadata]:
    """Where the records are now; noted in the dead-letter topic."""
    under_way = [
        await producer.send_record(one.record.contract.topic, one.record.key, one.record.value, one.headers)
        for one in corrections
    ]
    deliveries = [await delivery for delivery in under_way]
    await _note(producer, [_replay(one.place, at) for one, at in zip(corrections, deliveries, strict=True)])
    return deliveries
