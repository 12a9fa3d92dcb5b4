"""Which mutants there are, which row makes each visible, and copies of the application with one mistake in it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.faults.course import Row
from tests.faults.mutants import rows
from tests.faults.rows.clocks import ONE_WAY
from tests.faults.rows.hostile import HOSTILE
from tests.faults.rows.outbox import TWO_INSTANCES

PACKAGES = ("agents", "emis_streams", "tables", "web")


@dataclass(frozen=True)
class Mutant:
    """A patch beside this file, and the row that has to turn red with it."""

    name: str
    row: Row

    @property
    def patch(self) -> Path:
        return Path(__file__).with_name(f"{self.name}.patch")


MUTANTS = (
    Mutant("no-version-guard-in-tables", rows.PLAIN),
    Mutant("dropped-delete", rows.PLAIN),
    Mutant("batch-off-by-one", rows.PLAIN),
    Mutant("no-version-guard-in-followers", rows.OLDER_ROWS),
    Mutant("no-version-guard-in-read-model", rows.OLDER_ROWS),
    Mutant("no-version-guard-in-replica", rows.OLDER_ROWS),
    Mutant("commit-before-write", rows.CHANGELOGS_REFUSE),
    Mutant("ack-before-dead-letter", rows.DEAD_LETTERS_REFUSE),
    Mutant("swallowed-send-error", rows.TOO_LARGE),
    Mutant("position-before-data", rows.FLUSHED),
    Mutant("outbox-deletes-up-to-the-last", TWO_INSTANCES),
    Mutant("null-header-of-a-request", HOSTILE),
    Mutant("tie-by-event-id", rows.PLAIN),
    Mutant("created-not-sent-again", rows.LATE_CREATED),
    Mutant("times-by-the-machines-clock", ONE_WAY),
)


def copy_of(root: Path, folder: Path) -> Path:
    """The application's packages, as they are now."""
    for package in PACKAGES:
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def apply(patch: Path, folder: Path) -> None:
    """Raises subprocess.CalledProcessError when it does not fit the code any more."""
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}  # Else git looks for the files in ours.
    subprocess.run(["git", "apply", str(patch)], cwd=folder, env=outside, check=True, capture_output=True, text=True)
