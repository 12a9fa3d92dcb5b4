"""Several worker processes as one: a Python process uses one core, a machine has more.

Each is a worker of its own to the group, with its own folder and its own port; they share the
partitions as workers on different machines would.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from emis_streams.local import launch
from emis_streams.settings import Settings

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_processes(n: int, config: Settings) -> int:
    """Runs n workers until they end, or one does: then the others are told to stop. Returns its exit code."""
    children = [_start(number, config) for number in range(n)]
    for number in _SIGNALS:
        signal.signal(number, lambda *_: _stop(children))
    codes = [_wait(child, children) for child in children]
    return next((code for code in codes if code), 0)


def _start(number: int, config: Settings) -> "subprocess.Popen[bytes]":
    place = {"DATA_DIR": str(config.data_path / str(number)), "PORT": str(config.port + number)}
    command = [sys.executable, "-m", "emis_streams", "worker"]
    # The kernel stops the child when this process dies, however it dies.
    guarded = [sys.executable, str(Path(launch.__file__)), str(int(signal.SIGTERM)), str(os.getpid()), *command]
    return subprocess.Popen(guarded, env={**os.environ, **place})


def _wait(child: "subprocess.Popen[bytes]", children: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Waits for this child; looks at the others too, so that none goes on alone."""
    while True:
        try:
            return child.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if any(other.poll() is not None for other in children):
                _stop(children)


def _stop(children: Sequence["subprocess.Popen[bytes]"]) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
