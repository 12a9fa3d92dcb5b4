"""SQLite files that cannot be used: refused before anything starts, in one line. None of them is changed or deleted."""

import errno
import os
import sqlite3
import stat
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from emis_streams.errors import InvalidSetting, Unavailable

_MAGIC = b"SQLite format 3\0"
_MOST_NAMED = 5
_WAY_OUT = "name another file"
_DECIDED_BY_SOMEBODY = frozenset(
    {
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENXIO,
        errno.EINVAL,
    }
)
"""Errors that stay until somebody changes file or setting; a full disk, say, may be mended by others."""


def cannot_be_used(setting: str, value: str, path: Path, error: OSError) -> InvalidSetting | Unavailable:
    """The error of a file or folder that cannot be opened for writing, which `setting` names."""
    line = f"{setting}={value!r} cannot be used: {error.strerror} ({path})"
    if error.errno not in _DECIDED_BY_SOMEBODY:
        return Unavailable(line)
    return InvalidSetting(f"{line}: name another place, or let this user write the file and its folder")


def check(setting: str, value: str, file: Path, own_tables: Collection[str]) -> None:
    """Raises InvalidSetting for a file that is no SQLite database, a damaged one, or one of another application.

    `value` is the setting without its password. A file that is missing or empty becomes a database later.
    """
    try:
        begin = _begin_of(file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_be_used(setting, value, file, error) from None
    if begin and begin != _MAGIC:
        raise _refusal(setting, value, f"{file} is no SQLite database", "or move this one away if nobody needs it")
    found = _tables_of(setting, value, file) if begin else set()
    if found and not found & set(own_tables):
        named = ", ".join(sorted(found)[:_MOST_NAMED]) + (", …" if len(found) > _MOST_NAMED else "")
        what = f"{file} is a database of another application, with the tables {named}"
        raise _refusal(setting, value, what, "of a database that this program has made, or one that is not there yet")


def _begin_of(file: Path) -> bytes:
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # A pipe is not waited for.
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        return os.pread(descriptor, len(_MAGIC), 0)
    finally:
        os.close(descriptor)


def _tables_of(setting: str, value: str, file: Path) -> set[str]:
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.OperationalError:
        return set()  # Locked, or to be recovered by whoever may write it: what it is shows then.
    except sqlite3.DatabaseError as error:
        way_out = "or restore this one from its backup"
        raise _refusal(setting, value, f"{file} is a damaged database ({error})", way_out) from None
    return {name for (name,) in rows if not name.startswith("sqlite_") and name != "alembic_version"}


def _refusal(setting: str, value: str, what: str, way_out: str) -> InvalidSetting:
    return InvalidSetting(f"{setting}={value!r} is not allowed: {what}; {_WAY_OUT}, {way_out} (it was left as it is)")
