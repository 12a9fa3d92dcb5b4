"""Events of one time, on real workers: the later one in the log counts, whatever its id, and sync agrees with it."""

import asyncio
import json
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.integration import independent
from tests.integration.command_line import emis_streams
from tests.integration.independent import GROUP, SOURCES
from tests.integration.worker_rig import Event, Stack, a_class, a_teacher, event, new_id, two_workers
from tests.services import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

N_CLASSES = 40


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with two_workers(tmp_path_factory.mktemp("ties")) as stack:
        yield stack


@pytest.fixture
async def stack(parts: Stack) -> Stack:
    await parts.running()
    return parts


def with_falling_ids(events: list[Event]) -> list[Event]:
    """The same, so that each has a lower id than the one before it."""
    ids = sorted((new_id() for _ in events), reverse=True)
    return [{**one, "eventId": event_id} for one, event_id in zip(events, ids, strict=True)]


async def test_the_later_of_two_updates_of_one_time_is_kept_everywhere_whatever_happens(stack: Stack) -> None:
    """Ids fall: with those as the judge the earlier update of all 40 classes would stay."""
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
    classes = [new_id() for _ in range(N_CLASSES)]
    teacher_id = new_id()
    earlier = [a_class(c, f"earlier {n}", "updated") for n, c in enumerate(classes)]
    later = [a_class(c, f"later {n}", "updated") for n, c in enumerate(classes)]
    teacher = [{**a_teacher(teacher_id, fullName=name), "eventType": "emis.teacher.updated"} for name in ("A", "B")]
    events = [{**one, "timestamp": moment.isoformat()} for one in with_falling_ids([*earlier, *later, *teacher])]
    created = [a_class(c, "first", timestamp=(moment - timedelta(days=1)).isoformat()) for c in classes]
    stack.send([*events, *created])
    ids = {one["classId"]: one["eventId"] for one in events if one.get("className", "").startswith("later")}
    created_us = int((moment - timedelta(days=1)).timestamp()) * 1_000_000

    def everywhere() -> bool:
        answers = [stack.serving.get(f"/api/classes/{c}")[1] or {} for c in classes]
        shown = {(a.get("classId"), a.get("className"), a.get("eventId")) for a in answers}
        expected = {(c, f"later {n}", ids[c]) for n, c in enumerate(classes)}
        rows = independent.kept_in_mysql(stack.database_url, {*classes, teacher_id})
        in_mysql = {
            (key, row.fields[0], row.event_id, row.created_us)
            for (kind, key), row in rows.items()
            if kind == "classes" and row.fields is not None
        }
        name = (stack.serving.get(f"/api/teachers/{teacher_id}")[1] or {}).get("fullName")
        return shown == expected and in_mysql == {(*one, created_us) for one in expected} and name == "B"

    await until(everywhere, 60)
    _forget_what_was_read(stack)
    await stack.running()
    await until(stack.has_ingested, 60)
    await until(everywhere, 60)
    stack.stop()
    for worker in (stack.ingesting, stack.serving):
        shutil.rmtree(worker.data_dir)
    await stack.running()
    await until(everywhere, 60)
    expected_rows = independent.fold_of_sources(stack.broker, {*classes, teacher_id})
    assert len(expected_rows) == N_CLASSES + 1
    stack.stop()
    for found in (
        independent.rows_in_changelogs(stack.broker),
        independent.rows_in_tables(stack.ingesting.data_dir),
        independent.rows_in_read_model(stack.serving.data_dir),
    ):
        kept = {key: independent.kept_in(row) for key, row in found.items()}
        assert independent.differences(kept, expected_rows) == {}


def _forget_what_was_read(stack: Stack) -> None:
    """The ingesting worker is killed, and all sources are read again from their beginning."""
    stack.ingesting.process.kill()
    consumer = Consumer({"bootstrap.servers": stack.broker, "group.id": GROUP, "enable.auto.commit": False})
    try:

        def set_back() -> None:
            known = consumer.list_topics(timeout=10).topics
            beginnings = [TopicPartition(topic, n, 0) for topic in SOURCES for n in known[topic].partitions]
            consumer.commit(offsets=beginnings, asynchronous=False)

        independent.asks_again(set_back)()  # The killed one is in the group until its session is over.
    finally:
        consumer.close()


def line_of(class_id: str, name: str, at: datetime) -> bytes:
    fields = {"grade": "10", "academicYear": "2026-2027", "totalStudents": 41}
    return json.dumps({"classId": class_id, "className": name, "updatedAt": at.isoformat(), **fields}).encode() + b"\n"


@pytest.mark.parametrize("ms", [0, 250], ids=["seconds", "milliseconds"])
async def test_sync_ends_with_what_the_source_says_of_one_moment(stack: Stack, ms: int) -> None:
    """Created, deleted, created and updated within one tick of the source's clock; some of it was never told."""
    moment = datetime.now(UTC).replace(microsecond=ms * 1000) - timedelta(seconds=60)
    moved, back, restored = new_id(), new_id(), new_id()

    def told(class_id: str, name: str, what: str, us: int = 0) -> Event:
        time = (moment + timedelta(microseconds=us)).isoformat()
        if what == "deleted":
            return {**event("emis.class.deleted", classId=class_id), "timestamp": time}
        return a_class(class_id, name, what, timestamp=time)

    stack.send(with_falling_ids([told(moved, "10A1", "updated"), told(moved, "10A2", "updated", us=300)]))
    stack.send([told(back, "10B1", "created"), told(back, "", "deleted"), told(back, "10B2", "created")])
    stack.send([told(restored, "", "deleted")])
    await stack.shows_class(moved, "10A2")
    await until(stack.has_ingested, 60)
    for names in (("10A3", "10B2", "10C1"), ("10A1", "10B3", "10C2"), ("10A4", "10B4", "10C3")):
        snapshot = b"".join(line_of(c, n, moment) for c, n in zip((moved, back, restored), names, strict=True))
        first = await asyncio.to_thread(_sync, stack, snapshot)
        assert "3 unchanged" not in first
        for class_id, name in zip((moved, back, restored), names, strict=True):
            await stack.shows_class(class_id, name)
        await until(stack.has_ingested, 60)
        assert "sent 0 created, 0 updated, 0 deleted; 3 unchanged" in _sync(stack, snapshot)


def _sync(stack: Stack, snapshot: bytes) -> str:
    """What it says; other tests' classes are not in the snapshot, and stay."""
    done = emis_streams(stack.serving.settings, "sync", "-", stdin=snapshot)
    assert b"Traceback" not in done.stderr
    return done.stdout.decode()


def test_ids_fall() -> None:
    ids = [one["eventId"] for one in with_falling_ids([a_class(new_id()) for _ in range(5)])]
    assert [uuid.UUID(one).int for one in ids] == sorted((uuid.UUID(one).int for one in ids), reverse=True)
