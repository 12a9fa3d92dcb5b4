"""`emis-streams dead-letters`: list, show, replay and correct the records that could not be used."""

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, cast

import click
import msgspec
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import RecordMetadata

from emis_streams import dead_letters as letters_
from emis_streams import replays, settings, topics
from emis_streams.cli.dead_letter_lines import correction_of, line_of, value_members
from emis_streams.cli.lines import chunks_of, lines_of
from emis_streams.cli.logs import visible
from emis_streams.cli.progress import progress
from emis_streams.dead_letters import DeadLetter, NoSuchLetter, replay_of
from emis_streams.errors import InvalidEvent
from emis_streams.producer import EventProducer, Record, records_of

REASON_SHOWN = 90
CHUNK_LINES = 1_000


class _Place(click.ParamType):
    """PARTITION:OFFSET in the dead-letter topic."""

    name = "P:O"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+):(\d+)", value)
        if match is None:
            self.fail(f"{value!r} is not PARTITION:OFFSET, as `dead-letters list` shows them", param, ctx)
        return int(match[1]), int(match[2])


PLACE = _Place()


@click.group()
def dead_letters() -> None:
    """Records that could not be used: as they came, with where from and why.

    They are kept 30 days in the topic emis.dead-letter, and are named by PARTITION:OFFSET in it.
    """


