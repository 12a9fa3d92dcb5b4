"""The soak: one long course with a fault every minute, drawn by seed, and the whole comparison at its end."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psutil
from confluent_kafka import KafkaException

from tests.faults.course import Course, Evidence, Row
from tests.faults.rows.random_faults import FAULTS

EVERY_SECONDS = 60.0
SAMPLE_SECONDS = 5.0
SETTLED_SECONDS = 60.0
"""A process that is younger still fills its caches: that is no growth."""
MOST_SECONDS = 15.0
"""Longer than a session, so that some faults cost a worker its partitions and some do not."""
EVENTS_PER_SECOND = 100.0


@dataclass
class Samples:
    """What is looked at every few seconds: how far behind the group is, how large the workers are."""

    lags: list[int] = field(default_factory=list)
    sizes: dict[int, list[int]] = field(default_factory=dict)
    """Resident bytes of each worker process, in order, from when it had settled."""

    async def take(self, course: Course) -> None:
        at = await course.progress()
        self.lags.append(at.end - at.committed)
        for worker in course.workers:
            if worker.process.running:
                self._measure(worker.process.pid)

    def _measure(self, pid: int) -> None:
        try:
            process = psutil.Process(pid)
            if time.time() - process.create_time() >= SETTLED_SECONDS:
                self.sizes.setdefault(pid, []).append(process.memory_info().rss)
        except psutil.NoSuchProcess:
            return  # it has just been killed

    def figures(self) -> dict[str, Any]:
        lags = sorted(self.lags) or [0]
        growths = [(sizes[-1] - sizes[0]) / 2**20 for sizes in self.sizes.values()]
        return {
            "lag_median": lags[len(lags) // 2],
            "lag_max": lags[-1],
            "rss_growth_mb_max": round(max(growths, default=0.0), 1),
            "rss_mb_max": round(max((max(sizes) for sizes in self.sizes.values()), default=0) / 2**20),
            "processes": len(self.sizes),
        }


def row(minutes: float, seed: int) -> Row:
    """The soak as a row, bounded by its minutes (and by the time-outs of a last fault)."""

    async def soak(course: Course) -> Evidence:
        dice = random.Random(f"soak {seed}")
        samples, done = Samples(), Counter[str]()
        sampling = asyncio.create_task(_sample(course, samples))
        begun = time.monotonic()
        try:
            for n in range(int(minutes * 60 / EVERY_SECONDS)):
                await course.rest(max(0.0, begun + n * EVERY_SECONDS - time.monotonic()))
                fault = dice.choices(FAULTS, [fault.weight for fault in FAULTS])[0]
                target, lasts_seconds = dice.randrange(fault.targets), dice.uniform(1, MOST_SECONDS)
                course.say(f"minute {n}: {fault.name} {target + 1} for {lasts_seconds:.1f} s")
                fault.do(course.stage, target)
                await course.rest(lasts_seconds)
                fault.undo(course.stage, target)
                await course.stage.heal()
                done[fault.name] += 1
                if sampling.done():
                    sampling.result()  # It never ends by itself, but by what it raised.
            await course.rest(max(0.0, begun + minutes * 60 - time.monotonic()))
        finally:
            sampling.cancel()
        said = {"minutes": minutes, "faults": dict(done), **samples.figures()}
        return Evidence(bit=bool(done) and bool(samples.lags), said=said)

    return Row("soak", f"a fault every minute for {minutes:g} minutes", soak, events_per_second=EVENTS_PER_SECOND)


async def _sample(course: Course, samples: Samples) -> None:
    while True:
        try:
            await samples.take(course)
        except KafkaException as error:
            course.say(f"the lag is not known: {error}")  # A broker is down just now.
        await asyncio.sleep(SAMPLE_SECONDS)
