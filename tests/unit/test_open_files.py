"""How many files a worker may open: it takes what it is allowed to, and says so if that is too little."""

import subprocess
import sys

import pytest

_TOLD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from emis_streams.cli.open_files import allow_open_files
allow_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def _limited(soft: int, hard: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", _TOLD, str(soft), str(hard)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        pytest.param(600, 1_000, "1000 1000", id="as many as it may"),
        pytest.param(256, 20_000, "16384 20000", id="as many as it wants"),
        pytest.param(18_000, 20_000, "18000 20000", id="never fewer than it had"),
    ],
)
def test_a_worker_raises_its_own_limit(soft: int, hard: int, then: str) -> None:
    done = _limited(soft, hard)
    assert (done.returncode, done.stdout.strip()) == (0, then), done.stderr


def test_a_worker_that_may_not_open_enough_files_says_so_and_ends() -> None:
    done = _limited(48, 48)
    assert done.returncode == 1
    assert done.stderr == "this process may open 48 files, and needs 512 at least: raise `ulimit -n`\n"
