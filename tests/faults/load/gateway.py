"""`make load`, second part: the gateway at twice what each of its routes sustains.

For each route a closed loop finds what it sustains; then twice that comes in an open loop, once from many users and
once from one. Other users ask all routes all the time, at a low rate: what they see is compared with what they saw
before.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psutil

from tests.faults.load.open_loop import Load, Outcome, capacity_in_this_process, get, in_this_process, post
from tests.integration.services_rig import Process, Services, User
from tests.services import kafka_cluster, until

LEAST_ANSWERED = 0.8
"""Of the rate that the route sustains, at twice that."""
ANSWERED_P99_MS = 1_000.0
OTHERS_P99_GROWTH_MS = 250.0
"""By so much others may wait longer than without overload: the gateway's goal for calls."""
LEAST_OTHERS_ANSWERED = 0.95
OVERLOAD_SECONDS = 8.0
RAMP_SECONDS = 2.0
RAMP = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25)
"""Of what a closed loop gets."""
SUSTAINED_ANSWERED = 0.98
QUIET_SECONDS = 4.0
MOST_USED_BY_OTHERS_PCT = 15.0
"""Of the machine's processors, by processes that have nothing to do with this: more, and a broken bound says little."""
N_CLOSED = 24
"""Connections of the closed loop: within the bounds of every route."""
N_USERS = 200
OTHERS_PER_SECOND = 10.0
"""To each route."""
HEAVY, OTHERS = "127.0.0.2", "127.0.0.3"
"""Where the one heavy client and the other users come from."""
N_SEEDED, N_SEEDED_AT_ONCE = 100, 5


@dataclass(frozen=True)
class Route:
    name: str
    pattern: str
    many: Sequence[bytes]
    """Requests of many users."""
    one: Sequence[bytes]
    """Of a single one."""
    others: Sequence[bytes]
    """Of another one."""


@dataclass
class Rig:
    gateway: Process
    routes: list[Route]
    quiet: dict[str, Outcome] = field(default_factory=dict)
    """What the other users see without overload, by route."""

    def load(self, requests: Sequence[bytes], rate: float, seconds: float, source: str | None = None) -> Load:
        return Load(self.gateway.settings.host, self.gateway.settings.port, requests, rate, seconds, source)

    def others(self, seconds: float) -> list[Load]:
        return [self.load(route.others, OTHERS_PER_SECOND, seconds, OTHERS) for route in self.routes]

    async def breakers(self) -> dict[str, dict[str, Any]]:
        """What is told of each circuit breaker, by pattern."""
        _, answer = await self.gateway.ask("/circuit-breakers")
        return {pattern: told for of in answer.values() for pattern, told in of["patterns"].items()}

    async def limits(self) -> dict[str, Any]:
        """What the gateway tells of each route's limit, by pattern."""
        _, answer = await self.gateway.ask("/services/status")
        return {route["pattern"]: route for route in answer["routes"]}


class Machine:
    """How much of its processors others have had since this was made."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._before = _busy_seconds(), _own_seconds()

    def used_by_others_pct(self) -> float:
        busy, own = _busy_seconds() - self._before[0], _own_seconds() - self._before[1]
        whole = (time.monotonic() - self._begun) * (psutil.cpu_count() or 1)
        return round(100 * max(0.0, busy - own) / whole, 1)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq


def _own_seconds() -> float:
    """Of this process and all that it has started, those that have ended too."""
    found = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # It has ended just now: its parent has its times.
            times = process.cpu_times()
            found += times.user + times.system + times.children_user + times.children_system
    return found


async def _together(*groups: Sequence[Load]) -> list[list[Outcome]]:
    """Each group in a process of its own."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(len(groups), get_context("spawn")) as pool:
        await asyncio.gather(*(loop.run_in_executor(pool, time.sleep, 0.2) for _ in groups))  # They have started.
        return await asyncio.gather(*(loop.run_in_executor(pool, in_this_process, *loads) for loads in groups))


