"""`emis-streams dead-letters`: list, show, replay and correct the records that could not be used."""

import asyncio
import re
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import click
import msgspec
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import RecordMetadata

from emis_streams import dead_letters as letters_
from emis_streams import replays, settings, topics
from emis_streams.cli.logs import visible
from emis_streams.dead_letters import DeadLetter, NoSuchLetter, replay_of
from emis_streams.errors import InvalidEvent
from emis_streams.producer import EventProducer, Record, records_of

REASON_SHOWN = 90


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
            click.echo(msgspec.json.encode(letter.summary() | {"refusedAgain": letter.place in again}))
        else:
            click.echo(_line(letter, letter.place in again))
    if not as_json:
        click.echo(f"{len(found):,} dead letter(s)" + (f", the newest {limit} shown" if len(found) > limit else ""))
    sys.exit(0 if found else 1)


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
    click.echo(f"dead letter  {letter.place}\ncame from    {letter.origin}")
    click.echo(f"sent at      {letter.said('timestamp')}\nrefused at   {letter.said('time')}")
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
@click.argument("place", type=PLACE)
@click.argument("file", type=click.File("rb"))
def put(place: tuple[int, int], file: BinaryIO) -> None:
    """Send a corrected event in place of a dead letter: FILE (- for stdin) is the event's JSON.

    It is checked against the contract first; topic and key follow from it.
    """
    letter = _found(place)
    (record,) = records_of([file.read().strip()])
    delivery = asyncio.run(_send_corrected(letter, record))
    click.echo(f"sent to {delivery.topic}:{delivery.partition}:{delivery.offset}")


async def _send_corrected(letter: DeadLetter, record: Record) -> RecordMetadata:
    async with EventProducer() as producer:
        topic = record.contract.topic
        delivery = await (await producer.send_record(topic, record.key, record.value, letter.own_headers))
        await _note(producer, [_replay(letter, delivery)])
        return delivery
