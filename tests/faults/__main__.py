"""`python -m tests.faults`: the fault matrix on real processes. One JSON line per row on standard output.

Exit code 1 if a row is red. What each process wrote, sent and read is kept in a folder below build/faults.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from tests.faults.checker.verdict import Verdict
from tests.faults.course import Course, Row
from tests.faults.rows import ALL
from tests.faults.stage import ROOT, Stage

_BEGAN = time.monotonic()


def say(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - _BEGAN), 60)
    print(f"{minutes:3}:{seconds:02} {text}", file=sys.stderr, flush=True)


async def run_rows(rows: list[Row], seed: int, folder: Path, code: Path = ROOT) -> list[Verdict]:
    """All rows one after the other on one stage."""
    verdicts = []
    async with Stage(folder / "stage", code) as stage:
        say(f"stage is ready: {stage.brokers}")
        for row in rows:
            course = Course(stage, row, seed, folder / f"row-{row.id}", say)
            verdict = await course.run()
            verdicts.append(verdict)
            print(verdict.line(), flush=True)
            tell(verdict)
            with (folder / "verdicts.jsonl").open("a", encoding="utf-8") as out:
                out.write(json.dumps(asdict(verdict), ensure_ascii=False) + "\n")
    return verdicts


def tell(verdict: Verdict) -> None:
    colour = {True: "\033[32m", False: "\033[31m"}[verdict.green] if sys.stderr.isatty() else ""
    end = "\033[0m" if colour else ""
    outcome = f"{colour}{'green' if verdict.green else 'RED'}{end}"
    say(f"{outcome} {verdict.row} {verdict.name}, {verdict.seconds:.0f} s {verdict.said}")
    for line in verdict.broken:
        say(f"      {line}")


def chosen(which: str, only: str | None) -> list[Row]:
    if only is None:
        return [row for row in ALL if which == "all" or row.in_ci]
    by_id = {row.id: row for row in ALL}
    unknown = [row_id for row_id in only.split(",") if row_id not in by_id]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: not one of {', '.join(by_id)}")
    return [by_id[row_id] for row_id in only.split(",")]


@click.command()
@click.option("--set", "which", type=click.Choice(["ci", "all"]), default="all", show_default=True)
@click.option("--rows", "only", help="ids, comma-separated, instead of a set")
@click.option("--seed", default=1, show_default=True)
def main(which: str, only: str | None, seed: int) -> None:
    """The fault matrix. Bounded in time; all traffic stays on loopback."""
    folder = ROOT / "build" / "faults" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    say(f"seed {seed}, kept in {folder.relative_to(ROOT)}")
    verdicts = asyncio.run(run_rows(chosen(which, only), seed, folder))
    red = [v.row for v in verdicts if not v.green]
    say(f"{len(verdicts) - len(red)} passed, {len(red)} failed" + (f": {', '.join(red)}" if red else ""))
    sys.exit(bool(red))


if __name__ == "__main__":
    main()
