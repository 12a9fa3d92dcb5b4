"""Topics that are deleted, made anew, widened or cut by retention, offsets that are set, and transactions."""

import asyncio
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import Producer

from tests.faults.checker.truth import Record, records_of
from tests.faults.course import Course, Evidence, Row
from tests.faults.rows import told
from tests.faults.rows.events import unchanged
from tests.faults.rows.logs import NewLines
from tests.faults.rows.own_events import Own, ago, class_event, committed_offsets, new_class, passed, send
from tests.faults.rows.told import Partition
from tests.faults.stage import FaultWorker, until
from tests.integration.independent import SOURCES

TOPIC = "emis.class.updated"
_LIMIT_SECONDS = 40.0


# -- made anew, widened ---------------------------------------------------------------------------


async def recreated(course: Course) -> Evidence:
    """A topic is deleted and made anew under running workers, and gets more records than it had before."""
    log = NewLines(course.workers)
    async with course.paused_load():
        course.gone += await _records(course, [TOPIC])
        had = await told.watermarks(course.stage, [TOPIC])
        await _make_anew(course)
    at = min(had, key=lambda one: had[one][1])
    n_before = had[at][1]
    classes = [new_class(course, at[1]) for _ in range(100)]
    await send(course, [class_event(classes[n % 100], "updated", ago(0)) for n in range(n_before + 200)])
    has = await told.watermarks(course.stage, [TOPIC])
    await until(lambda: bool(log.with_any([_MADE_ANEW])), _LIMIT_SECONDS, "a worker says that the topic is another one")
    lines = log.with_any([_MADE_ANEW])
    longer = sum(has[at][1] > had[at][1] for at in has)
    return Evidence(bit=longer > 0, said={"partitions_longer_than_before": longer, "line": lines[0][-160:]})


_MADE_ANEW = "made anew"


async def widened(course: Course) -> Evidence:
    """A topic gets two partitions more: keys move to where nobody may look for them. Then it is made as it was.

    What is expected: workers do not take part in it, each says so in one line, pages go on; records stay in the
    log. The operator makes the topic anew, and sends the state of the source (`emis-streams sync`).
    """
    log = NewLines(course.workers)
    classes = [new_class(course) for _ in range(100)]
    await passed(course, await send(course, [class_event(c, "created", ago(0)) for c in classes]))
    async with course.paused_load():
        await told.add_partitions(course.stage, TOPIC, 12)
        places = await send(course, [class_event(c, "updated", ago(0)) for c in classes])
        course.workers[0].kill()  # The others share partitions anew, and see how many there are.
        await until(lambda: bool(log.with_any([_PARTITIONS])), _LIMIT_SECONDS, "a worker refuses the topic")
        text = await _topics_command(course)
        course.gone += await _records(course, [TOPIC])
        await _make_anew(course)
        course.workers[0].start()
        await send(course, [class_event(c, "updated", ago(0)) for c in classes])
    said = {"moved": sum(place.partition >= 10 for place in places), "line": log.with_any([_PARTITIONS])[0][-160:]}
    broken = [] if TOPIC in text and "12" in text else [f"`emis-streams topics` does not say what differs: {text}"]
    return Evidence(bit=said["moved"] != 0, said=said, broken=broken)


_PARTITIONS = "has another number of partitions than its table"


async def _topics_command(course: Course) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "emis_streams", "topics"),
        env=course.stage.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), _LIMIT_SECONDS)
    return out.decode()


async def _make_anew(course: Course) -> None:
    stage = course.stage
    config = await told.config_of(stage, TOPIC)
    await told.delete_topic(stage, TOPIC)
    await told.until_gone(stage, TOPIC)
    await told.create_topic(stage, TOPIC, config)
    await told.until_led(stage, TOPIC)


async def _records(course: Course, topics: Iterable[str] = tuple(SOURCES)) -> list[Record]:
    return await asyncio.to_thread(records_of, course.stage.brokers, course.district.own_ids, topics)


# -- what was not read, and is gone or passed over ------------------------------------------------


@dataclass
class _Stopped:
    """Where the group stood when its workers were stopped."""

    committed: dict[Partition, int]

    def unread(self, records: Sequence[Record]) -> list[Record]:
        return [r for r in records if r.place.offset >= self.committed[r.place.topic, r.place.partition]]


async def _stop_all(course: Course) -> _Stopped:
    await asyncio.gather(*(worker.stop() for worker in course.workers))
    partitions = [(topic, n) for topic in SOURCES for n in range(10)]
    found = await asyncio.to_thread(committed_offsets, course.stage.brokers, partitions)
    return _Stopped({at: max(0, offset) for at, offset in found.items()})


async def _start_all(workers: Iterable[FaultWorker]) -> None:
    for worker in workers:
        worker.start()
    for worker in workers:
        await worker.ready()


