"""`emis-streams produce`: events from NDJSON, checked, at a given rate."""

import asyncio
import sys
from typing import BinaryIO

import click
from aiokafka.errors import MessageSizeTooLargeError

from emis_streams.cli.lines import chunks_of, lines_of, raw_lines_of
from emis_streams.cli.progress import progress
from emis_streams.engine.topic_names import ALLOWED, is_topic_name
from emis_streams.pace import Pace
from emis_streams.producer import EventProducer, check

Numbered = tuple[int, bytes]


def _topic_name(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    if name is not None and not is_topic_name(name):
        raise click.BadParameter(f"{name!r} is no name of a topic: {ALLOWED}")
    return name


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--rate", default=0.0, type=click.FloatRange(0), help="Events per second; 0: as fast as it goes.")
@click.option("--raw", is_flag=True, help="Send each line as it is, unchecked, to --topic.")
@click.option("--topic", callback=_topic_name, help="With --raw: where to.")
@click.option("--key", help="With --raw: key of the records; without it they have none.")
def produce(file: BinaryIO, rate: float, raw: bool, topic: str | None, key: str | None) -> None:
    """Send the events of FILE (NDJSON, - for stdin): one event per line, its eventType says the topic.

    A line that is not as the contract says is reported with its number and the reason, and not sent;
    the others are sent. Exit code 1 if there was one. With --raw anything is sent, to try dead letters.
    """
    if raw != (topic is not None) or (key is not None and not raw):
        raise click.UsageError("--raw and --topic go together, --key goes with them")
    sent, refused = asyncio.run(_produce(file, Pace(rate), topic, None if key is None else key.encode()))
    click.echo(f"{sent:,} sent, {refused:,} refused")
    sys.exit(1 if refused else 0)


async def _produce(file: BinaryIO, pace: Pace, topic: str | None, key: bytes | None) -> tuple[int, int]:
    n_sent = n_refused = 0
    lines = lines_of(file) if topic is None else raw_lines_of(file)
    with progress("lines") as advance:
        async with EventProducer() as producer:
            async for chunk in chunks_of(lines, pace.chunk):
                if topic is None:
                    refused = await _send_checked(producer, chunk)
                else:
                    refused = await _send_raw(producer, chunk, topic, key)
                n_sent += len(chunk) - refused
                n_refused += refused
                advance(len(chunk))
                await pace.wait(len(chunk))
    return n_sent, n_refused


async def _send_raw(producer: EventProducer, chunk: list[Numbered], topic: str, key: bytes | None) -> int:
    n_refused = 0
    for number, line in chunk:
        try:
            await producer.send_record(topic, key, line)
        except MessageSizeTooLargeError:
            click.echo(f"line {number}: {len(line):,} bytes, larger than a record may be", err=True)
            n_refused += 1
    return n_refused


async def _send_checked(producer: EventProducer, chunk: list[Numbered]) -> int:
    records, refused = check([line for _number, line in chunk])
    for place, reason in refused:
        click.echo(f"line {chunk[place][0]}: {reason}", err=True)
    await producer.send_records(records)
    return len(refused)
