"""`make load`: what the pages do when more is asked of them than they can answer, or by clients that mean no good.

Starts a broker, an ingesting and a serving worker with data; finds the rate that it answers in good time,
sends twice that, then attacks while some honest clients go on; then the same for the gateway and its services
(`gateway.py`); then ten thousand open pages (`pages.py`). Parts may be named: `make load ARGS="pages"`. One JSON line
per phase on standard output; exit code 1 if a bound is broken. About seven minutes; everything is on loopback.
"""

import asyncio
import json
import random
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import uvloop

from emis_streams import admin
from emis_streams.local.readiness import ask
from tests.faults.load import attacks, gateway, pages
from tests.faults.load.attacks import ATTACKS, Attack, Target
from tests.faults.load.open_loop import Client, Load, Outcome, get, in_this_process
from tests.integration.independent import progress
from tests.integration.worker_rig import Country, Worker, key_of, producing
from tests.services import kafka_cluster, settings_for, until

SEED = 1
N_CLASSES = 2_000
SUSTAINED_P99_MS = 100.0
OVERLOAD_P99_MS = 1_000.0
"""Of answers and refusals alike, counted from the planned time."""
ATTACKED_P99_MS = 500.0
OVERLOAD_SECONDS = 20.0
FLOOD_SECONDS = 10.0
"""At twice the capacity of a closed loop."""
ATTACK_SECONDS = 6.0
HONEST_PER_SECOND = 100.0
MOST_GROWTH_MB = 50.0
LEAST_WORKER_CPU_PCT = 60.0
"""A worker that refuses must be busy: one that is kept from a processor says nothing about its limits."""
LEAST_HEALTH_PCT = 100.0
LEAST_HONEST_PART = 0.9
"""Answered; the others get a quick 503 while an attack is a flood of whole requests."""
_STARTED_SECONDS = 1.0
"""For the process that attacks."""
SLOW_SECONDS = 3.0
"""Slow clients are waited for so long here: less than an attack lasts, so that it is seen to end them."""
_HEALTH_EVERY_SECONDS = 0.2
_MB = 2**20


@dataclass
class Watch:
    """What is seen of the worker from beside, during a phase."""

    process: psutil.Process
    rss_before: int = 0
    rss_most: int = 0
    n_asked: int = 0
    n_well: int = 0
    slowest_health_ms: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    cpu_before: float = 0.0

    def __post_init__(self) -> None:
        self.cpu_before = self._cpu_seconds()

    def _cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def worker_cpu_pct(self) -> float:
        """Of one core, since the begin."""
        return round(100 * (self._cpu_seconds() - self.cpu_before) / (time.monotonic() - self.begun), 1)

    @property
    def growth_mb(self) -> float:
        return round((self.rss_most - self.rss_before) / _MB, 1)

    @property
    def health_ok_pct(self) -> float:
        return round(100 * self.n_well / max(1, self.n_asked), 2)


@dataclass(frozen=True)
class Rig:
    worker: Worker
    process: psutil.Process
    paths: list[str]

    @property
    def target(self) -> Target:
        settings = self.worker.settings
        return Target(settings.host, settings.port, self.paths[0])

    @property
    def requests(self) -> list[bytes]:
        return [get(path, self.target.host) for path in self.paths]

    async def load(self, rate: float, seconds: float) -> Outcome:
        loop, target = asyncio.get_running_loop(), self.target
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            await loop.run_in_executor(pool, time.time)  # It has started.
            load = Load(target.host, target.port, self.requests, rate, seconds)
            return (await loop.run_in_executor(pool, in_this_process, load))[0]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Watch]:
        rss = self.process.memory_info().rss
        watch = Watch(self.process, rss, rss)
        task = asyncio.create_task(self._look(watch))
        try:
            yield watch
        finally:
            task.cancel()

    async def _look(self, watch: Watch) -> None:
        """A new connection each time, as an orchestrator's probe has."""
        while True:
            for path in ("/livez", "/health"):
                begun = time.monotonic()
                answer = await asyncio.to_thread(ask, self.target.host, self.target.port, path)
                watch.n_asked += 1
                watch.n_well += answer is not None and answer.status == 200
                watch.slowest_health_ms = max(watch.slowest_health_ms, round((time.monotonic() - begun) * 1000, 1))
            watch.rss_most = max(watch.rss_most, self.process.memory_info().rss)
            await asyncio.sleep(_HEALTH_EVERY_SECONDS)


