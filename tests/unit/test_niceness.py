"""NICENESS: how far a worker gives way to the other processes of its machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_AUTOGROUP = Path("/proc/self/autogroup")
_TOLD = """
import os, sys
from pathlib import Path
from emis_streams.cli.worker import give_way
give_way(int(sys.argv[1]))
group = Path("/proc/self/autogroup")
print(os.nice(0), *(group.read_text().split()[-1:] if group.exists() else []))
"""


def _niceness_after(given: int, *, leads_a_session: bool) -> tuple[int, str | None]:
    """Of the process, and of its session: None where the kernel does not group this process by session."""
    command = [sys.executable, "-c", _TOLD, str(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=leads_a_session)
    own, *session = done.stdout.split()
    return int(own), session[0] if session else None


def _niceness_of_this_session() -> str | None:
    """A session that the kernel's own group holds has none, and reads as nothing."""
    words = _AUTOGROUP.read_text().split() if _AUTOGROUP.exists() else []
    return words[-1] if words else None


@pytest.mark.parametrize("given", [0, 7])
def test_a_worker_is_as_nice_as_it_was_told(given: int) -> None:
    own, _ = _niceness_after(given, leads_a_session=False)
    assert own == os.nice(0) + given


def test_a_worker_that_leads_its_session_makes_the_session_give_way() -> None:
    _, session = _niceness_after(7, leads_a_session=True)
    assert session in ("7", None)
    assert session is not None or not _AUTOGROUP.exists()


def test_a_worker_in_anothers_session_leaves_that_as_it_is() -> None:
    _, session = _niceness_after(7, leads_a_session=False)
    assert session == _niceness_of_this_session()
