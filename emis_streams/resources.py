"""Memory and CPU of this process against what its container may use (cgroup v2), else the machine."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
MEMORY_WARN_PERCENT = 90.0
"""From here on health is degraded."""
SAMPLE_SECONDS = 1.0
"""CPU is a share of time: not taken over less than this."""


@dataclass(frozen=True)
class Usage:
    """One sample."""

    memory_used_bytes: int
    memory_total_bytes: int
    cpu_percent: float
    """Of all the CPU that this process may use."""

    @property
    def memory_percent(self) -> float:
        return round(100 * self.memory_used_bytes / self.memory_total_bytes, 2)


class Resources:
    """Samples on demand; CPU is over the time since the sample before."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark
        self._memory_total = memory_limit_bytes(OWN_CGROUP, CGROUP_ROOT, psutil.virtual_memory().total)
        self._cpus = cpu_limit(OWN_CGROUP, CGROUP_ROOT, float(len(os.sched_getaffinity(0))))
        self._sampled_at = time.monotonic()
        self._cpu_percent = 0.0

    def usage(self) -> Usage:
        now = time.monotonic()
        if now - self._sampled_at >= SAMPLE_SECONDS:
            self._cpu_percent = round(self._process.cpu_percent() / self._cpus, 2)
            self._sampled_at = now
        return Usage(self._process.memory_info().rss, self._memory_total, self._cpu_percent)


def memory_limit_bytes(own: Path, root: Path, machine_bytes: int) -> int:
    """The smallest `memory.max` from the process's control group upwards."""
    limits = [int(text) for text in _texts(own, root, "memory.max") if text != "max"]
    return min([machine_bytes, *limits])


def cpu_limit(own: Path, root: Path, machine_cpus: float) -> float:
    """The smallest quota of `cpu.max` from the process's control group upwards."""
    quotas = [text.split() for text in _texts(own, root, "cpu.max")]
    return min([machine_cpus, *(int(quota) / int(period) for quota, period in quotas if quota != "max")])


def _texts(own: Path, root: Path, name: str) -> list[str]:
    """A control file of the process's group and of all groups above it; empty without cgroup v2."""
    if not own.exists():
        return []
    paths = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")]
    if not paths:
        return []
    group = root / paths[0].lstrip("/")
    folders = [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return [file.read_text().strip() for folder in folders if (file := folder / name).is_file()]
