"""A worker with a wrong setting does not start, or ends, and one line says which."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from emis_streams import admin
from emis_streams.local.ports import free_port
from tests.services import environment_of, settings_for, until


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


NOT_ALLOWED = [
    ("KAFKA_BROKERS", "kafka-1", "'kafka-1' has no port; write host:port"),
    ("KAFKA_BROKERS", "kafka://kafka-1:9092", "has a scheme; write host:port"),
    ("KAFKA_BROKERS", "kafka-1:9092,kafka-2:99999", "the port of 'kafka-2:99999' is no number from 1 to 65,535"),
    ("KAFKA_BROKERS", "kafka-1:http", "the port of 'kafka-1:http' is no number"),
    ("KAFKA_BROKERS", "kafka-1:9092,", "an address is empty"),
    ("KAFKA_BROKERS", "user:pass@kafka-1:9092", "is no name or address"),
    ("LOG_LEVEL", "loud", "it must be one of debug, info, warning, error"),
    ("PORT", "0", "a whole number of at least 1 and at most 65,535"),
    ("WATCHDOG_TIMEOUT_SECONDS", "inf", "a number above 0 and at most 2,147,483,647"),
    ("WEB_OPEN", "perhaps", "it must be true or false"),
    ("SERVICE_DATABASE_URL", "sqlite://", "it names no database"),
    ("DATABASE_URL", "mysql://emis:canary@word@db/emis", "more than one @"),
    ("DATABASE_URL", "mysql://emis:canary/@word@db:port/emis", "its port is no number"),
    ("DATABASE_URL", "mysql://emis:canary@db:99999/emis", "its port is none from 1 to 65,535"),
    ("DATABASE_URL", "sqlite://folder/replica.db", "three slashes"),
    ("HOST", "no.such.host.invalid", "HOST='no.such.host.invalid' is not allowed"),
    ("DATA_DIR", "/proc/no-folder", "it cannot be made"),
]


@pytest.mark.parametrize(
    ("command", "variable", "value", "allowed"),
    [(["up", "--fresh"], *refused) for refused in NOT_ALLOWED]
    + [(["worker"], *refused) for refused in NOT_ALLOWED[::4]]
    + [(["run", "lessons"], *refused) for refused in NOT_ALLOWED[2::4]],
    ids=lambda given: given[:40] if isinstance(given, str) else " ".join(given),
)
def test_a_refused_setting_is_one_line_with_what_is_allowed_and_nothing_is_deleted(
    tmp_path: Path, command: list[str], variable: str, value: str, allowed: str
) -> None:
    for name in (".emis-streams", "kept"):
        (tmp_path / name).touch()
    environment = {**environment_of(settings_for("127.0.0.1:1", tmp_path)), variable: value}
    ended = subprocess.run(
        [sys.executable, "-m", "emis_streams", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert variable in ended.stderr
    assert allowed in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not {"canary", "word"} & set(re.split(r"\W+", ended.stderr))
    assert (tmp_path / "kept").exists()


def test_up_deletes_nothing_when_a_port_is_taken(tmp_path: Path) -> None:
    for name in (".emis-streams", "kept"):
        (tmp_path / name).touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        brokers = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = subprocess.run(
            [sys.executable, "-m", "emis_streams", "up", "--fresh"],
            env={**environment_of(settings_for(brokers, tmp_path)), "PORT": str(free_port(2))},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 1
    assert "is in use by another program: set KAFKA_BROKERS" in ended.stderr
    assert (tmp_path / "kept").exists()


async def test_what_a_worker_makes_is_for_its_owner_only(broker: str, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    settings = settings_for(broker, folder, database_url=f"sqlite:///{folder}/replica.db", port=free_port())
    await admin.ensure_topics(settings)
    previous = os.umask(0o022)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "emis_streams", "worker", env=environment_of(settings)
        )
        try:
            await until(lambda: (folder / "replica.db").exists() and (folder / "read-model").is_dir())
        finally:
            process.terminate()
            await process.wait()
    finally:
        os.umask(previous)
    open_to_others = [str(path) for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]
    assert open_to_others == []
