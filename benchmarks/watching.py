"""Watches a contender from outside: its committed offsets, its memory and its processor time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil

from emis_streams.local.process import Child

_SAMPLE_SECONDS = 0.25
_SAY_SECONDS = 10.0


class ContenderFailed(Exception):
    """It ended, or did not get anywhere; the text says what its log ends with."""


@dataclass
class Usage:
    """Memory and processor time of a process and its children."""

    pid: int
    rss_max_bytes: int = 0
    cpu_seconds: float = 0.0

    def sample(self) -> None:
        try:
            root = psutil.Process(self.pid)
            processes = [root, *root.children(recursive=True)]
            rss = sum(p.memory_info().rss for p in processes)
            cpu = sum(t.user + t.system for t in (p.cpu_times() for p in processes))
        except psutil.NoSuchProcess:
            return  # it ended between two looks; whoever waits for it notices
        self.rss_max_bytes = max(self.rss_max_bytes, rss)
        self.cpu_seconds = max(self.cpu_seconds, cpu)


@dataclass
class Progress:
    """How far something was at which second since the start; only the moments when it moved."""

    moments: list[tuple[float, int]] = field(default_factory=list)

    def note(self, second: float, done: int) -> None:
        if not self.moments or done > self.moments[-1][1]:
            self.moments.append((second, done))

    @property
    def done(self) -> int:
        return self.moments[-1][1] if self.moments else 0

    def second_of(self, done: float) -> float:
        """When it had got that far, in a straight line between two moments."""
        before = self.moments[0]
        for moment in self.moments:
            if moment[1] >= done:
                if moment[1] == before[1]:
                    return moment[0]
                share = (done - before[1]) / (moment[1] - before[1])
                return before[0] + share * (moment[0] - before[0])
            before = moment
        return before[0]

    def rate(self, begin: float, end: float) -> float:
        """Per second between two shares of all that was done; 0 if nothing was."""
        seconds = self.second_of(end * self.done) - self.second_of(begin * self.done)
        return (end - begin) * self.done / seconds if seconds > 0 else 0.0


def watch(
    child: Child,
    how_far: Callable[[], int],
    goal: int,
    most_seconds: float,
    say: Callable[[str], None],
    begin_count: int = 0,
) -> tuple[Progress, Usage]:
    """Until the goal is reached or the time is over; raises ContenderFailed if the process ends or does nothing."""
    begin = time.monotonic()
    progress, usage = Progress([(0.0, begin_count)]), Usage(child.pid)
    said = begin
    while progress.done < goal and time.monotonic() - begin < most_seconds:
        time.sleep(_SAMPLE_SECONDS)
        if not child.running:
            raise ContenderFailed(f"{child.name} ended with {child.returncode}; its log ends:\n{child.log_tail(30)}")
        usage.sample()
        done = how_far()
        progress.note(time.monotonic() - begin, done)
        if time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            say(f"{done:,} of {goal:,}, {usage.rss_max_bytes >> 20} MB")
    if progress.done <= begin_count:
        raise ContenderFailed(f"{child.name} did nothing in {most_seconds:.0f} s:\n{child.log_tail(30)}")
    return progress, usage


def wait_until(child: Child, holds: Callable[[], bool], most_seconds: float, what: str) -> float:
    """Seconds until it holds; raises ContenderFailed when the time is over or the process ends."""
    begin = time.monotonic()
    while not holds():
        if not child.running:
            raise ContenderFailed(f"{child.name} ended with {child.returncode}; its log ends:\n{child.log_tail(30)}")
        if time.monotonic() - begin > most_seconds:
            raise ContenderFailed(f"{child.name}: not {what} within {most_seconds:.0f} s\n{child.log_tail(30)}")
        time.sleep(0.1)
    return time.monotonic() - begin


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
