"""`python -m benchmarks`: the whole, or one phase: `python -m benchmarks ingest --events 1000000 --only ours,faust`."""

import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks import peers, preload
from benchmarks.contenders import Contender, all_contenders
from benchmarks.data import PARTITIONS, Load, class_events
from benchmarks.ingest import Course
from benchmarks.offsets import Brokers
from benchmarks.results import Results
from benchmarks.tables import SourceFold
from emis_streams import topics
from emis_streams.local.kafka import KafkaCluster

HERE = Path(__file__).parent
WORK = HERE / ".work"
_BEGIN = time.monotonic()


def say(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - _BEGIN), 60)
    print(f"{minutes:3}:{seconds:02} {text}", file=sys.stderr, flush=True)


def chosen(only: str | None) -> list[Contender]:
    """The contenders named, in their order; raises BadParameter for names that there are not."""
    every = all_contenders()
    if not only:
        return every
    names = only.split(",")
    unknown = set(names) - {c.name for c in every}
    if unknown:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: not one of {', '.join(c.name for c in every)}")
    return [c for c in every if c.name in names]


def new_results() -> Results:
    return Results(HERE / "results" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl")


@click.group()
def main() -> None:
    """This project measured beside its peers."""


@main.command()
@click.option("--events", default=3_000_000, show_default=True)
@click.option("--classes", default=1_000_000, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--only", help="contenders, comma-separated")
@click.option("--rebuild/--no-rebuild", default=True, show_default=True)
@click.option("--slow-seconds", default=60.0, show_default=True, help="time for contenders that are known to be slow")
@click.option("--most-seconds", default=300.0, show_default=True, help="time for one run of the others")
def ingest(
    events: int, classes: int, repeats: int, only: str | None, rebuild: bool, slow_seconds: float, most_seconds: float
) -> None:
    """Events to table, and the table rebuilt."""
    contenders = chosen(only)
    results = new_results()
    peers.set_up(say)
    shutil.rmtree(WORK, ignore_errors=True)
    with KafkaCluster(WORK / "kafka", heap_mb=1024) as kafka:
        brokers = Brokers(kafka.bootstrap)
        brokers.create({t.name: t.config for t in topics.source_topics()}, PARTITIONS)
        preload.send_all(kafka.bootstrap, class_events(Load(events, classes)), say)
        fold = SourceFold(brokers)
        say(f"{len(fold.catch_up()):,} classes to be found in every table")
        course = Course(brokers, WORK, fold, results, slow_seconds, most_seconds, say)
        for repeat in range(1, repeats + 1):
            for contender in contenders:
                course.run(contender, repeat, rebuild)
    say(f"results in {results.path}")


if __name__ == "__main__":
    main()
