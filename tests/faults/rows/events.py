"""Events that come twice, too late, in any order, from wrong clocks, useless or too large."""

import asyncio
import hashlib
import itertools
import shutil
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

from confluent_kafka import Producer

from tests.faults.checker import stores
from tests.faults.checker.truth import Record, records_of
from tests.faults.course import Course, Evidence, Row
from tests.faults.rows import told
from tests.faults.rows.logs import NewLines
from tests.faults.rows.own_events import (
    Own,
    Sending,
    ago,
    assignment_event,
    class_event,
    new_class,
    new_teacher,
    passed,
    send,
    send_now,
    teacher_event,
)
from tests.faults.stage import SESSION_TIMEOUT_SECONDS, FaultWorker, until
from tests.faults.wrong_clock import wrong_clock
from tests.integration.independent import GROUP, NO_ORDER, kept_in, records

HOUR, DAY = 3600.0, 86_400.0
_LIMIT_SECONDS = 30.0
_DEAD_LETTERS = "emis.dead-letter"


# -- clocks ---------------------------------------------------------------------------------------


async def producers_clock(course: Course) -> Evidence:
    """The producer's clock jumps between both sides with each event (`Row.skew_seconds`)."""
    before = await told.counted(course, "emis_events_total", "refused")
    await course.rest(5)
    refused = await told.counted(course, "emis_events_total", "refused") - before
    return Evidence(bit=refused > 0, said={"of_the_future": refused})


async def workers_clocks(course: Course, seconds: float) -> Evidence:
    """Worker 1 is ahead, worker 2 behind; worker 3 stands still for a while, so that there is something late."""
    ahead, behind, third = course.workers
    for worker, wrong_by in ((ahead, seconds), (behind, -seconds)):
        await worker.stop()
        worker.start(environment=wrong_clock(wrong_by))
        await worker.ready()
    measured = [await _clock_is_wrong_by(worker) for worker in (ahead, behind)]
    third.freeze()
    await course.rest(SESSION_TIMEOUT_SECONDS - 2)
    third.thaw()
    await third.ready()
    bit = all(abs(wrong - wanted) < 60 for wrong, wanted in zip(measured, (seconds, -seconds), strict=True))
    return Evidence(bit=bit, said={"wrong_by_s": [round(wrong) for wrong in measured]})


async def _clock_is_wrong_by(worker: FaultWorker) -> float:
    """Seconds, as the worker measured it against the brokers and shows in `/health`."""
    skew: float | None = None

    async def is_measured() -> bool:
        nonlocal skew
        _, body = await asyncio.to_thread(worker.get, "/health")
        skew = body["checks"]["clock"]["observedValue"] if body else None
        return skew is not None

    await until(is_measured, _LIMIT_SECONDS, f"{worker.name} has measured its clock")
    assert skew is not None
    return skew


# -- twice ----------------------------------------------------------------------------------------


async def replayed(course: Course) -> Evidence:
    """Everything about the district is sent once more, in the order in which it came."""

    async def again() -> int:
        log = await asyncio.to_thread(records_of, course.stage.brokers, course.district.own_ids)
        places = await send(course, [_same(record) for record in sorted(log, key=lambda r: r.ms)])
        await passed(course, places)
        return len(places)

    return await unchanged(course, again)


def _same(record: Record) -> Own:
    headers = (("bad", b"1"),) if record.is_bad else ()
    return Own(record.place.topic, (record.key or b"").decode(), record.value, headers)


async def unchanged(course: Course, act: Callable[[], Awaitable[int]]) -> Evidence:
    """What is kept of the district is the same before and after, but for the places in the log that it comes from.

    `act` says how many events came again.
    """
    async with course.paused_load():
        before = await asyncio.to_thread(_digest, course)
        n_again = await act()
        await course.committed()
        after = await asyncio.to_thread(_digest, course)
    if after != before:
        course.findings.add("divergent", "digest", f"the changelogs said {before}, and after the same events {after}")
    return Evidence(bit=n_again > 0, said={"again": n_again, "digest": before[:16]})


def _digest(course: Course) -> str:
    """Of the last record of each key."""
    entries = stores.changelogs(course.stage.brokers, course.district.own_ids)
    last = {(e.kind, e.key): kept_in(e.row)._replace(order=NO_ORDER) for e in entries if e.row is not None}
    return hashlib.sha256(repr(sorted(last.items())).encode()).hexdigest()


