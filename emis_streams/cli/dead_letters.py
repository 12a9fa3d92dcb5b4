"""`emis-streams dead-letters`: list, show, replay and correct the records that could not be used."""

import asyncio
import re
import sys
from typing import Any, BinaryIO, cast

import click
import msgspec
from aiokafka.structs import RecordMetadata

from emis_streams import dead_letters as letters_
from emis_streams import settings
from emis_streams.cli import dead_letter_bulk as bulk
from emis_streams.cli.dead_letter_bulk import Choice
from emis_streams.cli.dead_letter_lines import value_members
from emis_streams.cli.logs import visible
from emis_streams.dead_letter_index import LetterIndex
from emis_streams.dead_letters import DeadLetter, NoSuchLetter
from emis_streams.producer import EventProducer
from emis_streams.quantities import counted

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
    with LetterIndex() as index:
        n_found, newest = asyncio.run(bulk.newest(index, Choice(reason, topic), limit))
        for letter in newest:
            again = index.refused_again(letter)
            click.echo(_json_line(letter, again) if as_json else _line(letter, again))
    if not as_json:
        click.echo(counted(n_found, "dead letter") + (f", the newest {limit} shown" if n_found > limit else ""))
    sys.exit(0 if n_found else 1)


def _json_line(letter: DeadLetter, refused_again: bool) -> bytes:
    """What is said of it, and its value: `event` if that is JSON, else as text, or in base64."""
    return msgspec.json.encode(letter.summary() | value_members(letter.value) | {"refusedAgain": refused_again})


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
    return f"{counted(len(raw), 'byte')}, no text, in hexadecimal: {raw.hex()}"


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
    n_sent, n_chosen = asyncio.run(_replay_all(Choice(reason, topic)) if place is None else _replay_one(_found(place)))
    click.echo(f"{n_sent:,} of {n_chosen:,} sent again")
    sys.exit(0 if n_sent == n_chosen else 1)


async def _replay_all(choice: Choice) -> tuple[int, int]:
    with LetterIndex() as index:
        return await bulk.replay_all(index, choice)


async def _replay_one(letter: DeadLetter) -> tuple[int, int]:
    async with EventProducer() as producer:
        return await bulk.send_again(producer, [letter]), 1


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
    with LetterIndex() as index:
        n_found = asyncio.run(bulk.export(index, Choice(reason, topic), every, file.write))
    click.echo(counted(n_found, "dead letter"), err=True)
    sys.exit(0 if n_found else 1)


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
        one = bulk.corrected(letter.place, letter.own_headers, file.read().strip())
        delivery = asyncio.run(_put_one(one))
        click.echo(f"sent to {delivery.topic}:{delivery.partition}:{delivery.offset}")
        return
    with LetterIndex() as index:
        n_sent, n_refused = asyncio.run(bulk.put_lines(index, file))
    click.echo(f"{n_sent:,} sent, {n_refused:,} refused")
    sys.exit(1 if n_refused else 0)


async def _put_one(correction: bulk.Correction) -> RecordMetadata:
    async with EventProducer() as producer:
        (delivery,) = await bulk.send_corrected(producer, [correction])
    return delivery