async def sustained(rig: Rig, route: Route) -> float:
    """The highest of some rates at which nearly all are answered, in an open loop as the overload will be."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        load = rig.load(route.many, 0.0, RAMP_SECONDS)
        closed = await loop.run_in_executor(pool, capacity_in_this_process, load, N_CLOSED)
    for part in RAMP:
        ((outcome,),) = await _together([rig.load(route.many, part * closed, RAMP_SECONDS)])
        if outcome.ok >= SUSTAINED_ANSWERED * len(outcome.late_ms):
            return part * closed
    raise SystemExit(f"{route.name}: no rate is sustained (closed loop: {closed:.0f}/s): is the machine busy?")


async def overload(rig: Rig, route: Route, rate: float, *, by_one: bool) -> bool:
    """At twice that rate; whether all bounds hold."""
    before, machine = await rig.limits(), Machine()
    requests, source = (route.one, HEAVY) if by_one else (route.many, None)
    heavy = [rig.load(requests, 2 * rate, OVERLOAD_SECONDS, source)]
    (outcome,), others = await _together(heavy, rig.others(OVERLOAD_SECONDS))
    broken = [] if by_one else _broken_by_answers(outcome, rate)
    broken += [f"{outcome.n_errors} errors: {dict(outcome.errors) or dict(outcome.statuses)}"] * (outcome.n_errors > 0)
    broken += [f"{outcome.hung} hung"] * (outcome.hung > 0)
    seen = dict(zip((r.name for r in rig.routes), others, strict=True))
    for name, others_outcome in seen.items():
        if name != route.name or by_one:
            broken += _broken_by_others(name, others_outcome, rig.quiet[name])
    for pattern, told in (await rig.breakers()).items():
        broken += [f"breaker {pattern}: {told['history']}"] * (told["status"] != "CLOSED" or bool(told["history"]))
    used_by_others = machine.used_by_others_pct()
    if broken and used_by_others > MOST_USED_BY_OTHERS_PCT:
        broken.append(f"not valid: other processes had {used_by_others} % of this machine's processors")
    limits = (await rig.limits())[route.pattern]
    line = {
        "phase": f"gateway: {route.name}",
        "from": "one user" if by_one else "many users",
        "sustained_per_s": round(rate),
        "offered_per_s": round(2 * rate),
        "answered_per_s": round(outcome.ok / OVERLOAD_SECONDS),
        "answered_p50_ms": outcome.answered_percentile_ms(0.5),
        "answered_p99_ms": outcome.answered_percentile_ms(0.99),
        "refused_429": outcome.statuses[429],
        "refused_503": outcome.statuses[503],
        "limit": limits["limit"],
        "refused_by_limit": limits["refusedByLimit"] - before[route.pattern]["refusedByLimit"],
        "refused_by_share": limits["refusedByShare"] - before[route.pattern]["refusedByShare"],
        "others_p99_ms": {name: o.answered_percentile_ms(0.99) for name, o in seen.items()},
        "others_answered_pct": {name: round(100 * o.ok / max(1, len(o.late_ms)), 1) for name, o in seen.items()},
        "client_late_p99_ms": outcome.client_late_ms,
        "used_by_others_pct": used_by_others,
        "broken": broken,
    }
    print(json.dumps(line), flush=True)
    return not broken


def _broken_by_answers(outcome: Outcome, rate: float) -> list[str]:
    """Of many users: as much is answered as the route can, and in time."""
    part = outcome.ok / OVERLOAD_SECONDS / rate
    p99_ms = outcome.answered_percentile_ms(0.99)
    said = {
        f"{part:.0%} of what it sustains was answered": part < LEAST_ANSWERED,
        f"p99 of answers {p99_ms:.0f} ms": p99_ms >= ANSWERED_P99_MS,
    }
    return [text for text, is_so in said.items() if is_so]


def _broken_by_others(name: str, outcome: Outcome, quiet: Outcome) -> list[str]:
    p99_ms, before_ms = outcome.answered_percentile_ms(0.99), quiet.answered_percentile_ms(0.99)
    said = {
        f"others, {name}: {outcome.ok} of {len(outcome.late_ms)} answered": (
            outcome.ok < LEAST_OTHERS_ANSWERED * len(outcome.late_ms)
        ),
        f"others, {name}: p99 {p99_ms:.0f} ms, {before_ms:.0f} before": p99_ms > before_ms + OTHERS_P99_GROWTH_MS,
    }
    return [text for text, is_so in said.items() if is_so]


@asynccontextmanager
async def running() -> AsyncIterator[Rig]:
    """A broker, lessons, progress and a gateway as processes, with some lessons of each user."""
    with kafka_cluster() as kafka, TemporaryDirectory(prefix="emis-load-gateway-") as folder:
        services = Services(kafka.bootstrap, Path(folder))
        await services.make_topics()
        async with AsyncExitStack() as stack:
            for name in ("progress", "lessons"):
                await stack.enter_async_context(services.process(name).running())
            # Ready or not: it routes to users and teachers too, and none run here.
            gateway = await stack.enter_async_context(services.process("gateway").running(ready=False))
            await until(lambda: _answers(gateway), 60)
            yield Rig(gateway, await _routes(gateway))


async def _answers(gateway: Process) -> bool:
    statuses = [(await gateway.ask(path))[0] for path in ("/lessons?limit=1", f"/progress/{uuid4()}")]
    return statuses == [200, 200]


async def _routes(gateway: Process) -> list[Route]:
    heavy, other = User(gateway), User(gateway)
    for user in (heavy, other):
        lesson_ids: set[str] = set()
        for _ in range(N_SEEDED // N_SEEDED_AT_ONCE):
            lesson_ids |= await user.created(N_SEEDED_AT_ONCE)
        await until(partial(_has, user, lesson_ids), 60)
    users = [str(uuid4()) for _ in range(N_USERS)]

    def lesson_of(user: object) -> bytes:
        return post("/lessons", {"title": "Phân số", "userId": str(user)})

    def progress_of(user: object) -> bytes:
        return get(f"/progress/{user}")

    many = [*users, str(heavy.id_)]
    listed = [get("/lessons?limit=20")]
    return [
        Route(
            "POST /lessons",
            "create-lesson",
            [lesson_of(u) for u in users],
            [lesson_of(heavy.id_)],
            [lesson_of(other.id_)],
        ),
        Route("GET /lessons", "get-lessons", listed, listed, listed),
        Route(
            "GET /progress",
            "progress",
            [progress_of(u) for u in many],
            [progress_of(heavy.id_)],
            [progress_of(other.id_)],
        ),
    ]


async def _has(user: User, lesson_ids: set[str]) -> bool:
    _, answer = await user.gateway.ask(f"/progress/{user.id_}?limit=100")
    return bool(answer) and {lesson["lessonId"] for lesson in answer["lessons"]} == lesson_ids


async def _all_phases(rig: Rig) -> bool:
    await _together(rig.others(1.0))  # Whatever is made with the first requests is made.
    (quiet,) = await _together(rig.others(QUIET_SECONDS))
    rig.quiet = dict(zip((route.name for route in rig.routes), quiet, strict=True))
    line = {name: outcome.answered_percentile_ms(0.99) for name, outcome in rig.quiet.items()}
    print(json.dumps({"phase": "gateway: quiet", "others_p99_ms": line}), flush=True)
    held = []
    for route in rig.routes:
        rate = await sustained(rig, route)
        held += [await overload(rig, route, rate, by_one=by_one) for by_one in (False, True)]
    return all(held)


async def holds() -> bool:
    """Whether all bounds hold; one JSON line per phase on standard output."""
    async with running() as rig:
        return await _all_phases(rig)