@contextmanager
def running() -> Iterator[Rig]:
    """A serving worker that has everything, beside an ingesting one."""
    with kafka_cluster() as kafka, TemporaryDirectory(prefix="emis-load-") as folder:
        base = settings_for(kafka.bootstrap, Path(folder))
        asyncio.run(admin.ensure_topics(base))
        slow = {"web_receive_seconds": SLOW_SECONDS, "web_send_seconds": SLOW_SECONDS, "web_idle_seconds": SLOW_SECONDS}
        workers = [
            Worker(role, settings_for(kafka.bootstrap, Path(folder) / role / "data", roles=role, **changes))
            for role, changes in (("ingest", {}), ("serve", slow))
        ]
        country = Country(SEED, N_CLASSES)
        try:
            _fill(kafka.bootstrap, country)
            for worker in workers:
                worker.start()
                asyncio.run(worker.ready())
                if worker is workers[0]:
                    asyncio.run(until(lambda: _all_read(kafka.bootstrap), 60))
            serving = workers[1]
            paths = [f"/api/teachers/{teacher_id}" for teacher_id in country.teachers]
            paths = [path for path in paths if serving.get(path)[0] == 200]
            random.Random(SEED).shuffle(paths)
            yield Rig(serving, psutil.Process(serving.process.pid), paths)
            assert serving.process.running, serving.process.log_tail()
        finally:
            for worker in workers:
                worker.process.stop()


def _fill(bootstrap: str, country: Country) -> None:
    with producing(bootstrap) as producer:
        for event in country.events:
            producer.produce(event["eventType"], json.dumps(event).encode(), key_of(event).encode())
            producer.poll(0)


def _all_read(bootstrap: str) -> bool:
    at = progress(bootstrap)
    return at.committed >= at.end


async def capacity(rig: Rig) -> float:
    """What 64 connections get that ask again and again."""
    return await Client(rig.target.host, rig.target.port, rig.requests, 0.0).run_closed(3.0, 64)


async def sustainable(rig: Rig, closed: float) -> float:
    """The highest of some rates at which all are answered, 99 of 100 within SUSTAINED_P99_MS."""
    for part in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3):
        rate = round(part * closed)
        async with rig.watched() as watch:
            outcome = await rig.load(rate, 3.0)
        if outcome.ok == int(3.0 * rate) and outcome.percentile_ms(0.99) <= SUSTAINED_P99_MS:
            tell("sustainable", outcome, watch)
            return rate
    raise SystemExit(f"no rate is sustainable (closed loop: {closed:.0f}/s): is the machine busy?")


def tell(phase: str, outcome: Outcome, watch: Watch, broken: list[str] | None = None) -> None:
    line = {
        "phase": phase,
        "rate": outcome.rate,
        "ok": outcome.ok,
        "shed_503": outcome.statuses[503],
        "shed_429": outcome.statuses[429],
        "errors": outcome.n_errors,
        "hung": outcome.hung,
        "sent_again": outcome.sent_again,
        "p50_ms": outcome.percentile_ms(0.5),
        "p99_ms": outcome.percentile_ms(0.99),
        "health_ok_pct": watch.health_ok_pct,
        "slowest_health_ms": watch.slowest_health_ms,
        "rss_growth_mb": watch.growth_mb,
        "worker_cpu_pct": watch.worker_cpu_pct,
        "client_late_p99_ms": outcome.client_late_ms,
        "broken": broken or [],
    }
    print(json.dumps(line), flush=True)


