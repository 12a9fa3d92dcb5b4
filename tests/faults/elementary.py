"""Faults of some seconds that begin, hold and end by themselves: what random courses and the soak draw from."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

from tests.faults.course import Course

Fault = Callable[[Course, random.Random], Awaitable[None]]


async def worker_killed(course: Course, dice: random.Random) -> None:
    victim = dice.choice(course.workers)
    victim.kill()
    await course.rest(dice.uniform(0.5, 12))
    victim.start()
    await victim.ready()


async def worker_told_to_stop(course: Course, dice: random.Random) -> None:
    leaving = dice.choice(course.workers)
    await leaving.stop()
    await course.rest(dice.uniform(0.5, 5))
    leaving.start()
    await leaving.ready()


async def worker_frozen(course: Course, dice: random.Random) -> None:
    """Shorter than its session, or longer."""
    victim = dice.choice(course.workers)
    victim.freeze()
    await course.rest(dice.choice((3.0, 13.0)))
    victim.thaw()
    await victim.ready()


async def broker_killed(course: Course, dice: random.Random) -> None:
    victim = dice.choice(course.stage.kafka.nodes)
    victim.process.kill()
    await course.rest(dice.uniform(1, 8))
    await course.stage.start_broker(victim)


async def broker_frozen(course: Course, dice: random.Random) -> None:
    victim = dice.choice(course.stage.kafka.nodes)
    victim.process.send_signal(signal.SIGSTOP)
    await course.rest(dice.uniform(1, 8))
    victim.process.send_signal(signal.SIGCONT)


async def database_killed(course: Course, dice: random.Random) -> None:
    course.stage.mariadb.process.kill()
    await course.rest(dice.uniform(1, 8))
    course.stage.mariadb.start()


async def database_deaf(course: Course, dice: random.Random) -> None:
    """What workers say to the database vanishes, or what it answers."""
    direction = dice.choice(("swallow_up", "swallow_down"))
    course.stage.set_knobs([course.stage.db_proxy], **{direction: True})
    await course.rest(dice.uniform(1, 8))
    course.stage.proxies.do(course.stage.db_proxy.heal)


async def network_slow(course: Course, dice: random.Random) -> None:
    """Of worker 3, whose brokers are behind proxies."""
    course.stage.set_knobs(course.stage.broker_proxies, latency_seconds=0.1, jitter_seconds=0.1)
    await course.rest(dice.uniform(3, 8))
    _heal_brokers(course)


async def network_cut(course: Course, dice: random.Random) -> None:
    """Of worker 3, for shorter or longer than its session."""
    course.stage.set_knobs(course.stage.broker_proxies, swallow_up=True, swallow_down=True)
    await course.rest(dice.choice((3.0, 13.0)))
    _heal_brokers(course)


async def network_reset(course: Course, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 5)):
        for proxy in course.stage.broker_proxies:
            course.stage.proxies.do(proxy.cut_all)
        await asyncio.sleep(dice.uniform(0, 1))


def _heal_brokers(course: Course) -> None:
    for proxy in course.stage.broker_proxies:
        course.stage.proxies.do(proxy.heal)


FAULTS: tuple[Fault, ...] = (
    worker_killed,
    worker_told_to_stop,
    worker_frozen,
    broker_killed,
    broker_frozen,
    database_killed,
    database_deaf,
    network_slow,
    network_cut,
    network_reset,
)
