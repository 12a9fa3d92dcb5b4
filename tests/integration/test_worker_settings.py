"""A worker with a wrong setting does not start, or ends, and one line says which."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from emis_streams import admin
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


@pytest.mark.parametrize("role", ["ingest", "serve"])
async def test_databases_of_another_cluster_end_it_with_one_line(broker: str, tmp_path: Path, role: str) -> None:
    settings = settings_for(broker, tmp_path, roles=role)
    await admin.ensure_topics(settings)
    (tmp_path / "cluster-id").write_text("another")
    command = [sys.executable, "-m", "emis_streams", "worker"]
    ended = await asyncio.to_thread(
        subprocess.run, command, env=environment_of(settings), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 70
    assert ended.stderr.count("belongs to the Kafka cluster another") == 1
    assert "Traceback" not in ended.stderr