# -- in any order ---------------------------------------------------------------------------------


async def any_order(course: Course) -> Evidence:
    """Created, updated and deleted arrive in each order, at times in each order, apart and together."""
    begin = ago(300)
    moments = [begin + timedelta(seconds=n) for n in range(3)]
    times = [*itertools.permutations(moments), (begin, begin, begin)]
    lives = [*_class_lives(course, times), *_teacher_lives(course, times), *_assignment_lives(course, times)]
    together = [*_class_lives(course, times), *_teacher_lives(course, times), *_assignment_lives(course, times)]
    for step in range(3):
        await passed(course, await send(course, [life[step] for life in lives if step < len(life)]))
    await passed(course, await send(course, [event for life in together for event in life]))
    return Evidence(bit=len(lives) == len(together) == 2 * 6 * 7 + 2 * 7, said={"orders": len(lives) * 2})


def _class_lives(course: Course, times: list[tuple[datetime, ...]]) -> list[list[Own]]:
    return [
        [class_event(class_id, what, at) for what, at in zip(order, when, strict=True)]
        for order in itertools.permutations(("created", "updated", "deleted"))
        for when in times
        if (class_id := new_class(course))
    ]


def _teacher_lives(course: Course, times: list[tuple[datetime, ...]]) -> list[list[Own]]:
    return [
        [teacher_event(teacher_id, what, at) for what, at in zip(order, when, strict=True)]
        for order in itertools.permutations(("created", "updated", "deleted"))
        for when in times
        if (teacher_id := new_teacher(course))
    ]


def _assignment_lives(course: Course, times: list[tuple[datetime, ...]]) -> list[list[Own]]:
    teacher_id, class_id = course.district.teachers[0], course.district.classes[0]
    return [
        [
            assignment_event(teacher_id, assignment_id, class_id, what, at)
            for what, at in zip(order, when[:2], strict=True)
        ]
        for order in itertools.permutations(("created", "deleted"))
        for when in times
        if (assignment_id := str(uuid.uuid4()))
    ]


# -- after a delete -------------------------------------------------------------------------------


async def late_after_delete(course: Course) -> Evidence:
    """Old events of deleted classes come when only the deletes are left of them, and a worker has only those."""
    classes = [new_class(course) for _ in range(20)]
    await passed(course, await send(course, [class_event(c, "created", ago(100)) for c in classes]))
    await passed(course, await send(course, [class_event(c, "deleted", ago(50)) for c in classes]))
    n_before = await asyncio.to_thread(_n_records, course, classes)
    await _compact(course, classes)
    victim = course.workers[0]
    victim.kill()
    shutil.rmtree(victim.data_dir)
    victim.start()
    await victim.ready()
    late = [class_event(c, what, ago(60)) for c in classes for what in ("created", "updated")]
    await passed(course, await send(course, late))
    return Evidence(bit=n_before > len(classes), said={"deleted": len(classes), "records_before": n_before})


async def _compact(course: Course, classes: list[str]) -> None:
    """Until each of them has one record in the changelog."""
    changelog = f"{GROUP}-classes-changelog"
    before = await told.config_of(course.stage, changelog)
    await told.configure(course.stage, [changelog], _COMPACTED_AT_ONCE)

    async def is_compacted() -> bool:
        return await asyncio.to_thread(_n_records, course, classes) == len(classes)

    try:
        await until(is_compacted, _LIMIT_SECONDS, "the changelog is compacted", 0.5)
    finally:
        await told.configure(course.stage, [changelog], {name: before.get(name) for name in _COMPACTED_AT_ONCE})


_COMPACTED_AT_ONCE = {
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "0",
    "segment.ms": "500",
}


def _n_records(course: Course, classes: list[str]) -> int:
    wanted = {class_id.encode() for class_id in classes}
    return sum(m.key() in wanted for m in records(course.stage.brokers, [f"{GROUP}-classes-changelog"]))


# -- useless --------------------------------------------------------------------------------------


