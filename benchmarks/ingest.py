"""Events into a versioned table, and the lost table built again from its changelog: all contenders in turn."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.partitioner import murmur2

from benchmarks import preload
from benchmarks.contenders import Contender
from benchmarks.data import PARTITIONS, SOURCES, UPDATED, Record, text_id
from benchmarks.offsets import Brokers, Place
from benchmarks.results import Results
from benchmarks.tables import SourceFold, compare, read_changelog
from benchmarks.watching import ContenderFailed, Progress, Usage, wait_until, watch
from emis_streams import topics
from emis_streams.local.process import Child

_WARM_SHARE = 0.05
"""The rate over the run leaves out the first 5 %: starting, joining, warming up."""
_LAST_FIFTH = 0.8
_STABLE_SECONDS = 90.0


@dataclass
class Course:
    """One broker with the same events for all."""

    brokers: Brokers
    folder: Path
    fold: SourceFold
    results: Results
    slow_seconds: float
    most_seconds: float
    say: Callable[[str], None]

    def run(self, contender: Contender, repeat: int, rebuild: bool) -> None:
        """Ingest from nothing, check the table, and if asked rebuild it. A failure is a result too."""
        try:
            self._forget(contender)
            self._ingest(contender, repeat)
            if rebuild:
                self._rebuild(contender, repeat)
        except ContenderFailed as failure:
            self.say(f"{contender.label}: FAILED: {failure}")
            self.results.add(
                "failure", contender=contender.name, label=contender.label, repeat=repeat, said=str(failure)
            )

    def _ingest(self, contender: Contender, repeat: int) -> None:
        places = self.brokers.places(SOURCES)
        goal = sum(self.brokers.ends(places).values())
        child = self._start(contender)
        try:
            progress, usage = watch(
                child,
                lambda: sum(self.brokers.committed(contender.group, places).values()),
                goal,
                self.slow_seconds if contender.is_slow else self.most_seconds,
                self.say,
            )
        finally:
            child.stop(timeout_seconds=30)
        self._report(contender, repeat, goal, progress, usage)

    def _report(self, contender: Contender, repeat: int, goal: int, progress: Progress, usage: Usage) -> None:
        committed = self.brokers.committed(contender.group, self.brokers.places(SOURCES))
        upper = self.fold.catch_up()
        whole = sum(committed.values()) >= goal
        lower = upper if whole else SourceFold(self.brokers).catch_up(committed)
        kept, n_records = read_changelog(self.brokers, self._changelog(contender), contender.class_id_of)
        verdict = compare(kept, lower, upper)
        figures: dict[str, Any] = {
            "events_per_second": progress.rate(_WARM_SHARE, 1.0),
            "last_fifth_per_second": progress.rate(_LAST_FIFTH, 1.0),
            "events": progress.done,
            "of_events": goal,
            "seconds": progress.moments[-1][0],
            "first_commit_seconds": progress.moments[1][0],
            "cpu_seconds": usage.cpu_seconds,
            "rss_max_mb": usage.rss_max_bytes / 2**20,
            "table_equal": verdict.equal,
            "table_said": verdict.said,
            "classes": verdict.classes,
            "changelog_records": n_records,
        }
        self.results.add("ingest", contender=contender.name, label=contender.label, repeat=repeat, **figures)
        self.say(
            f"{contender.label}: {figures['events_per_second']:,.0f}/s, last fifth"
            f" {figures['last_fifth_per_second']:,.0f}/s, {figures['rss_max_mb']:.0f} MB,"
            f" {verdict.classes:,} classes: {verdict.said}"
        )

    def _rebuild(self, contender: Contender, repeat: int) -> None:
        """The state is deleted; the table is back when each partition's changelog gets a record again."""
        shutil.rmtree(self._state(contender), ignore_errors=True)
        places = self.brokers.places([self._changelog(contender)])
        before = self.brokers.ends(places)
        preload.send_all(self.brokers.bootstrap, probes(), self.say)
        self._wait_until_left(contender)
        child = self._start(contender)
        begin = time.monotonic()
        try:
            wait_until(child, lambda: self.brokers.has_assigned(contender.group), _STABLE_SECONDS, "in its group")
            joined = time.monotonic() - begin
            wait_until(child, lambda: self._has_grown(before), self.most_seconds, "caught up")
            seconds = time.monotonic() - begin
        finally:
            child.stop(timeout_seconds=30)
        figures = {
            "records": sum(before.values()),
            "seconds": seconds,
            "joined_seconds": joined,
            "records_per_second": sum(before.values()) / (seconds - joined),
        }
        self.results.add("rebuild", contender=contender.name, label=contender.label, repeat=repeat, **figures)
        self.say(
            f"{contender.label}: table of {figures['records']:,} records back after {seconds:.1f} s"
            f" (joined after {joined:.1f} s): {figures['records_per_second']:,.0f}/s"
        )

    def _wait_until_left(self, contender: Contender) -> None:
        """A process that is gone may hold its partitions until its session ends: not counted."""
        begin = time.monotonic()
        while not self.brokers.is_empty(contender.group):
            if time.monotonic() - begin > _STABLE_SECONDS:
                raise ContenderFailed(f"{contender.label}: its group still has members")
            time.sleep(0.2)

    def _has_grown(self, before: dict[Place, int]) -> bool:
        now = self.brokers.ends(before)
        return all(now[place] > end for place, end in before.items())

    def _forget(self, contender: Contender) -> None:
        """Nothing of an earlier run is left, and the topics of this project exist anew."""
        self._wait_until_left(contender)
        shutil.rmtree(self._state(contender), ignore_errors=True)
        own = {t.name for t in topics.changelog_topics()} | {topics.DEAD_LETTER}
        made = [name for name in self.brokers.topics() if name in own or contender.group in name]
        self.brokers.delete(made, [contender.group, topics.REPLICA_GROUP])
        self.brokers.create({t.name: t.config for t in topics.all_topics()}, PARTITIONS)

    def _changelog(self, contender: Contender) -> str:
        found = [name for name in self.brokers.topics() if name.startswith(contender.changelog)]
        if len(found) != 1:
            raise ContenderFailed(f"{contender.label}: one changelog {contender.changelog}… expected, found {found}")
        return found[0]

    def _state(self, contender: Contender) -> Path:
        return self.folder / "state" / contender.name

    def _start(self, contender: Contender) -> Child:
        state = self._state(contender)
        state.mkdir(parents=True, exist_ok=True)
        environment = contender.process_environment(self.brokers.bootstrap, state)
        child = Child(contender.name, contender.command, self.folder / "logs", env=environment)
        child.start()
        return child


def probes() -> Sequence[Record]:
    """One event for each partition, newer than all of the load; each time with other classes."""
    found: dict[int, Record] = {}
    salt = time.time_ns()
    for n in range(10_000):
        class_id = text_id(f"probe-{salt}", n)
        partition = (murmur2(class_id.encode()) & 0x7FFFFFFF) % PARTITIONS
        if partition not in found:
            event_id = text_id(f"probe-event-{salt}", n)
            value = (
                f'{{"eventId":"{event_id}","eventType":"{UPDATED}","timestamp":"2025-11-01T00:00:00.000000Z",'
                f'"classId":"{class_id}","className":"Probe"}}'
            )
            found[partition] = (UPDATED, class_id, value)
        if len(found) == PARTITIONS:
            break
    return list(found.values())
