"""Runs the mutants: one line each, and whether every one was caught."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.checker.verdict import Verdict
from tests.faults.course import Course, Row
from tests.faults.mutants.catalogue import MUTANTS, Mutant, apply, copy_of
from tests.faults.stage import ROOT, NotInTime, Stage

Say = Callable[[str], None]


async def run_mutants(mutants: Sequence[Mutant], seed: int, folder: Path, say: Say) -> dict[str, bool]:
    """Whether each was caught, by a row that finds nothing in the application as it is."""
    async with Stage(folder / "stage") as stage:
        say("stage is ready")
        sound = {row.id: await _is_sound(stage, row, seed, folder, say) for row in _rows_of(mutants)}
        return {m.name: await _is_caught(stage, m, seed, folder, say, sound[m.row.id]) for m in mutants}


def chosen(only: str | None) -> list[Mutant]:
    """Raises KeyError."""
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    return list(MUTANTS) if only is None else [by_name[name] for name in only.split(",")]


def _rows_of(mutants: Sequence[Mutant]) -> list[Row]:
    return list({mutant.row.id: mutant.row for mutant in mutants}.values())


async def _is_sound(stage: Stage, row: Row, seed: int, folder: Path, say: Say) -> bool:
    """Whether the row bites, and finds nothing where there is nothing."""
    verdict = await _verdict(stage, row, seed, folder / f"sound-{row.id}", say)
    is_sound = verdict.valid and not verdict.found
    say(f"{'sound' if is_sound else 'NOT SOUND'}: {row.id}, {verdict.seconds:.0f} s {verdict.broken}")
    return is_sound


async def _is_caught(stage: Stage, mutant: Mutant, seed: int, folder: Path, say: Say, is_sound: bool) -> bool:
    code = copy_of(ROOT, folder / mutant.name / "code")
    apply(mutant.patch, code)
    try:
        await stage.use_code(code)
        verdict = await _verdict(stage, mutant.row, seed, folder / mutant.name, say)
    except NotInTime as late:
        say(f"{mutant.name}: {late}")
        verdict = Verdict(seed, mutant.row.id)
    is_caught = is_sound and bool(verdict.found)
    by = f"{mutant.row.id}: {', '.join(f'{kind} {n}' for kind, n in verdict.found.items())}" if is_caught else None
    print(json.dumps({"mutant": mutant.name, "caught_by": by, "caught": is_caught}), flush=True)
    say(f"{'caught' if is_caught else 'NOT CAUGHT'}: {mutant.name}, {verdict.seconds:.0f} s {verdict.broken[:3]}")
    return is_caught


async def _verdict(stage: Stage, row: Row, seed: int, folder: Path, say: Say) -> Verdict:
    return await Course(stage, row, seed, folder, say, is_hurried=True).run()