async def poisoned(course: Course) -> Evidence:
    """Useless records among the good ones (`Row.poison_share`); a neighbour of each partition goes on."""
    neighbours = [new_class(course) for _ in range(50)]
    n_bad, slowest = await _accounted(course, neighbours)
    broken = [] if slowest <= _NEIGHBOUR_SECONDS else [f"a neighbour's event took {slowest:.1f} s to be passed"]
    said = {"dead_letters": n_bad, "slowest_neighbour_s": round(slowest, 1)}
    return Evidence(bit=n_bad > 0, said=said, broken=broken)


_NEIGHBOUR_SECONDS = 10.0


async def _accounted(course: Course, neighbours: list[str]) -> tuple[int, float]:
    """Dead letters of the time in which neighbours send, and how long the slowest of these took.

    The log's growth must be what workers say became of it: applied, superseded (also: the same again) or refused.
    """
    async with course.paused_load():
        before = await _account(course)
    slowest = 0.0
    for _ in range(3):
        began = asyncio.get_running_loop().time()
        await passed(course, await send(course, [class_event(c, "updated", ago(0)) for c in neighbours]))
        slowest = max(slowest, asyncio.get_running_loop().time() - began)
    async with course.paused_load():
        after = await _account(course)
    grown = {name: after[name] - before[name] for name in after}
    outcomes = {name: grown[name] for name in _OUTCOMES}
    if grown["log"] != sum(outcomes.values()):
        course.findings.add("lost", "accounts", f"the log grew by {grown['log']}, workers account for {outcomes}")
    if grown["dead letters"] < grown["refused"]:
        course.findings.add("lost", "dead letters", f"{outcomes}, but {grown['dead letters']} dead letters")
    return grown["dead letters"], slowest


_OUTCOMES = ("applied", "superseded", "refused")


async def _account(course: Course) -> dict[str, int]:
    outcomes = {name: await told.counted(course, "emis_events_total", f'"{name}"') for name in _OUTCOMES}
    letters = sum(end for _, end in (await told.watermarks(course.stage, [_DEAD_LETTERS])).values())
    return {**outcomes, "dead letters": letters, "log": (await course.progress()).end}


async def dead_letters_too_few_brokers(course: Course) -> Evidence:
    """The dead-letter topic wants more copies in sync than there are brokers."""
    victim = course.stage.kafka.nodes[2]
    log = NewLines(course.workers)
    victim.process.kill()
    await told.watermarks(course.stage, [_DEAD_LETTERS])  # New leaders learn their ends, as they could not later.
    await told.configure(course.stage, [_DEAD_LETTERS], {"min.insync.replicas": "3"})
    try:
        return await _refused_meanwhile(course, log)
    finally:
        await course.stage.start_broker(victim)
        await told.configure(course.stage, [_DEAD_LETTERS], {"min.insync.replicas": "2"})


async def dead_letters_too_large(course: Course) -> Evidence:
    """The dead-letter topic takes nothing that is larger than a few bytes."""
    limit = (await told.config_of(course.stage, _DEAD_LETTERS))["max.message.bytes"]
    log = NewLines(course.workers)
    await told.configure(course.stage, [_DEAD_LETTERS], {"max.message.bytes": "100"})
    try:
        return await _refused_meanwhile(course, log)
    finally:
        await told.configure(course.stage, [_DEAD_LETTERS], {"max.message.bytes": limit})


async def _refused_meanwhile(course: Course, log: NewLines) -> Evidence:
    """While no dead letter can be written, what is committed must not lead them."""
    await course.rest(3)
    before = sum(end for _, end in (await told.watermarks(course.stage, [_DEAD_LETTERS])).values())
    n_bad = await _n_bad(course)
    await course.rest(10)
    after = sum(end for _, end in (await told.watermarks(course.stage, [_DEAD_LETTERS])).values())
    more_bad = await _n_bad(course) - n_bad
    said = {"letters_meanwhile": after - before, "useless_meanwhile": more_bad}
    return Evidence(bit=after == before and more_bad > 0, said=said)


async def _n_bad(course: Course) -> int:
    log = await asyncio.to_thread(records_of, course.stage.brokers, course.district.own_ids)
    return sum(record.is_bad for record in log)


# -- large ----------------------------------------------------------------------------------------


MIB = 1 << 20
_MIB_PACKED, _MIB_PLAIN, _MIB_OPENED = (0.9, 2.0, 9.0), (0.9, 0.99, 1.1, 9.0), (1.5, 9.0)


