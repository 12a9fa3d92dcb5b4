"""Rows that make one kind of mistake visible quickly. They are no part of the matrix, which has slower ones."""

import asyncio
from collections.abc import Iterable, Mapping

from confluent_kafka import Producer

from tests.faults.checker import stores
from tests.faults.checker.stores import CHANGELOGS, Entry
from tests.faults.course import Course, Evidence, Row
from tests.faults.rows import late_created
from tests.faults.rows.brokers import all_in_sync, coordinator_of, node_of, others, start_again
from tests.faults.rows.told import config_of, configure
from tests.faults.trap import Trap
from tests.integration.independent import GROUP

DEAD_LETTERS = "emis.dead-letter"
REFUSED_SECONDS = 4.0
SHRINKING_SECONDS = 5.0
AWAY_SECONDS = 6.0
LOOKED_AT_SECONDS = 2.0
N_TIMES_OLDER = 3


async def plain(course: Course) -> Evidence:
    """No fault: late, repeated and deleting events are enough."""
    await course.rest(2)
    return Evidence(bit=True)


async def _refused(course: Course, topics: list[str], refusing: Mapping[str, str], seconds: float) -> int:
    """The topics refuse records for a while; returns how many workers said so."""
    said_before = [len(worker.log()) for worker in course.workers]
    await configure(course.stage, topics, refusing)
    await course.rest(seconds)
    said = [worker.log()[n:] for worker, n in zip(course.workers, said_before, strict=True)]
    return sum("NotEnoughReplicas" in text or "MessageSizeTooLarge" in text for text in said)


async def refused_then_killed(course: Course, topics: Iterable[str]) -> Evidence:
    """Brokers cannot acknowledge records of these topics, and all workers die: was something committed too early?

    A broker dies as well: `min.insync.replicas` above the number of replicas asks for no more than those (KIP-966).
    """
    topics, stage = list(topics), course.stage
    before = await _config(course, topics, "min.insync.replicas")
    await all_in_sync(stage)
    broker = others(stage, node_of(stage, await coordinator_of(stage, GROUP)))[0]
    broker.process.kill()
    n_told = await _refused(course, topics, {"min.insync.replicas": "3"}, REFUSED_SECONDS + SHRINKING_SECONDS)
    for worker in course.workers:
        worker.kill()
    n_killed = sum(not worker.process.running for worker in course.workers)
    await configure(stage, topics, before)
    await start_again(course, [broker])
    for worker in course.workers:
        worker.start()
    async with course.paused_load():  # Later events must not cover what is missing.
        await stage.all_ready()
    return Evidence(bit=n_told > 0 and n_killed == len(course.workers), said={"told": n_told})


async def _config(course: Course, topics: list[str], name: str) -> dict[str, str | None]:
    return {name: (await config_of(course.stage, topics[0])).get(name)}


async def changelogs_refuse(course: Course) -> Evidence:
    return await refused_then_killed(course, CHANGELOGS)


async def dead_letters_refuse(course: Course) -> Evidence:
    return await refused_then_killed(course, [DEAD_LETTERS])


async def too_large(course: Course) -> Evidence:
    """Brokers refuse every row for good: who goes on has to begin again from what is committed."""
    topics = list(CHANGELOGS)
    before = await _config(course, topics, "max.message.bytes")
    n_told = await _refused(course, topics, {"max.message.bytes": "60"}, REFUSED_SECONDS)
    await configure(course.stage, topics, before)
    async with course.paused_load():
        await course.stage.all_ready()
    return Evidence(bit=n_told > 0, said={"told": n_told})


async def older_rows(course: Course) -> Evidence:
    """Rows of classes come into their changelog once more, after newer ones: as from a worker that was frozen.

    They stay the last: what the load has saved up would come after nearly all of them (seed 5).
    """
    n_sent = 0
    async with course.paused_load():
        course.end_load()
        for _ in range(N_TIMES_OLDER):
            entries = await asyncio.to_thread(stores.changelogs, course.stage.brokers, course.district.own_ids)
            older = _older(entries)
            await asyncio.to_thread(_send, course.stage.brokers, older)
            n_sent += len(older)
            await course.rest(LOOKED_AT_SECONDS)
    return Evidence(bit=n_sent > 0, said={"sent": n_sent})


def _older(entries: Iterable[Entry]) -> list[Entry]:
    """The lowest of each class that has several."""
    by_key: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.kind == "classes":
            by_key.setdefault(entry.key, []).append(entry)
    lowest = [min(of_key, key=lambda e: e.version) for of_key in by_key.values()]
    return [entry for entry in lowest if entry.version < max(by_key[entry.key], key=lambda e: e.version).version]


def _send(brokers: str, entries: Iterable[Entry]) -> None:
    names = {kind: name for name, kind in CHANGELOGS.items()}
    producer = Producer({"bootstrap.servers": brokers, "acks": "all"})
    for entry in entries:
        producer.produce(names[entry.kind], entry.row, entry.key.encode(), partition=entry.partition)
    producer.flush(10)


async def flushed_then_killed(course: Course) -> Evidence:
    """A worker that was away dies when its local copy has written for the first time, all of that on the disk."""
    worker = course.workers[0]
    await worker.stop()
    await course.rest(AWAY_SECONDS)
    trap = Trap(worker, "read-model-flushed", nth=1)
    trap.spring()
    async with course.paused_load():
        trap.start()
        worker.wanted = False
        said = await trap.sprung()
        worker.start()
        await worker.ready()
        await course.rest(AWAY_SECONDS + LOOKED_AT_SECONDS)  # What is asked now and is older has to say so.
    return Evidence(bit=said["returncode"] == -9, said={"at": trap.point})


PLAIN = Row("plain", "late, repeated, deleting events", plain)
OLDER_ROWS = Row("older-rows", "older rows come after newer ones", older_rows)
CHANGELOGS_REFUSE = Row("changelogs-refuse", "changelogs refuse, then all workers die", changelogs_refuse)
DEAD_LETTERS_REFUSE = Row(
    "dead-letters-refuse", "dead letters are refused, then all workers die", dead_letters_refuse, poison_share=0.1
)
TOO_LARGE = Row("too-large", "changelogs refuse for good", too_large)
(LATE_CREATED,) = late_created.ROWS
FLUSHED = Row("flushed", "a worker dies after the first write of its local copy", flushed_then_killed)
