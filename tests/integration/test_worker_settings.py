"""A worker with a wrong setting does not start, and one line says which."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import environment_of, settings_for


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"PORT": "abc"}, "PORT='abc'"),
        ({"ROLES": "ingest,dance"}, "ROLES='ingest,dance'"),
        ({"DATABASE_URL": "oracle://x"}, "DATABASE_URL='oracle://x'"),
        ({"SLICE_RECORDS": "0"}, "SLICE_RECORDS='0'"),
    ],
)
def test_a_wrong_setting_stops_start_up_with_one_line(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    environment = {**environment_of(settings_for("127.0.0.1:1", tmp_path)), **changes}
    command = [sys.executable, "-m", "emis_streams", "worker"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1
