"""Folders and SQLite files that belong to one running process: a second one is refused with one line.

The lock is the operating system's (`flock` on a file beside what is locked), so it ends with its process, however that
ends. What the file says is only for the message.

An SQLite file is locked itself as well: it may have several names (hard links), and SQLite, which keeps files beside it
by name, corrupts a file that is open by two of them. SQLite's own locks are of another kind (`fcntl`).
"""

import fcntl
import json
import os
import socket
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from emis_streams import sqlite_files
from emis_streams.errors import InUse
from emis_streams.settings import Settings

LOCK_NAME = "in-use.lock"
_SUFFIX = ".lock"
_MOST_BYTES = 1_000

_held: dict[Path, int] = {}
"""File descriptors by what is locked: open as long as this process runs.

Closing one of an SQLite file would drop SQLite's own locks of it.
"""


class Owner(NamedTuple):
    """Of a lock file, as its process wrote it down."""

    process: str
    pid: int
    host: str

    def __str__(self) -> str:
        return f"`{self.process}` (pid {self.pid} on {self.host})"


def hold_for_worker(config: Settings) -> None:
    """What a worker has for itself: DATA_DIR, and if it replicates, the replica's SQLite file.

    Raises InUse; InvalidSetting if folder or file cannot be used, also for a file that is only read.
    """
    process = "emis-streams worker"
    hold_folder(config.data_path, process)
    if "replicate" in config.roles_enabled():
        _hold_database("DATABASE_URL", config.database_url, process)
    check_replica(config)


def check_replica(config: Settings) -> None:
    """Raises InvalidSetting if DATABASE_URL names an SQLite file that is none of a replica."""
    from emis_streams.replica.schema import metadata

    _check_database("DATABASE_URL", config.database_url, metadata.tables)


def hold_for_service(config: Settings, database_url: str | None, own_tables: Collection[str] = ()) -> None:
    """What a service has for itself: DATA_DIR, and the SQLite file of its database, if it has one.

    `own_tables`: names, at least one of which a database of the service has. Raises as `hold_for_worker`.
    """
    process = f"emis-streams run {config.service}"
    hold_folder(config.data_path, process)
    if database_url is not None:
        _hold_database("SERVICE_DATABASE_URL", database_url, process)
        _check_database("SERVICE_DATABASE_URL", database_url, own_tables)


def hold_folder(folder: Path, process: str) -> None:
    """For as long as this process runs. Raises InUse; InvalidSetting, Unavailable if no lock file can be made there."""
    path = folder.resolve() / LOCK_NAME
    try:
        is_taken = _take(path, process)
    except OSError as error:
        raise sqlite_files.cannot_be_used("DATA_DIR", str(folder), path, error) from None
    if not is_taken:
        raise InUse(
            f"DATA_DIR={str(folder)!r} is in use by {_owner(path) or 'another process'}: stop that one, "
            "or give this one another DATA_DIR"
        )


def release_folder(folder: Path) -> None:
    """Before the process ends."""
    os.close(_held.pop(folder.resolve() / LOCK_NAME))


def users_below(folder: Path) -> list[tuple[Path, Owner | None]]:
    """Lock files in the folder, at any depth, that another running process holds."""
    found = [path for pattern in (LOCK_NAME, f"*.db{_SUFFIX}") for path in folder.resolve().rglob(pattern)]
    return [(path, _owner(path)) for path in found if path not in _held and _is_held(path)]


def _hold_database(setting: str, database_url: str, process: str) -> None:
    found = sqlite_file(setting, database_url)
    if found is None:
        return
    file, shown_url = found
    path = file.with_name(file.name + _SUFFIX)
    try:
        if not _take(path, process):
            raise _database_in_use(setting, shown_url, str(_owner(path) or "another process"))
        if not _lock(file):
            raise _database_in_use(setting, shown_url, "another process, which has another name for it")
    except OSError as error:
        raise sqlite_files.cannot_be_used(setting, shown_url, file, error) from None


def _check_database(setting: str, database_url: str, own_tables: Collection[str]) -> None:
    found = sqlite_file(setting, database_url)
    if found is not None:
        file, shown_url = found
        sqlite_files.check(setting, shown_url, file, own_tables)


def sqlite_file(setting: str, database_url: str) -> tuple[Path, str] | None:
    """The file that the URL names, and the URL as it is shown; None if it names a server."""
    # Late: `up` needs only folders, and SQLAlchemy takes a moment.
    from emis_streams import database
    from emis_streams.database_urls import parse

    url = parse(database_url, setting)
    if database.dialect_of(url) != "sqlite":
        return None
    return Path(str(url.database)).resolve(), database.shown(url)


def _database_in_use(setting: str, shown_url: str, owner: str) -> InUse:
    return InUse(
        f"{setting}={shown_url!r} is in use by {owner}: an SQLite file belongs to one process; stop that one, "
        "name another file, or use MySQL"
    )


def _take(path: Path, process: str) -> bool:
    """Whether this process has the lock now, and its name is in the lock file. Raises OSError as `_lock`."""
    if path in _held:
        return True
    if not _lock(path):
        return False
    text = json.dumps(Owner(process, os.getpid(), socket.gethostname())._asdict()).encode()
    with suppress(OSError):  # On a full disk: the lock is held all the same.
        os.ftruncate(_held[path], 0)
        os.pwrite(_held[path], text, 0)
    return True


def _lock(path: Path) -> bool:
    """Whether this process has the lock of the file now, which is made if there is none.

    Raises OSError if there can be no such file, or no lock of it.
    """
    if path in _held:
        return True
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return False
        raise
    _held[path] = descriptor
    return True


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _owner(path: Path) -> Owner | None:
    """None if the file does not say it (yet)."""
    try:
        found = json.loads(path.read_bytes()[:_MOST_BYTES])
        return Owner(str(found["process"]), int(found["pid"]), str(found["host"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
