"""Child processes that never outlive their parent, and that are found again should they do.

Two nets: the kernel signals a child when its parent dies (`launch.py`), and a file with its pid and
start time lets the next start find and end what is left over.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import psutil

from emis_streams.local.errors import LocalStackError

_LAUNCHER = Path(__file__).with_name("launch.py")
_KEPT_LOG_BYTES = 10_000_000
_POLL_SECONDS = 0.05
_SAME_START_SECONDS = 2.0
"""A process's start time is computed from the clock, which may have been set since."""


class Child:
    """A command run as a process of its own; its output goes to `<folder>/<name>.log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log_path = folder / f"{name}.log"
        self.pid_path = folder / f"{name}.pid"
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, ending one that an earlier parent left over. Not for short-lived threads (see `local`)."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        end_leftover(self.pid_path)
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(int(self._death_signal)), str(os.getpid())]
        with _open_log(self.log_path) as log:
            self._process = subprocess.Popen(
                [*launcher, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order
            )
        _write_pid(self.pid_path, self._process.pid)

    @property
    def pid(self) -> int:
        """Raises LocalStackError when it was never started."""
        if self._process is None:
            raise LocalStackError(f"{self.name} was not started")
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; as subprocess gives it (negative: the signal that ended it)."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        """To the process alone, if it runs (SIGSTOP, SIGCONT, SIGKILL in tests)."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it ended in time."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, timeout_seconds: float = 15.0) -> bool:
        """SIGTERM, and SIGKILL after the time-out. Returns whether the first was enough."""
        if self._process is None:
            return True
        self._process.terminate()
        in_time = self.wait(timeout_seconds)
        self.kill()
        return in_time

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self.pid_path.unlink(missing_ok=True)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that it wrote."""
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_bytes()[-20_000:].decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def end_leftover(pid_path: Path, timeout_seconds: float = 15.0) -> str | None:
    """End the process that the file names, if it is still that very process.

    Returns what was ended ("kafka-1 (pid 123)"), or None when nothing was left. The file is gone afterwards.
    """
    process = find(pid_path)
    if process is not None:
        end(process, timeout_seconds)
    pid_path.unlink(missing_ok=True)
    return None if process is None else f"{pid_path.stem} (pid {process.pid})"


def end(process: psutil.Process, timeout_seconds: float) -> None:
    """SIGTERM, SIGKILL after the time-out, and wait for the end. Not only for children."""
    try:
        process.terminate()
        if not _ended_within(process, timeout_seconds):
            process.kill()
            _ended_within(process, timeout_seconds)
    except psutil.NoSuchProcess:
        pass  # it ended by itself meanwhile: what was wanted


def _ended_within(process: psutil.Process, timeout_seconds: float) -> bool:
    """psutil's own wait takes a zombie, whose parent has not asked for it yet, for a running process."""
    deadline = time.monotonic() + timeout_seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def find(pid_path: Path) -> psutil.Process | None:
    """The process that the file names, if it still runs; never another one that got the same pid later."""
    try:
        written = json.loads(pid_path.read_text())
        process = psutil.Process(int(written["pid"]))
        started = process.create_time()
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return process if abs(started - float(written["started"])) < _SAME_START_SECONDS else None


def _write_pid(path: Path, pid: int) -> None:
    try:
        started = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return  # it ended at once; whoever waits for it will see that
    fresh = path.with_suffix(".pid.new")
    fresh.write_text(json.dumps({"pid": pid, "started": started}))
    fresh.replace(path)


def _open_log(path: Path) -> BinaryIO:
    """For appending; a long one is put aside first, so that at most two of them are kept."""
    if path.exists() and path.stat().st_size > _KEPT_LOG_BYTES:
        path.replace(path.with_suffix(".log.old"))
    return path.open("ab")
