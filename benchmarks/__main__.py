"""`python -m benchmarks`: the whole, or one part: `python -m benchmarks ingest --events 1000000 --only ours,faust`."""

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks import calls, long_lists, name_search, report, results
from benchmarks.contenders import Contender, all_contenders
from benchmarks.phases import FULL, QUICK, Plan, run_ingest, run_stage
from benchmarks.results import Results

HERE = Path(__file__).parent
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


def finish(collected: Results) -> None:
    print(report.markdown(results.read(collected.path)))
    say(f"results in {collected.path}")


@click.group(invoke_without_command=True)
@click.option("--quick", is_flag=True, help="A few minutes: shows that all of it works; its figures are not steady.")
@click.pass_context
def main(context: click.Context, quick: bool) -> None:
    """This project measured beside its peers. Without a command: everything."""
    context.obj = QUICK if quick else FULL
    if context.invoked_subcommand is None:
        collected = new_results()
        run_ingest(context.obj, all_contenders(), True, collected, say)
        run_stage(context.obj, collected, say)
        finish(collected)


@main.command()
@click.option("--events", type=int, help="how many events are put on the topics")
@click.option("--classes", type=int, help="over how many classes")
@click.option("--repeats", type=int)
@click.option("--only", help="contenders, comma-separated")
@click.option("--rebuild/--no-rebuild", default=True, show_default=True)
@click.option("--slow-seconds", type=float, help="time for contenders that are known to be slow")
@click.option("--most-seconds", type=float, help="time for one run of the others")
@click.pass_obj
def ingest(
    plan: Plan,
    events: int | None,
    classes: int | None,
    repeats: int | None,
    only: str | None,
    rebuild: bool,
    slow_seconds: float | None,
    most_seconds: float | None,
) -> None:
    """Events to table, and the lost table built again."""
    load = replace(plan.load, events=events or plan.load.events, classes=classes or plan.load.classes)
    asked = replace(
        plan,
        load=load,
        repeats=repeats or plan.repeats,
        slow_seconds=slow_seconds or plan.slow_seconds,
        most_seconds=most_seconds or plan.most_seconds,
    )
    collected = new_results()
    run_ingest(asked, chosen(only), rebuild, collected, say)
    finish(collected)


@main.command()
@click.option("--events", type=int, help="class events that are put on the topics")
@click.option("--classes", type=int, help="over how many classes")
@click.option("--repeats", type=int)
@click.pass_obj
def stage(plan: Plan, events: int | None, classes: int | None, repeats: int | None) -> None:
    """Pipeline into MariaDB, teacher detail under load, event to page."""
    load = replace(plan.stage_load, events=events or plan.stage_load.events, classes=classes or plan.stage_load.classes)
    collected = new_results()
    run_stage(replace(plan, stage_load=load, repeats=repeats or plan.repeats), collected, say)
    finish(collected)


@main.command(name="report")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def report_(file: Path) -> None:
    """The Markdown tables of a run that was made before."""
    print(report.markdown(results.read(file)))


@main.command("calls")
@click.option("--seconds", default=10.0, show_default=True, help="how long each turn is measured")
@click.option("--repeats", default=3, show_default=True, help="turns of each peer")
@click.option("--concurrency", default=100, show_default=True, help="calls at once")
def calls_command(seconds: float, repeats: int, concurrency: int) -> None:
    """Calls between services over Kafka, beside NestJS's transport (needs node and npm)."""
    turns = calls.run(seconds, repeats, concurrency, say)
    print(calls.table(turns))
    if any(turn.errors for turn in turns):
        sys.exit(1)


@main.command("lists")
@click.option("--rows", default=1_000_000, show_default=True, help="of each long list")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=HERE / "results" / "lists")
def lists_command(rows: int, folder: Path) -> None:
    """What answers about very long lists cost (no brokers); filling takes minutes, once for each FOLDER."""
    collected = new_results()
    long_lists.run(rows, folder, collected, say)
    say(f"results in {collected.path}")


@main.command("search")
@click.option("--classes", default=1_000_000, show_default=True, help="with 1.3 teachers and 6.5 assignments each")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=HERE / "results" / "search")
def search_command(classes: int, folder: Path) -> None:
    """What finding by name costs (no brokers); filling takes ten minutes, once for each FOLDER."""
    collected = new_results()
    name_search.run(classes, folder, collected, say)
    say(f"results in {collected.path}")


if __name__ == "__main__":
    main()
