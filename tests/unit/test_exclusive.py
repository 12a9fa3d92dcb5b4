"""A folder or an SQLite file of a running process is refused to a second one, in one line that names both."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from emis_streams import exclusive
from emis_streams.cli.processes import workers
from emis_streams.errors import InUse, InvalidSetting
from emis_streams.local import LocalStackError
from emis_streams.local.data_folder import DataFolder
from emis_streams.settings import Settings

_HOLDER = """
import signal, sys
from pathlib import Path
from emis_streams import exclusive
from emis_streams.settings import Settings
kind, folder, url = sys.argv[1:]
config = Settings(data_dir=folder, database_url=url, service="lessons", roles="replicate")
exclusive.hold_for_worker(config) if kind == "worker" else exclusive.hold_for_service(config, url)
print("held", flush=True)
signal.pause()
"""


@contextmanager
def held(kind: str, folder: Path, file: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """By another process, until the block ends: it is killed then."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", _HOLDER, kind, str(folder), f"sqlite:///{file}"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        yield holder
    finally:
        holder.kill()
        holder.communicate()


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    yield
    for path in list(exclusive._held):
        os.close(exclusive._held.pop(path))


def of_worker(folder: Path, file: Path, roles: str = "replicate") -> Settings:
    folder.mkdir(exist_ok=True)
    return Settings(data_dir=str(folder), database_url=f"sqlite:///{file}", roles=roles)


def test_a_data_folder_is_refused_to_a_second_process(tmp_path: Path) -> None:
    with held("worker", tmp_path / "data", tmp_path / "1.db") as holder:
        with pytest.raises(InUse) as told:
            exclusive.hold_for_worker(of_worker(tmp_path / "data", tmp_path / "2.db"))
        with pytest.raises(InUse, match="emis-streams worker"):
            exclusive.hold_for_service(of_worker(tmp_path / "data", tmp_path / "3.db"), None)
    line = str(told.value)
    assert "\n" not in line
    for part in (f"DATA_DIR='{tmp_path}/data'", f"pid {holder.pid}", "emis-streams worker", "another DATA_DIR"):
        assert part in line


def test_a_folder_is_the_same_by_whatever_name(tmp_path: Path) -> None:
    with held("worker", tmp_path / "data", tmp_path / "1.db"):
        (tmp_path / "link").symlink_to(tmp_path / "data")
        with pytest.raises(InUse):
            exclusive.hold_for_worker(of_worker(tmp_path / "link", tmp_path / "2.db"))


def test_an_sqlite_file_is_refused_to_a_second_process_that_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "shared.db"
    with held("worker", tmp_path / "1", file) as holder:
        with pytest.raises(InUse, match=rf"DATABASE_URL='sqlite:///{file}' .*pid {holder.pid}.* MySQL"):
            exclusive.hold_for_worker(of_worker(tmp_path / "2", file))
        (tmp_path / "3").mkdir()
        with pytest.raises(InUse, match="SERVICE_DATABASE_URL"):
            exclusive.hold_for_service(Settings(data_dir=str(tmp_path / "3")), f"sqlite:///{file}")


def test_workers_that_only_read_the_replica_share_its_file(tmp_path: Path) -> None:
    with held("worker", tmp_path / "1", tmp_path / "shared.db"):
        exclusive.hold_for_worker(of_worker(tmp_path / "2", tmp_path / "shared.db", roles="serve"))


def test_a_database_on_a_server_is_for_any_number_of_processes(tmp_path: Path) -> None:
    exclusive.hold_for_service(Settings(data_dir=str(tmp_path)), "mysql://user:password@127.0.0.1/lessons")
    assert [path.name for path in tmp_path.iterdir()] == [exclusive.LOCK_NAME]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_held_is_free(tmp_path: Path, number: signal.Signals) -> None:
    with held("worker", tmp_path / "data", tmp_path / "1.db") as holder:
        holder.send_signal(number)
        holder.wait()
        exclusive.hold_for_worker(of_worker(tmp_path / "data", tmp_path / "1.db"))


