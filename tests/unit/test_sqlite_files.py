"""A file that can be no database of ours is refused at the start: one line, exit code 2, and the file as it was."""

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from emis_streams import exclusive, sqlite_files
from emis_streams.errors import InvalidSetting, Unavailable
from emis_streams.replica import migrate
from emis_streams.settings import Settings

OWN = {"Lessons", "Outbox"}


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    yield
    for path in list(exclusive._held):
        os.close(exclusive._held.pop(path))


def make(file: Path, *tables: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for name in tables:
            connection.execute(f'CREATE TABLE "{name}" (Id INTEGER)')
        connection.commit()


def garbage(file: Path) -> None:
    file.write_bytes(b"%PDF-1.7 " + bytes(9_000))


def one_byte(file: Path) -> None:
    file.write_bytes(b"x")


def text(file: Path) -> None:
    file.write_text("SQLite format 3 is what this is not\n" * 100)


def a_browser(file: Path) -> None:
    make(file, "moz_places", "moz_bookmarks")


def damaged(file: Path) -> None:
    make(file, "Lessons")
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (garbage, "is no SQLite database"),
        (one_byte, "is no SQLite database"),
        (text, "is no SQLite database"),
        (a_browser, "is a database of another application, with the tables moz_bookmarks, moz_places"),
        (damaged, "is a damaged database"),
    ],
)
def test_what_can_be_no_database_of_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, of: Callable[[Path], None], said: str
) -> None:
    file = tmp_path / "lessons.db"
    of(file)
    before = file.read_bytes()
    for hold in (
        lambda: exclusive.hold_for_service(Settings(data_dir=str(tmp_path / "data")), f"sqlite:///{file}", OWN),
        lambda: exclusive.hold_for_worker(Settings(data_dir=str(tmp_path / "data"), database_url=f"sqlite:///{file}")),
        lambda: exclusive.hold_for_worker(
            Settings(data_dir=str(tmp_path / "data"), database_url=f"sqlite:///{file}", roles="serve")
        ),
    ):
        with pytest.raises(InvalidSetting, match=rf"^\w*DATABASE_URL='sqlite:///{file}' .*{said}.* name another") as no:
            hold()
        assert "\n" not in str(no.value)
    assert file.read_bytes() == before


@pytest.mark.parametrize("tables", [(), ("Outbox",), ("Outbox", "Lessons", "somebody_elses_view_cache")])
def test_a_new_an_empty_and_an_own_database_are_taken(tmp_path: Path, tables: tuple[str, ...]) -> None:
    file = tmp_path / "lessons.db"
    sqlite_files.check("DATABASE_URL", "shown", file, OWN)
    file.touch()
    sqlite_files.check("DATABASE_URL", "shown", file, OWN)
    make(file, *tables)
    sqlite_files.check("DATABASE_URL", "shown", file, OWN)


def test_a_replica_is_taken_by_workers_and_refused_to_a_service(tmp_path: Path) -> None:
    file = tmp_path / "replica.db"
    migrate.upgrade(f"sqlite:///{file}")
    exclusive.check_replica(Settings(database_url=f"sqlite:///{file}"))
    with pytest.raises(InvalidSetting, match="of another application, with the tables ClassInfos"):
        sqlite_files.check("SERVICE_DATABASE_URL", "shown", file, OWN)


def test_a_database_that_its_writer_was_killed_in_is_taken(tmp_path: Path) -> None:
    """Its last rows stand in the write-ahead log beside it."""
    file = tmp_path / "lessons.db"
    write = f"import sqlite3, os; c = sqlite3.connect({str(file)!r}); c.execute('PRAGMA journal_mode=WAL'); "
    write += "c.execute('CREATE TABLE Outbox (Id INTEGER)'); c.commit(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", write], check=False).returncode == 9
    assert file.with_name("lessons.db-wal").exists()
    sqlite_files.check("SERVICE_DATABASE_URL", "shown", file, OWN)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("Outbox",)]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidSetting, match=r"DATABASE_URL=.* cannot be used: it is no file"):
        exclusive.hold_for_worker(
            Settings(data_dir=str(tmp_path / "data"), database_url=f"sqlite:///{tmp_path / 'pipe'}")
        )


@pytest.mark.parametrize("below", ["a-file/replica.db", "a-file/deeper/replica.db"])
def test_a_folder_that_is_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "a-file").touch()
    config = Settings(data_dir=str(tmp_path / "data"), database_url=f"sqlite:///{tmp_path / below}")
    with pytest.raises(InvalidSetting, match=r"DATABASE_URL=.* cannot be used: (Not a directory|File exists)"):
        exclusive.hold_for_worker(config)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, InvalidSetting),
        (errno.EROFS, InvalidSetting),
        (errno.EPERM, InvalidSetting),
        (errno.ENOSPC, Unavailable),  # May be mended while a supervisor tries again.
        (errno.EMFILE, Unavailable),
    ],
)
def test_a_file_that_this_user_may_not_write_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    """A read-only file or folder: tests may run as root, whom no mode of a file stops."""
    file, opened = tmp_path / "replica.db", os.open

    def refuses(path: object, *arguments: int, **named: int) -> int:
        if str(path).startswith(str(file)):
            raise OSError(number, os.strerror(number))
        return opened(path, *arguments, **named)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", refuses)
    with pytest.raises(kind, match=rf"^DATABASE_URL='sqlite:///{file}' cannot be used: {os.strerror(number)}") as no:
        exclusive.hold_for_worker(Settings(data_dir=str(tmp_path / "data"), database_url=f"sqlite:///{file}"))
    assert ("let this user write" in str(no.value)) == (kind is InvalidSetting)


@pytest.mark.parametrize(
    "command",
    [
        ["worker", "--port", "0"],
        ["worker", "--port", "0", "--roles", "serve"],
        ["replica", "migrate"],
        ["replica", "verify"],
        ["replica", "rebuild"],
        ["run", "lessons"],
    ],
    ids=" ".join,
)
def test_every_command_says_it_in_one_line_and_ends_with_2(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "notes.db"
    garbage(file)
    url = f"sqlite:///{file}"
    environment = {"DATABASE_URL": url, "SERVICE_DATABASE_URL": url, "DATA_DIR": str(tmp_path / "data")}
    ran = subprocess.run(
        [sys.executable, "-m", "emis_streams", *[part.replace("0", "6077") for part in command]],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert ran.returncode == 2, ran.stderr
    (line,) = ran.stderr.strip().splitlines()
    assert f"DATABASE_URL={url!r} is not allowed: {file} is no SQLite database" in line
