"""Two processes of ours on one folder or one SQLite file: the second one ends with one line, the first one goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emis_streams.exclusive import LOCK_NAME
from emis_streams.replica.migrate import upgrade
from emis_streams.settings import Settings
from tests.integration.command_line import emis_streams
from tests.integration.worker_rig import Worker
from tests.services import free_port, settings_for

NO_BROKERS = "127.0.0.1:1"
COMMANDS = {"teacher": ("worker",), "lessons": ("run", "lessons"), "gateway": ("run", "gateway")}


def settings(folder: Path, service: str, file: Path) -> Settings:
    """Of a process on its own port, whose SQLite file is this one."""
    name = "database_url" if service == "teacher" else "service_database_url"
    return settings_for(NO_BROKERS, folder / "data", service=service, port=free_port(), **{name: f"sqlite:///{file}"})


@contextmanager
def running(config: Settings) -> Iterator[Worker]:
    """It has its folder and file, and waits for brokers."""
    first = Worker("first", config, ("-m", "emis_streams", *COMMANDS[config.service]))
    first.start()
    try:
        lock = first.data_dir / LOCK_NAME
        while not lock.exists() or not lock.read_bytes():
            assert first.process.running, first.process.log_tail()
        yield first
        assert first.process.running, first.process.log_tail()
    finally:
        first.process.kill()


def refusal(config: Settings) -> str:
    """The one line with which a second process ends."""
    done = emis_streams(config, *COMMANDS[config.service])
    assert done.returncode == 1, done.stderr.decode()
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert done.stdout == b""
    return lines[0]


@pytest.mark.parametrize("service", COMMANDS)
def test_a_second_process_on_a_data_folder_is_refused(tmp_path: Path, service: str) -> None:
    with running(settings(tmp_path, service, tmp_path / "1.db")) as first:
        line = refusal(settings(tmp_path, service, tmp_path / "2.db"))
        assert f"DATA_DIR='{tmp_path}/data' is in use by" in line
        assert f"pid {first.process.pid} " in line


@pytest.mark.parametrize(("service", "setting"), [("teacher", "DATABASE_URL"), ("lessons", "SERVICE_DATABASE_URL")])
def test_a_second_process_on_an_sqlite_file_is_refused(tmp_path: Path, service: str, setting: str) -> None:
    file = tmp_path / "shared.db"
    with running(settings(tmp_path / "1", service, file)) as first:
        line = refusal(settings(tmp_path / "2", service, file))
        assert f"{setting}='sqlite:///{file}' is in use by" in line
        assert f"pid {first.process.pid} " in line


def test_commands_go_on_beside_a_worker(tmp_path: Path) -> None:
    config = settings(tmp_path, "teacher", tmp_path / "replica.db")
    upgrade(config.database_url)
    with running(config):
        done = emis_streams(config, "replica", "migrate")
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_folder_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    config = settings(tmp_path, "lessons", tmp_path / "1.db")
    for _ in range(2):
        with running(config):
            continue
