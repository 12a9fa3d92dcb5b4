"""The mutants' patches: each still fits the code as it is, and makes code that Python can read."""

import compileall
import shutil
from pathlib import Path

import pytest

from tests.faults.mutants.catalogue import MUTANTS, PACKAGES, Mutant, apply, copy_of
from tests.faults.mutants.run import chosen

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_patch_fits_todays_code(mutant: Mutant, tmp_path: Path) -> None:
    code = copy_of(ROOT, tmp_path / "code")
    apply(mutant.patch, code)
    changed = [path for path in code.rglob("*.py") if path.read_bytes() != (ROOT / path.relative_to(code)).read_bytes()]
    assert changed
    assert all(compileall.compile_file(path, quiet=2) for path in changed)


def test_every_patch_is_run_and_says_what_is_wrong_with_it() -> None:
    patches = sorted((ROOT / "tests/faults/mutants").glob("*.patch"))
    assert patches == sorted(mutant.patch for mutant in MUTANTS)
    for patch in patches:
        assert patch.read_text().split("\n\n")[0].endswith(".")


def test_a_copy_has_all_packages_and_what_belongs_to_them(tmp_path: Path) -> None:
    code = copy_of(ROOT, tmp_path / "code")
    assert {path.name for path in code.iterdir()} == set(PACKAGES)
    assert (code / "web/templates").is_dir()
    assert shutil.which("git")


def test_mutants_are_chosen_by_name() -> None:
    assert chosen(None) == list(MUTANTS)
    assert [mutant.name for mutant in chosen(f"{MUTANTS[3].name},{MUTANTS[0].name}")] == [
        MUTANTS[3].name,
        MUTANTS[0].name,
    ]
    with pytest.raises(KeyError):
        chosen("no-such-mutant")
