"""Several processes as one: a Python process uses one core, a machine has more.

Each worker is one of its own to the group, with its own folder and its own port; they share the
partitions as workers on different machines would.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from emis_streams.errors import InvalidSetting
from emis_streams.local import launch
from emis_streams.settings import ROLES, Settings

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Process(NamedTuple):
    """One of them: a command of ours, and what its environment has beside this process's."""

    command: tuple[str, ...]
    environment: dict[str, str]


def workers(n: int, config: Settings) -> list[Process]:
    """So many workers, each with its own folder and its own port. A replica in an SQLite file is the first one's.

    Raises InvalidSetting if that leaves the others nothing to do.
    """
    is_file = config.database_url.startswith("sqlite")
    shared = config.roles_enabled() - ({"replicate"} if is_file else set())
    others = ",".join(role for role in ROLES if role in shared)
    if not others:
        raise InvalidSetting(
            f"--processes {n} is not allowed with ROLES={config.roles} and an SQLite file: it belongs to one process; "
            "use one process, or MySQL"
        )
    return [_worker(i, config, config.roles if i == 0 else others) for i in range(n)]


def _worker(i: int, config: Settings, roles: str) -> Process:
    own = {"DATA_DIR": str(config.data_path / str(i)), "PORT": str(config.port + i), "ROLES": roles}
    return Process(("worker",), own)


def run_processes(processes: Sequence[Process]) -> int:
    """Runs them until they end, or one does: then the others are told to stop. Returns its exit code."""
    children = _Children(processes)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: children.stop())
    return children.wait()


class _Children:
    def __init__(self, processes: Sequence[Process]) -> None:
        self._running = [_start(process) for process in processes]
        self._are_told = False

    def stop(self) -> None:
        self._are_told = True
        for child in self._running:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        codes = [self._wait(child) for child in self._running]
        return next((code for code in codes if code), 0)

    def _wait(self, child: "subprocess.Popen[bytes]") -> int:
        """Waits for this child; looks at the others too, so that none goes on alone.

        They are told once: who is at its very end handles signals no more, and would be killed by another one.
        """
        while True:
            try:
                return child.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if not self._are_told and any(other.poll() is not None for other in self._running):
                    self.stop()


def _start(process: Process) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "emis_streams", *process.command]
    # The kernel stops the child when this process dies, however it dies.
    guarded = [sys.executable, str(Path(launch.__file__)), str(int(signal.SIGTERM)), str(os.getpid()), *command]
    return subprocess.Popen(guarded, env={**os.environ, **process.environment})
