"""The folder of one local stack: who uses it, what was left running, how it is emptied."""

import fcntl
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import psutil

from emis_streams import data_dir, exclusive
from emis_streams.errors import InUse
from emis_streams.local.errors import LocalStackError
from emis_streams.local.process import end_leftover, find

_LOCK = "up.lock"
_OURS = ".emis-streams"
"""Marks a folder as ours: nothing else is ever emptied."""


class DataFolder:
    """Held by one `up` at a time; the kernel gives it free when the holder dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: TextIO | None = None

    def __enter__(self) -> Self:
        """Raises LocalStackError when another `up` uses the folder, or when it holds something else.

        Raises InvalidSetting when there can be no such folder.
        """
        data_dir.make(self.path)
        self._mark()
        lock = (self.path / _LOCK).open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise LocalStackError(
                f"already running with the data in {self.path} (pid {self.holder_pid()}): "
                "`emis-streams down` ends it; another DATA_DIR (and PORT, KAFKA_BROKERS) starts a second one"
            ) from None
        try:
            exclusive.hold_folder(self.path, "emis-streams up")
        except InUse as reason:
            lock.close()
            raise LocalStackError(str(reason)) from None
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time()}))
        lock.flush()
        self._lock = lock
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lock is not None:
            exclusive.release_folder(self.path)
            self._lock.truncate(0)
            self._lock.close()

    def holder(self) -> psutil.Process | None:
        """The running `up` that uses the folder."""
        return find(self.path / _LOCK)

    def holder_pid(self) -> int | None:
        holder = self.holder()
        return None if holder is None else holder.pid

    def end_leftovers(self) -> list[str]:
        """End what an `up` that was killed may have left running; workers before brokers. Says what it ended."""
        pid_paths = sorted(self.path.glob("*/*/*.pid"), key=lambda path: path.name.startswith("kafka"))
        return [ended for path in pid_paths if (ended := end_leftover(path)) is not None]

    def empty(self) -> None:
        """Delete all data (not the locks). Only while held; raises LocalStackError if something else runs with it."""
        for path, owner in exclusive.users_below(self.path):
            raise LocalStackError(
                f"{path.parent} is in use by {owner or 'another process'}: stop that one, then --fresh deletes it"
            )
        for entry in self.path.iterdir():
            if entry.name in (_LOCK, exclusive.LOCK_NAME, _OURS):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _mark(self) -> None:
        if not (self.path / _OURS).exists() and any(self.path.iterdir()):
            raise LocalStackError(
                f"DATA_DIR={self.path} holds files that are not of a local stack: name an empty or a new folder"
            )
        (self.path / _OURS).touch()