@dead_letters.command("list")
@click.option("--reason", default="", help="Only those whose reason contains this text.")
@click.option("--topic", help="Only those that came from this topic.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_(reason: str, topic: str | None, limit: int, as_json: bool) -> None:
    """List the newest dead letters, the oldest of them first. Exit code 1 if there are none."""
    contents = asyncio.run(letters_.contents(settings.current()))
    found = _matching(contents.letters, reason, topic)
    again = contents.refused_again()
    for letter in sorted(found, key=lambda one: (one.said("time") or "", one.place))[-limit:]:
        if as_json:
            click.echo(msgspec.json.encode(_as_json(letter) | {"refusedAgain": letter.place in again}))
        else:
            click.echo(_line(letter, letter.place in again))
    if not as_json:
        click.echo(f"{len(found):,} dead letter(s)" + (f", the newest {limit} shown" if len(found) > limit else ""))
    sys.exit(0 if found else 1)


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    """What is said of it, and its value: `event` if that is JSON, else as text, or in base64."""
    return letter.summary() | value_members(letter.value)


def _matching(letters: Sequence[DeadLetter], reason: str, topic: str | None) -> list[DeadLetter]:
    return [one for one in letters if reason in one.reason and topic in (None, one.topic)]


def _line(letter: DeadLetter, refused_again: bool) -> str:
    reason = letter.reason.strip().splitlines()[-1] if letter.reason.strip() else ""
    shown = reason if len(reason) <= REASON_SHOWN else reason[: REASON_SHOWN - 1] + "…"
    again = " (replayed, refused again)" if refused_again else ""
    return visible(f"{letter.place:>8}  {letter.said('time') or '?':24}  {letter.origin}  {shown}{again}")


@dead_letters.command()
@click.argument("place", type=PLACE)
@click.option("--value-only", is_flag=True, help="Only the bytes of the value, for `put` after correcting them.")
def show(place: tuple[int, int], value_only: bool) -> None:
    """Show one dead letter: where from, why, when, its headers, key and value."""
    letter = _found(place)
    if value_only:
        click.get_binary_stream("stdout").write(letter.value or b"")
        return
    click.echo(f"dead letter  {letter.place}\ncame from    {visible(letter.origin)}")
    for name, header in (("sent at", "timestamp"), ("refused at", "time")):
        click.echo(f"{name:12} {visible(letter.said(header) or '?')}")
    click.echo("reason       " + "\n".join(visible(line) for line in letter.reason.splitlines()))
    for name, value in letter.own_headers:
        click.echo(f"header       {visible(name)}: {_readable(value)}")
    click.echo(f"key          {_readable(letter.key)}\nvalue        {_readable(letter.value)}")


def _found(place: tuple[int, int]) -> DeadLetter:
    try:
        return asyncio.run(letters_.letter_at(settings.current(), *place))
    except NoSuchLetter as error:
        raise click.ClickException(str(error)) from None


def _readable(raw: bytes | None) -> str:
    """Text if it is text; else hexadecimal, as `xxd -r -p` reads it."""
    if raw is None:
        return "null"
    text = raw.decode("utf-8", "replace")
    if "\ufffd" not in text and all(c.isprintable() or c in "\t\n" for c in text):
        return text or "(empty)"
    return f"{len(raw)} bytes that are no text, in hexadecimal: {raw.hex()}"


@dead_letters.command()
@click.argument("place", type=PLACE, required=False)
@click.option("--all", "every", is_flag=True, help="All of them, but for those that came back from a replay.")
@click.option("--reason", default="", help="With --all: only those whose reason contains this text.")
@click.option("--topic", help="With --all: only those that came from this topic.")
def replay(place: tuple[int, int] | None, every: bool, reason: str, topic: str | None) -> None:
    """Send dead letters to their topics again, as they came: after the cause is gone.

    Versions decide as always: an event that is out of date by now changes nothing.
    """
    if (place is not None) == every or ((reason or topic) and not every):
        raise click.UsageError("give either P:O or --all (which --reason and --topic go with)")
    chosen = [_found(place)] if place is not None else asyncio.run(_to_replay(reason, topic))
    n_sent = asyncio.run(_send_again(chosen))
    click.echo(f"{n_sent:,} of {len(chosen):,} sent again")
    sys.exit(0 if n_sent == len(chosen) else 1)


async def _to_replay(reason: str, topic: str | None) -> list[DeadLetter]:
    contents = await letters_.contents(settings.current())
    again = contents.refused_again()
    return [one for one in _matching(contents.letters, reason, topic) if one.place not in again]


async def _send_again(chosen: Sequence[DeadLetter]) -> int:
    """Sends what can be sent, and notes in the dead-letter topic where it is now."""
    async with EventProducer() as producer:
        under_way = [(letter, delivery) for letter in chosen if (delivery := await _begin(producer, letter))]
        sent = [_replay(letter, await delivery) for letter, delivery in under_way]
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


def _replay(letter: DeadLetter, at: RecordMetadata) -> replays.Replay:
    return replays.Replay(letter.place, at.topic, at.partition, at.offset)


async def _note(producer: EventProducer, sent: Sequence[replays.Replay]) -> None:
    """After the sends: a crash in between leaves letters that look as if they had not been replayed, no more."""
    for note in replays.notes_of(sent):
        await producer.send_record(topics.DEAD_LETTER, None, note.value, note.headers)


@dead_letters.command()
@click.option("--reason", default="", help="Only those whose reason contains this text.")
@click.option("--topic", help="Only those that came from this topic.")
@click.option("--all", "every", is_flag=True, help="Also those that were sent again and did not come back.")
@click.argument("file", type=click.File("wb"), default="-")
def export(reason: str, topic: str | None, every: bool, file: BinaryIO) -> None:
    """Write dead letters to FILE (default: stdout), one per line (NDJSON), to correct many at once.

    Correct the `event` of each line (or `value`, if it was no JSON) and give the lines to `dead-letters put -`.
    Exit code 1 if there are none.
    """
    contents = asyncio.run(letters_.contents(settings.current()))
    again = contents.refused_again()
    done = set() if every else {replay.place for replay in contents.replays} - again
    found = [one for one in _matching(contents.letters, reason, topic) if one.place not in done]
    for letter in found:
        file.write(line_of(letter))
    click.echo(f"{len(found):,} dead letter(s)", err=True)
    sys.exit(0 if found else 1)


@dead_letters.command()
@click.argument("place_and_file", metavar="[P:O] FILE", nargs=-1, required=True)
def put(place_and_file: tuple[str, ...]) -> None:
    """Send corrected events in place of dead letters.

    With P:O, FILE (- for stdin) is the JSON of the one event. Without, FILE has lines as `dead-letters export` writes
    them. Events are checked against the contract first; topic and key follow from them. A line that cannot be sent is
    reported with its number and the reason, the others are sent. Exit code 1 if there was one.
    """
    if len(place_and_file) > 2:
        raise click.UsageError("give [P:O] FILE")
    file = cast(BinaryIO, click.File("rb").convert(place_and_file[-1], None, None))
    if len(place_and_file) == 2:
        letter = _found(PLACE.convert(place_and_file[0], None, None))
        record = _corrected(letter, file.read().strip())
        (delivery,) = asyncio.run(_send_corrected([(letter, record)]))
        click.echo(f"sent to {delivery.topic}:{delivery.partition}:{delivery.offset}")
        return
    n_sent, n_refused = asyncio.run(_put_lines(file))
    click.echo(f"{n_sent:,} sent, {n_refused:,} refused")
    sys.exit(1 if n_refused else 0)


async def _put_lines(file: BinaryIO) -> tuple[int, int]:
    """How many of the file's lines were sent, and how many could not be."""
    letters = {(one.partition, one.offset): one for one in (await letters_.contents(settings.current())).letters}
    n_sent = n_refused = 0
    with progress("lines") as advance:
        async for chunk in chunks_of(lines_of(file), CHUNK_LINES):
            good, refused = _checked(chunk, letters)
            for number, reason in sorted(refused.items()):
                click.echo(visible(f"line {number}: {reason}"), err=True)
            n_sent += len(await _send_corrected(good))
            n_refused += len(refused)
            advance(len(chunk))
    return n_sent, n_refused


def _checked(
    chunk: Sequence[tuple[int, bytes]], letters: Mapping[tuple[int, int], DeadLetter]
) -> tuple[list[tuple[DeadLetter, Record]], dict[int, str]]:
    """The letters of these lines with their corrected records; and by number of line, why others cannot be sent."""
    good: list[tuple[DeadLetter, Record]] = []
    refused: dict[int, str] = {}
    for number, line in chunk:
        try:
            correction = correction_of(line)
            if (letter := letters.get(correction.place)) is None:
                raise InvalidEvent(f"there is no dead letter {correction.place[0]}:{correction.place[1]}")
            good.append((letter, _corrected(letter, correction.event)))
        except InvalidEvent as reason:
            refused[number] = str(reason)
    return good, refused


def _corrected(letter: DeadLetter, event: bytes) -> Record:
    """The event as a record, which gets the letter's own headers. Raises InvalidEvent."""
    (record,) = records_of([event])
    n_bytes = DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, letter.own_headers)
    if n_bytes > topics.MAX_MESSAGE_BYTES:
        raise InvalidEvent(
            f"{n_bytes:,} bytes with the headers of the dead letter, {topics.MAX_MESSAGE_BYTES:,} at most"
        )
    return record


async def _send_corrected(corrected: Sequence[tuple[DeadLetter, Record]]) -> list[RecordMetadata]:
    """Where the records are now; noted in the dead-letter topic."""
    async with EventProducer() as producer:
        under_way = [
            await producer.send_record(record.contract.topic, record.key, record.value, letter.own_headers)
            for letter, record in corrected
        ]
        deliveries = [await delivery for delivery in under_way]
        pairs = zip(corrected, deliveries, strict=True)
        await _note(producer, [_replay(letter, delivery) for (letter, _record), delivery in pairs])
    return deliveries