async def oversized(course: Course) -> Evidence:
    """Records up to what the brokers take, packed ones up to 9 MiB, and 9 MiB where a topic was opened that far."""
    packed = await _sent_in_sizes(course, _MIB_PACKED, "gzip")
    plain = await _sent_in_sizes(course, _MIB_PLAIN, "none")
    largest, n_bytes = await _largest_that_passes(course)
    topic = "emis.class.updated"
    limit = (await told.config_of(course.stage, topic))["max.message.bytes"]
    await told.configure(course.stage, [topic], {"max.message.bytes": str(10 * MIB)})
    try:
        opened = await _sent_in_sizes(course, _MIB_OPENED, "none")
        await passed(course, [*packed.places, *plain.places, *largest.places, *opened.places])
    finally:
        await told.configure(course.stage, [topic], {"max.message.bytes": limit})
    said = {
        "packed": len(packed.places),
        "plain": len(plain.places),
        "refused_by_brokers": len(plain.refused),
        "largest_bytes": n_bytes,
        "opened": len(opened.places),
    }
    bit = not packed.refused and bool(plain.refused) and not opened.refused
    return Evidence(bit=bit, said=said)


async def _sent_in_sizes(course: Course, mib: tuple[float, ...], compression: str) -> Sending:
    """Of each size an event that can be used and a record that cannot."""
    large = [_large(course, int(size * MIB)) for size in mib]
    return await _send_large(course, [record for one in large for record in (one, _useless(one))], compression)


async def _send_large(course: Course, large: list[Own], compression: str) -> Sending:
    settings = {
        "bootstrap.servers": course.stage.brokers,
        "partitioner": "murmur2_random",
        "message.max.bytes": 20 * MIB,
        "compression.type": compression,
        "batch.num.messages": 1,
    }
    return await asyncio.to_thread(send_now, Producer(settings), large)


def _large(course: Course, n_bytes: int) -> Own:
    """An event of so many bytes that can be used: the contract has fields that it does not know ignored."""
    class_id = new_class(course)
    time = ago(0)
    short = class_event(class_id, "updated", time, more="")
    return class_event(class_id, "updated", time, more="x" * (n_bytes - len(short.value)))


def _useless(event: Own) -> Own:
    return Own(event.topic, event.key, b"{" + event.value[:-1]).as_bad


async def _largest_that_passes(course: Course) -> tuple[Sending, int]:
    """The brokers' limit is for a batch, which is some bytes more than the value; a useless record, to the byte."""
    for n_bytes in range(stores.LARGEST_BYTES - 100, stores.LARGEST_BYTES - 250, -1):
        sending = await _send_large(course, [_useless(_large(course, n_bytes))], "none")
        if sending.places:
            return sending, n_bytes
    raise RuntimeError("the brokers took no record near their limit")


ROWS = [
    Row("29a", "a producer's clock is wrong by up to 1 h", producers_clock, skew_seconds=HOUR),
    Row("29b", "a producer's clock is wrong by up to 8 d", producers_clock, skew_seconds=8 * DAY),
    Row("29c", "workers' clocks are wrong by 1 h", partial(workers_clocks, seconds=HOUR)),
    Row("29d", "workers' clocks are wrong by 8 d", partial(workers_clocks, seconds=8 * DAY)),
    Row("30", "the whole log is sent again", replayed, in_ci=True, ends_at_most=0),
    Row("31", "created, updated, deleted in any order", any_order, in_ci=True, ends_at_most=0),
    Row("32", "late events of deleted classes, after compaction", late_after_delete, ends_at_most=0),
    Row("33", "1 % of the records are useless", poisoned, poison_share=0.01, in_ci=True, ends_at_most=0),
    Row("33a", "half of the records are useless", poisoned, poison_share=0.5, ends_at_most=0),
    Row("33b", "all records but a few neighbours' are useless", poisoned, poison_share=1.0, ends_at_most=0),
    Row("34", "no dead letter can be written: too few brokers", dead_letters_too_few_brokers, poison_share=0.05),
    Row("34a", "no dead letter can be written: all too large", dead_letters_too_large, poison_share=0.05),
    Row("35", "records of 0.9 to 9 MiB", oversized),
]
