"""Faults at random, several at once: by seed, so that what one run found another one can do again."""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.faults.course import Course, Evidence, Row
from tests.faults.stage import Stage

_SECONDS = 25.0
_MEAN_PAUSE_SECONDS = 1.5
_MEAN_LASTS_SECONDS = 4.0


@dataclass(frozen=True)
class Fault:
    """Something that is done to one of a few things, and undone; never to so many that nothing could go on."""

    name: str
    weight: int
    targets: int
    most_at_once: int
    do: Callable[[Stage, int], None]
    undo: Callable[[Stage, int], None]


def _kill_worker(stage: Stage, n: int) -> None:
    stage.workers[n].kill()


def _start_worker(stage: Stage, n: int) -> None:
    stage.workers[n].start()


def _freeze_worker(stage: Stage, n: int) -> None:
    stage.workers[n].freeze()


def _thaw_worker(stage: Stage, n: int) -> None:
    stage.workers[n].thaw()


def _kill_broker(stage: Stage, n: int) -> None:
    stage.kafka.nodes[n].process.kill()


def _start_broker(stage: Stage, n: int) -> None:
    if not stage.kafka.nodes[n].process.running:
        stage.kafka.nodes[n].process.start()


def _freeze_broker(stage: Stage, n: int) -> None:
    stage.kafka.nodes[n].process.send_signal(signal.SIGSTOP)


def _thaw_broker(stage: Stage, n: int) -> None:
    stage.kafka.nodes[n].process.send_signal(signal.SIGCONT)


def _cut(stage: Stage, _n: int) -> None:
    stage.set_knobs(stage.broker_proxies, refuse=True)
    for proxy in stage.broker_proxies:
        stage.proxies.do(proxy.cut_all)


def _mend(stage: Stage, _n: int) -> None:
    stage.set_knobs(stage.broker_proxies, refuse=False)


def _kill_database(stage: Stage, _n: int) -> None:
    stage.mariadb.process.kill()


def _start_database(stage: Stage, _n: int) -> None:
    if not stage.mariadb.process.running:
        stage.mariadb.process.start()


def _freeze_database(stage: Stage, _n: int) -> None:
    stage.mariadb.process.send_signal(signal.SIGSTOP)


def _thaw_database(stage: Stage, _n: int) -> None:
    stage.mariadb.process.send_signal(signal.SIGCONT)


FAULTS = (
    Fault("kill worker", 5, 3, 2, _kill_worker, _start_worker),
    Fault("freeze worker", 4, 3, 2, _freeze_worker, _thaw_worker),
    Fault("kill broker", 2, 3, 1, _kill_broker, _start_broker),
    Fault("freeze broker", 2, 3, 1, _freeze_broker, _thaw_broker),
    Fault("cut network", 3, 1, 1, _cut, _mend),
    Fault("kill MySQL", 2, 1, 1, _kill_database, _start_database),
    Fault("freeze MySQL", 2, 1, 1, _freeze_database, _thaw_database),
)


@dataclass(frozen=True)
class Step:
    """Seconds since the beginning."""

    at: float
    until: float
    fault: Fault
    target: int


def plan(seed: int) -> list[Step]:
    """What is done when. The same thing is never done to what is broken already, and a quorum of brokers stays."""
    dice = random.Random(f"{seed} faults")
    steps: list[Step] = []
    now = 0.0
    while (now := now + dice.expovariate(1 / _MEAN_PAUSE_SECONDS)) < _SECONDS:
        fault = dice.choices(FAULTS, [f.weight for f in FAULTS])[0]
        step = Step(
            now, min(_SECONDS, now + dice.expovariate(1 / _MEAN_LASTS_SECONDS)), fault, dice.randrange(fault.targets)
        )
        if _is_allowed(step, [s for s in steps if s.until > now]):
            steps.append(step)
    return steps


def _is_allowed(step: Step, going_on: Sequence[Step]) -> bool:
    kind = step.fault.name.split()[1]
    same = [s for s in going_on if s.fault.name.split()[1] == kind]
    return len(same) < step.fault.most_at_once and step.target not in [s.target for s in same]


async def at_random(course: Course) -> Evidence:
    """Whatever the seed says, for a while; then all is healed."""
    steps = plan(course.verdict.seed)
    began = time.monotonic()
    await asyncio.gather(*(_run(course.stage, step, began) for step in steps))
    await course.stage.heal()
    done = [f"{step.at:.1f}-{step.until:.1f} {step.fault.name} {step.target + 1}" for step in steps]
    return Evidence(bit=len(steps) > 3, said={"seed": course.verdict.seed, "faults": done})


async def _run(stage: Stage, step: Step, began: float) -> None:
    await asyncio.sleep(max(0.0, began + step.at - time.monotonic()))
    step.fault.do(stage, step.target)
    await asyncio.sleep(max(0.0, began + step.until - time.monotonic()))
    step.fault.undo(stage, step.target)


ROWS = [Row("44", "faults at random", at_random, poison_share=0.01)]