async def retention_passed(course: Course) -> Evidence:
    """Nobody reads a topic for longer than it keeps its records."""
    stopped = await _stop_all(course)
    await course.rest(4)
    async with course.paused_load(committed=False):
        course.gone += await _records(course, [TOPIC])
        await _delete_by_retention(course)
        begins = await told.watermarks(course.stage, [TOPIC])
        n_lost = sum(max(0, begin - stopped.committed[at]) for at, (begin, _) in begins.items())
        course.skipped |= {r.place for r in stopped.unread(course.gone)}
        await _start_all(course.workers)
    return await _alarmed(course, n_lost)


async def _delete_by_retention(course: Course) -> None:
    before = (await told.config_of(course.stage, TOPIC))["retention.ms"]
    await told.configure(course.stage, [TOPIC], {"retention.ms": "1", "segment.ms": "100"})

    async def is_empty() -> bool:
        return all(begin == end for begin, end in (await told.watermarks(course.stage, [TOPIC])).values())

    try:
        await until(is_empty, _LIMIT_SECONDS, f"{TOPIC} is empty", 0.3)
    finally:
        await told.configure(course.stage, [TOPIC], {"retention.ms": before, "segment.ms": None})


async def _alarmed(course: Course, n_lost: int) -> Evidence:
    """Against the figure that the workers tell as lost."""
    await course.rest(3)
    alarms = await told.counted(course, "emis_events_lost_to_retention_total")
    if alarms < n_lost:
        course.findings.add("lost", "alarms", f"{n_lost} records were not read, the alarms say {alarms}")
    broken = [] if alarms <= n_lost else [f"the alarms say {alarms}, not read were {n_lost}"]
    return Evidence(bit=n_lost > 0, alarm_count=alarms, said={"not_read": n_lost}, broken=broken)


async def _told(course: Course, n_partitions: int) -> Evidence:
    """How many records it was nobody can know: workers tell that, and where, somebody set the group."""
    await course.rest(3)
    alarms = await told.counted(course, "emis_offsets_set_by_others_total")
    if alarms < n_partitions:
        course.findings.add("lost", "alarms", f"{n_partitions} partitions were set forward, the alarms say {alarms}")
    return Evidence(bit=n_partitions > 0, alarm_count=alarms, said={"partitions_set": n_partitions})


async def set_to_earliest(course: Course) -> Evidence:
    """The group's offsets are set back to the beginning of its topics."""

    async def act() -> int:
        stopped = await _stop_all(course)
        begins = {at: begin for at, (begin, _) in (await told.watermarks(course.stage, SOURCES)).items()}
        await told.set_offsets(course.stage, begins)
        await _start_all(course.workers)
        return sum(offset - begins[at] for at, offset in stopped.committed.items())

    return await unchanged(course, act)


async def set_to_latest(course: Course) -> Evidence:
    """The group's offsets are set to the ends of its topics, over records that nobody has read."""
    stopped = await _stop_all(course)
    await course.rest(4)
    async with course.paused_load(committed=False):
        ends = {at: end for at, (_, end) in (await told.watermarks(course.stage, SOURCES)).items()}
        course.skipped |= {r.place for r in stopped.unread(await _records(course))}
        await told.set_offsets(course.stage, ends)
        await _start_all(course.workers)
    return await _told(course, sum(end > stopped.committed[at] for at, end in ends.items()))


# -- transactions ---------------------------------------------------------------------------------


async def transactions(course: Course) -> Evidence:
    """A producer with transactions, one aborted for each one committed, amid the load."""
    kept, dropped = [new_class(course) for _ in range(30)], [new_class(course) for _ in range(30)]
    places = await asyncio.to_thread(_transact, course.stage.brokers, kept, dropped)
    ends = await told.watermarks(course.stage, [TOPIC])
    await passed(course, await send(course, [class_event(c, "updated", ago(0)) for c in kept]))
    return Evidence(bit=places > 0 and bool(ends), said={"committed": places, "aborted": places})


def _transact(brokers: str, kept: list[str], dropped: list[str]) -> int:
    """How many transactions were committed; as many were aborted. Both write about the classes that stay."""
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "partitioner": "murmur2_random",
            "transactional.id": f"stranger-{uuid.uuid4()}",
        }
    )
    producer.init_transactions(30)
    n, end = 0, time.monotonic() + 8
    while time.monotonic() < end:
        producer.begin_transaction()
        _produce(producer, [class_event(c, "updated", ago(0)) for c in [*kept, *dropped]])
        producer.flush(10)
        producer.abort_transaction(10)
        producer.begin_transaction()
        _produce(producer, [class_event(c, "updated", ago(5)) for c in kept])
        producer.commit_transaction(10)
        n += 1
    return n


def _produce(producer: Producer, records: list[Own]) -> None:
    for record in records:
        producer.produce(record.topic, record.value, record.key.encode())


ROWS = [
    Row("38", "a topic is deleted and made anew", recreated, loses_sources=True, recovery_seconds=40),
    Row("38a", "a topic gets more partitions", widened, loses_sources=True, recovery_seconds=40),
    Row("39", "records go before they were read", retention_passed, loses_sources=True),
    Row("40", "the group is set back to the beginning", set_to_earliest),
    Row("40a", "the group is set to the end", set_to_latest),
    Row("transactions", "a producer with transactions that aborts", transactions),
]