def test_what_a_frozen_process_holds_is_not_free(tmp_path: Path) -> None:
    with held("worker", tmp_path / "data", tmp_path / "1.db") as holder:
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(InUse):
            exclusive.hold_for_worker(of_worker(tmp_path / "data", tmp_path / "1.db"))


def test_a_lock_file_that_says_nothing_is_refused_all_the_same(tmp_path: Path) -> None:
    with held("worker", tmp_path / "data", tmp_path / "1.db"):
        (tmp_path / "data" / exclusive.LOCK_NAME).write_bytes(b"\xff{")
        with pytest.raises(InUse, match="in use by another process"):
            exclusive.hold_for_worker(of_worker(tmp_path / "data", tmp_path / "2.db"))


def test_lock_files_are_for_their_owner_only(tmp_path: Path) -> None:
    exclusive.hold_for_worker(of_worker(tmp_path, tmp_path / "1.db"))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_folder_in_which_no_lock_can_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / exclusive.LOCK_NAME).mkdir()
    with pytest.raises(InvalidSetting, match=rf"DATA_DIR='{tmp_path}' cannot be used: Is a directory"):
        exclusive.hold_for_worker(of_worker(tmp_path, tmp_path / "1.db"))


def test_up_and_a_worker_do_not_share_a_folder(tmp_path: Path) -> None:
    with held("worker", tmp_path, tmp_path / "1.db"):
        (tmp_path / ".emis-streams").touch()
        with pytest.raises(LocalStackError, match="in use by `emis-streams worker`"), DataFolder(tmp_path):
            pass
    with DataFolder(tmp_path):
        pass


@pytest.mark.parametrize("below", ["services/lessons", "workers/serve/data"])
def test_up_deletes_nothing_while_another_process_uses_a_folder_below(tmp_path: Path, below: str) -> None:
    (tmp_path / ".emis-streams").touch()
    with held("service", tmp_path / below, tmp_path / below / "lessons.db"), DataFolder(tmp_path) as folder:
        with pytest.raises(LocalStackError, match=r"`emis-streams run lessons` \(pid"):
            folder.empty()
        assert (tmp_path / below).is_dir()
    with DataFolder(tmp_path) as folder:
        folder.empty()
    assert not (tmp_path / below).exists()


def test_of_several_workers_on_an_sqlite_file_the_first_one_replicates() -> None:
    roles = [process.environment["ROLES"] for process in workers(3, Settings())]
    assert roles == ["ingest,replicate,serve", "ingest,serve", "ingest,serve"]
    on_a_server = workers(2, Settings(database_url="mysql://user@127.0.0.1/emis"))
    assert [process.environment["ROLES"] for process in on_a_server] == ["ingest,replicate,serve"] * 2


def test_several_workers_that_only_replicate_need_a_server() -> None:
    with pytest.raises(InvalidSetting, match=r"--processes 2 .*SQLite.* MySQL"):
        workers(2, Settings(roles="replicate"))


def test_an_sqlite_file_is_refused_by_each_of_its_names(tmp_path: Path) -> None:
    """SQLite keeps what was written last in a file beside it, by name: two names of one file corrupt it."""
    file, other = tmp_path / "one.db", tmp_path / "two.db"
    with held("worker", tmp_path / "1", file):
        other.hardlink_to(file)
        with pytest.raises(InUse, match=rf"DATABASE_URL='sqlite:///{other}' is in use by another process, .*MySQL"):
            exclusive.hold_for_worker(of_worker(tmp_path / "2", other))


def test_what_can_be_no_sqlite_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidSetting, match=r"^DATABASE_URL='sqlite:///.*folder' cannot be used: Is a directory"):
        exclusive.hold_for_worker(of_worker(tmp_path / "1", tmp_path / "folder"))


def test_the_lock_leaves_sqlites_own_locks_alone(tmp_path: Path) -> None:
    file = tmp_path / "one.db"
    exclusive.hold_for_worker(of_worker(tmp_path / "1", file))
    with closing(sqlite3.connect(file)) as writer, closing(sqlite3.connect(file, timeout=0)) as other:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE Rows (Id INTEGER)")
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        writer.commit()
        other.execute("INSERT INTO Rows VALUES (1)")
