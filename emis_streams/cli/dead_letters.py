"""`emis-streams dead-letters`: list, show, replay and correct the records that could not be used."""

import asyncio
import re
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import click
import msgspec

from emis_streams import dead_letters as letters_
from emis_streams import settings
from emis_streams.cli.logs import visible
from emis_streams.dead_letters import DeadLetter, NoSuchLetter, original_headers, replay_of
from emis_streams.errors import InvalidEvent
from emis_streams.producer import EventProducer, records_of

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
    found = _matching(asyncio.run(_all()), reason, topic)
    again = letters_.refused_again(found)
    for letter in sorted(found, key=lambda one: (one.said("time") or "", one.place))[-limit:]:
        if as_json:
            click.echo(msgspec.json.encode(letter.summary() | {"refusedAgain": letter.place in again}))
        else:
            click.echo(_line(letter, letter.place in again))
    if not as_json:
        click.echo(f"{len(found):,} dead letter(s)" + (f", the newest {limit} shown" if len(found) > limit else ""))
    sys.exit(0 if found else 1)


async def _all() -> list[DeadLetter]:
    return [letter async for letter in letters_.letters(settings.current())]


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
    for name, value in original_headers(letter.headers):
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
    chosen = [_found(place)] if place is not None else _to_replay(asyncio.run(_all()), reason, topic)
    n_sent = asyncio.run(_send_again(chosen))
    click.echo(f"{n_sent:,} of {len(chosen):,} sent again")
    sys.exit(0 if n_sent == len(chosen) else 1)


def _to_replay(letters: Sequence[DeadLetter], reason: str, topic: str | None) -> list[DeadLetter]:
    again = letters_.refused_again(letters)
    return [one for one in _matching(letters, reason, topic) if one.place not in again]


async def _send_again(chosen: Sequence[DeadLetter]) -> int:
    n_sent = 0
    async with EventProducer() as producer:
        for letter in chosen:
            try:
                record = replay_of(letter)
            except InvalidEvent as error:
                click.echo(str(error), err=True)
                continue
            await producer.send_record(record.topic, record.key, record.value, record.headers, record.partition)
            n_sent += 1
    return n_sent


@dead_letters.command()
@click.argument("place", type=PLACE)
@click.argument("file", type=click.File("rb"))
def put(place: tuple[int, int], file: BinaryIO) -> None:
    """Send a corrected event in place of a dead letter: FILE (- for stdin) is the event's JSON.

    It is checked against the contract first; topic and key follow from it.
    """
    letter = _found(place)
    (record,) = records_of([file.read().strip()])
    headers = [*original_headers(letter.headers), (letters_.REPLAYED, letter.place.encode())]
    delivery = asyncio.run(_send_one(record.contract.topic, record.key, record.value, headers))
    click.echo(f"sent to {delivery.topic}:{delivery.partition}:{delivery.offset}")


async def _send_one(topic: str, key: bytes, value: bytes, headers: letters_.Headers) -> Any:
    async with EventProducer() as producer:
        return await (await producer.send_record(topic, key, value, headers))