def broken_bounds(outcome: Outcome, watch: Watch, p99_ms: float) -> list[str]:
    said = {
        f"errors: {dict(outcome.errors) or dict(outcome.statuses)}": outcome.n_errors > 0,
        "health did not always answer": watch.health_ok_pct < LEAST_HEALTH_PCT,
        f"memory grew by more than {MOST_GROWTH_MB:.0f} MB": watch.growth_mb > MOST_GROWTH_MB,
        f"{outcome.hung} hung": outcome.hung > 0,
        f"p99 over {p99_ms:.0f} ms": outcome.percentile_ms(0.99) > p99_ms,
    }
    return [text for text, is_so in said.items() if is_so]


async def overload(rig: Rig, phase: str, arrivals_rate: float, seconds: float, sustainable_rate: float) -> bool:
    """More than it can answer: at least half of what it can is answered, and the rest is refused at once."""
    async with rig.watched() as watch:
        outcome = await rig.load(arrivals_rate, seconds)
    broken = broken_bounds(outcome, watch, OVERLOAD_P99_MS)
    if outcome.ok < sustainable_rate * seconds / 2:
        broken.append("not half of what it can answer was answered")
    if outcome.statuses[503] and watch.worker_cpu_pct < LEAST_WORKER_CPU_PCT:
        broken.append("not valid: others on this machine had the worker's processor")
    tell(phase, outcome, watch, broken)
    return not broken


async def attacked(rig: Rig, attack: Attack) -> bool:
    async with rig.watched() as watch:
        command = (sys.executable, "-m", attacks.__name__, attack.__name__)
        target = (rig.target.host, str(rig.target.port), rig.target.page, str(ATTACK_SECONDS))
        process = await asyncio.create_subprocess_exec(*command, *target, stdout=PIPE)
        outcome = await rig.load(HONEST_PER_SECOND, ATTACK_SECONDS + _STARTED_SECONDS)
        said, _ = await process.communicate()
        wrong = said.decode() if process.returncode == 0 else f"the attack failed ({process.returncode})"
    broken = broken_bounds(outcome, watch, ATTACKED_P99_MS)
    if outcome.ok < LEAST_HONEST_PART * HONEST_PER_SECOND * (ATTACK_SECONDS + _STARTED_SECONDS):
        broken.append("honest clients were not answered")
    tell(attack.__name__, outcome, watch, [*broken, *([wrong] if wrong else [])])
    return not broken and not wrong


async def all_phases(rig: Rig) -> bool:
    await rig.load(500, 3.0)  # Whatever is made with the first requests is made.
    async with rig.watched() as whole:
        closed = await capacity(rig)
        rate = await sustainable(rig, closed)
        held = [
            await overload(rig, "overload", 2 * rate, OVERLOAD_SECONDS, rate),
            await overload(rig, "flood", 2 * closed, FLOOD_SECONDS, rate),
        ]
        for attack in ATTACKS:
            held.append(await attacked(rig, attack))
    log = rig.worker.log()
    print(json.dumps({"phase": "all", "rss_growth_mb": whole.growth_mb, "log_bytes": len(log)}), flush=True)
    if "Traceback" in log:
        print(log[-4_000:], file=sys.stderr)
        held.append(False)
    return all(held) and whole.growth_mb <= MOST_GROWTH_MB


def _overload_holds() -> bool:
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    with running() as rig:
        return asyncio.run(all_phases(rig))


PARTS: dict[str, Callable[[], bool]] = {
    "overload": _overload_holds,
    "gateway": lambda: asyncio.run(gateway.holds()),
    "pages": pages.holds,
}
"""What can be named on the command line; all of them in this order, if none is."""


def main(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: not known; there are {', '.join(PARTS)}")
    held = [PARTS[name]() for name in names or PARTS]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
