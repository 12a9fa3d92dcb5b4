"""Results as JSON lines, and the machine they were taken on."""

import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "java": java,
        "commit": _commit(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=here)
    return done.stdout.strip() or "unknown"


class Others:
    """Processor time of everything on this machine that the harness did not start: it spoils the figures."""

    def __init__(self) -> None:
        self._last = (time.monotonic(), self._seconds())

    def cores(self) -> float:
        """How many cores others kept busy since the last call."""
        before, self._last = self._last, (time.monotonic(), self._seconds())
        elapsed = self._last[0] - before[0]
        return max(0.0, (self._last[1] - before[1]) / elapsed) if elapsed > 0 else 0.0

    @staticmethod
    def _seconds() -> float:
        machine = psutil.cpu_times()
        harness = psutil.Process()
        return float(machine.user + machine.system) - sum(
            _with_ended_children(p) for p in [harness, *harness.children(recursive=True)]
        )


def _with_ended_children(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # it has just ended: in a moment its parent has its times
    return float(times.user + times.system + times.children_user + times.children_system)


@dataclass
class Results:
    """Collects the results of one run and writes each at once."""

    path: Path

    def __post_init__(self) -> None:
        self._others = Others()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.add("machine", **machine())

    def add(self, phase: str, **figures: Any) -> None:
        """Each line also says how much of the machine others took since the line before."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"phase": phase, "at": at, **figures, "others_cores": round(self._others.cores(), 2)}
        with self.path.open("a") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
