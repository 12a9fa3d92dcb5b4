"""`python -m tests.faults`: the fault matrix on real processes. One JSON line per row, or mutant, on standard output.

Exit code 1 if a row is red. What each process wrote, sent and read is kept in a folder below build/faults.
"""

import asyncio
import faulthandler
import itertools
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from tests.faults import soak
from tests.faults.checker.verdict import Verdict
from tests.faults.course import Course, Row
from tests.faults.mutants import run as mutant_run
from tests.faults.mutants.catalogue import MUTANTS, Mutant
from tests.faults.rows import ALL
from tests.faults.stage import ROOT, Stage

_BEGAN = time.monotonic()
_ROWS_PER_STAGE = 17
"""What a row leaves behind makes each comparison and each rebuild after it longer; a stage takes 11 s to set up."""


def say(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - _BEGAN), 60)
    print(f"{minutes:3}:{seconds:02} {text}", file=sys.stderr, flush=True)


async def run_rows(rows: list[Row], seed: int, folder: Path, *, in_ci: bool = False) -> list[Verdict]:
    """All rows one after the other, some on one stage."""
    verdicts: list[Verdict] = []
    for n_stage in itertools.count(1):
        if len(verdicts) == len(rows):
            break
        async with Stage(folder / f"stage-{n_stage}") as stage:
            say(f"stage is ready: {stage.brokers}")
            for row in rows[len(verdicts) : len(verdicts) + _ROWS_PER_STAGE]:
                kept = folder / f"{len(verdicts) + 1:02}-{row.id}"
                verdicts.append(await run_row(stage, row, seed, kept, in_ci=in_ci))
                if not stage.is_usable:
                    break
    return verdicts


async def run_row(stage: Stage, row: Row, seed: int, kept: Path, *, in_ci: bool) -> Verdict:
    """One that shows nothing is run once more.

    In CI so is one that is not right, as its machines do other work too: both verdicts are told, and what is wrong
    twice fails.
    """
    verdict = await Course(stage, row, seed, kept, say).run()
    tell(verdict, kept.parent)
    if stage.is_usable and ((not verdict.valid and not verdict.found) or (in_ci and not verdict.right)):
        say("      once more")
        verdict = await Course(stage, row, seed, kept.with_name(f"{kept.name}-again"), say).run()
        tell(verdict, kept.parent)
    return verdict


def tell(verdict: Verdict, folder: Path) -> None:
    print(verdict.line(), flush=True)
    with (folder / "verdicts.jsonl").open("a", encoding="utf-8") as out:
        out.write(json.dumps(asdict(verdict), ensure_ascii=False) + "\n")
    colour = {True: "\033[32m", False: "\033[31m"}[verdict.green] if sys.stderr.isatty() else ""
    end = "\033[0m" if colour else ""
    outcome = f"{colour}{'green' if verdict.green else 'RED'}{end}"
    say(f"{outcome} {verdict.row} {verdict.name}, {verdict.seconds:.0f} s {verdict.said}")
    for line in (*verdict.broken, *verdict.slow):
        say(f"      {line}")


def chosen(which: str, only: str | None) -> list[Row]:
    if only is None:
        return [row for row in ALL if which == "all" or row.in_ci]
    by_id = {row.id: row for row in ALL}
    unknown = [row_id for row_id in only.split(",") if row_id not in by_id]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: not one of {', '.join(by_id)}")
    return [by_id[row_id] for row_id in only.split(",")]


def listing() -> str:
    """Id, name, and whether it is run by CI, of every row."""
    return "\n".join(f"{row.id:16} {'ci' if row.in_ci else '  '} {row.name}" for row in ALL)


def end(n_passed: int, failed: list[str]) -> NoReturn:
    """The closing line stands alone: CI reads it."""
    if failed:
        say(f"failed: {', '.join(failed)}")
    print(f"{n_passed} passed, {len(failed)} failed", file=sys.stderr, flush=True)
    sys.exit(bool(failed))


def mutants_named(only: str | None) -> list[Mutant]:
    try:
        return mutant_run.chosen(only)
    except KeyError as unknown:
        raise click.BadParameter(f"{unknown}: not one of {', '.join(m.name for m in MUTANTS)}") from None


@click.command()
@click.option("--set", "which", type=click.Choice(["ci", "all"]), default="all", show_default=True)
@click.option("--rows", "only_rows", help="ids, comma-separated, instead of a set")
@click.option("--seed", default=1, show_default=True)
@click.option("--list", "is_list", is_flag=True, help="the rows: id, whether CI runs it, name")
@click.option("--mutants", "is_mutants", is_flag=True, help="the application with mistakes: each has to be caught")
@click.option("--only", help="with --mutants: names, comma-separated")
@click.option("--soak", "soak_minutes", type=click.FloatRange(min=1), metavar="MINUTES", help="a fault every minute")
def main(
    which: str,
    only_rows: str | None,
    seed: int,
    is_list: bool,
    is_mutants: bool,
    only: str | None,
    soak_minutes: float | None,
) -> None:
    """The fault matrix. Bounded in time; all traffic stays on loopback."""
    faulthandler.enable()  # librdkafka is C.
    if is_list:
        click.echo(listing())
        return
    rows = [soak.row(soak_minutes, seed)] if soak_minutes else chosen(which, only_rows)
    mutants = mutants_named(only) if is_mutants else []
    folder = ROOT / "build" / "faults" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    say(f"seed {seed}, kept in {folder.relative_to(ROOT)}")
    if mutants:
        caught = asyncio.run(mutant_run.run_mutants(mutants, seed, folder, say))
        end(sum(caught.values()), [name for name, is_caught in caught.items() if not is_caught])
    verdicts = asyncio.run(run_rows(rows, seed, folder, in_ci=which == "ci"))
    # A push is held to what is promised; how fast it was is told, as CI's machine has other work to do.
    red = [v.row for v in verdicts if not (v.right if which == "ci" else v.green)]
    end(len(verdicts) - len(red), red)


if __name__ == "__main__":
    main()
