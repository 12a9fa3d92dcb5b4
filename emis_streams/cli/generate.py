"""`emis-streams generate`: a realistic country, to Kafka or into a file."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO

import click
import msgspec

from emis_streams import generate as made_up
from emis_streams.cli.progress import progress
from emis_streams.events import Event
from emis_streams.generate import Country
from emis_streams.pace import Pace
from emis_streams.producer import EventProducer
from emis_streams.quantities import counted


@click.command()
@click.option("--classes", default=20_000, show_default=True, type=click.IntRange(1, 100_000_000), help="How many.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same country.")
@click.option(
    "--teachers-per-class",
    default=6,
    show_default=True,
    type=click.IntRange(1, made_up.MOST_POSTS),
    help="Most teachers of one class; a real upper secondary class has 12.",
)
@click.option(
    "--events-per-class",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="1: only created; n: and n-1 rounds of updates.",
)
@click.option("--updates", default=0, show_default=True, type=click.IntRange(0), help="Updates of some classes, after.")
@click.option("--rate", default=0.0, type=click.FloatRange(0), help="Events per second; 0: as fast as it goes.")
@click.option("--to-file", type=click.File("wb", lazy=True), help="Write NDJSON (- for stdout), send nothing.")
@click.option("--print-teachers", type=click.IntRange(1), help="Print the ids of so many teachers, send nothing.")
def generate(
    classes: int,
    seed: int,
    teachers_per_class: int,
    events_per_class: int,
    updates: int,
    rate: float,
    to_file: BinaryIO | None,
    print_teachers: int | None,
) -> None:
    """Make a country: schools of 40 classes, their teachers, who teaches what.

    Ids and names follow from the seed, so that a second run makes the same country again; times are of now.
    """
    country = Country(seed, classes, teachers_per_class)
    if print_teachers is not None:
        click.echo("\n".join(made_up.sample_teacher_ids(seed, classes, print_teachers)))
        return
    rounds = events_per_class - 1
    total = made_up.n_events(country, rounds, updates)
    events = made_up.all_events(country, rounds, updates)
    started = time.monotonic()
    if to_file is not None:
        _write(events, total, to_file)
    else:
        asyncio.run(_send(events, total, rate))
    seconds = time.monotonic() - started
    click.echo(
        f"{counted(total, 'event')} of {counted(country.n_schools, 'school')} and "
        f"{counted(classes, 'class', 'classes')}, seed {seed}, "
        f"in {seconds:.1f} s ({total / seconds:,.0f}/s)",
        err=to_file is not None,
    )


def _chunks(events: Iterable[Event], size: int) -> Iterator[list[Event]]:
    iterator = iter(events)
    while chunk := list(islice(iterator, size)):
        yield chunk


async def _send(events: Iterable[Event], total: int, rate: float) -> None:
    pace = Pace(rate)
    with progress("events", total) as advance:
        async with EventProducer() as producer:
            for chunk in _chunks(events, pace.chunk):
                await producer.send_many(chunk)
                advance(len(chunk))
                await pace.wait(len(chunk))


def _write(events: Iterable[Event], total: int, file: BinaryIO) -> None:
    encoder = msgspec.json.Encoder()
    with progress("events", total) as advance:
        for chunk in _chunks(events, 5_000):
            file.write(encoder.encode_lines(chunk))
            advance(len(chunk))
