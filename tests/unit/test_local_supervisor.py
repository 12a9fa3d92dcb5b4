"""Children that end are started again, later each time."""

import sys
import time
from pathlib import Path

import pytest

from emis_streams.local import Child, LocalStackError
from emis_streams.local.supervisor import Backoff, Supervisor


def _check_until(supervisor: Supervisor, said: list[str], expected: int) -> None:
    deadline = time.monotonic() + 10
    while len(said) < expected:
        supervisor.check()
        assert time.monotonic() < deadline, said


def test_pauses_double_up_to_half_a_minute() -> None:
    backoff = Backoff()
    pauses = [backoff.next_seconds(ran_seconds=1) for _ in range(10)]
    assert pauses[:3] == [pytest.approx(expected, rel=0.11) for expected in (0.5, 1, 2)]
    assert max(pauses) <= 33


def test_a_steady_run_is_followed_by_a_short_pause_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next_seconds(ran_seconds=1)
    assert backoff.next_seconds(ran_seconds=100) < 1


def test_a_child_that_was_killed_is_started_again_and_both_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(said.append)
    child = Child("sleeper", ["sleep", "60"], tmp_path)
    supervisor.keep(child)
    first_pid = child.pid
    child.kill()
    _check_until(supervisor, said, expected=2)
    assert "sleeper ended (signal 9)" in said[0]
    assert child.running
    assert child.pid != first_pid
    child.kill()


def test_a_child_that_refuses_its_settings_is_not_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor(print)
    child = Child(
        "refusing", [sys.executable, "-c", "import sys; print('PORT=0 is not allowed'); sys.exit(2)"], tmp_path
    )
    supervisor.keep(child)
    assert child.wait(10)
    with pytest.raises(LocalStackError, match=r"refusing .*(?s:.)PORT=0 is not allowed"):
        supervisor.check()
