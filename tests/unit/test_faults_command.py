"""`python -m tests.faults`: what it offers without a fault."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.faults import soak
from tests.faults.__main__ import main
from tests.faults.mutants.catalogue import MUTANTS
from tests.faults.rows import ALL
from tests.faults.stage import ROOT


def output_of(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_help_names_every_option() -> None:
    text = output_of("--help")
    for option in ("--set", "--rows", "--seed", "--list", "--mutants", "--only", "--soak"):
        assert option in text


def test_the_list_has_every_row_and_whether_ci_runs_it() -> None:
    lines = output_of("--list").splitlines()
    found = [re.fullmatch(r"(\S+) +(ci)? +(\S.*)", line) for line in lines]
    assert [m and (m[1], m[2] == "ci", m[3]) for m in found] == [(row.id, row.in_ci, row.name) for row in ALL]


def test_ids_are_there_once() -> None:
    ids = [row.id for row in ALL]
    assert len(set(ids)) == len(ids)


def test_ci_runs_the_rows_that_the_matrix_puts_first() -> None:
    by_number = {row.id for row in ALL if row.in_ci}
    assert {"0", "1", "4", "10", "16", "24", "31", "33"} <= by_number


@pytest.mark.parametrize("arguments", [("--rows", "0,no-such-row"), ("--mutants", "--only", "no-such-mutant")])
def test_what_is_not_there_is_refused_with_what_is(arguments: tuple[str, ...]) -> None:
    text = output_of(*arguments, code=2)
    assert arguments[-1].split(",")[-1] in text
    assert MUTANTS[0].name in text or ALL[0].id in text


def test_the_soak_is_one_row_that_says_how_long_it_takes() -> None:
    row = soak.row(60, seed=1)
    assert row.id == "soak"
    assert "60 minutes" in row.name


def test_every_crash_point_fits_the_code() -> None:
    """In a process of its own, as each changes the classes that it bites."""
    install = "from tests.faults.crash import POINTS, Trap; from pathlib import Path\n"
    install += "for point in POINTS.values(): point(Trap('kill', Path('.'), 1))"
    subprocess.run([sys.executable, "-c", install], cwd=ROOT, check=True)
