"""Events that a row sends itself, beside the load: about classes and teachers of its own, at times of its choice."""

import asyncio
import itertools
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from emis_streams.partitioner import partition_of
from tests.faults.checker.truth import Place
from tests.faults.course import Course
from tests.faults.sends import a_producer
from tests.faults.stage import until
from tests.integration.independent import GROUP

_FLUSH_SECONDS = 30.0
_PASSED_SECONDS = 30.0
_ASK_SECONDS = 10.0
_numbers = itertools.count(1)
"""No two events give the same name: the checker knows by it which one is shown."""


@dataclass(frozen=True)
class Own:
    """A record that a row sends."""

    topic: str
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def as_bad(self) -> "Own":
        """Marked for the checker as one that cannot be used."""
        return Own(self.topic, self.key, self.value, (*self.headers, ("bad", b"1")))


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def new_class(course: Course, partition: int | None = None) -> str:
    """A class that the load knows nothing of, and the checker does; in a given partition if need be."""
    ids = (str(uuid.uuid4()) for _ in itertools.count())
    class_id = next(one for one in ids if partition is None or partition_of(one.encode(), 10) == partition)
    course.district.classes.append(class_id)
    return class_id


def new_teacher(course: Course) -> str:
    teacher_id = str(uuid.uuid4())
    course.district.teachers.append(teacher_id)
    return teacher_id


def class_event(class_id: str, what: str, time: datetime, **more: Any) -> Own:
    fields = {
        "className": f"Lớp {what} {next(_numbers)}",
        "grade": "Khối 11",
        "academicYear": "2026-2027",
        "totalStudents": 30,
    }
    return _event(f"emis.class.{what}", class_id, time, {"classId": class_id, **fields, **more})


def teacher_event(teacher_id: str, what: str, time: datetime) -> Own:
    fields = {"teacherId": teacher_id, "fullName": f"Trần {what} {next(_numbers)}", "email": None, "schoolId": None}
    return _event(f"emis.teacher.{what}", teacher_id, time, fields)


def assignment_event(teacher_id: str, assignment_id: str, class_id: str, what: str, time: datetime) -> Own:
    ids = {"teacherId": teacher_id, "assignmentId": assignment_id, "classId": class_id}
    return _event(f"emis.assignment.{what}", teacher_id, time, {**ids, "role": "subject-teacher", "subject": what})


def _event(topic: str, key: str, time: datetime, fields: dict[str, Any]) -> Own:
    head = {"eventId": str(uuid.uuid4()), "eventType": topic, "timestamp": time.isoformat(timespec="microseconds")}
    return Own(topic, key, json.dumps({**head, **fields}, ensure_ascii=False).encode())


# -- sending --------------------------------------------------------------------------------------


@dataclass
class Sending:
    """What became of records: where the brokers have them, or why they refused them."""

    places: list[Place] = field(default_factory=list)
    refused: list[KafkaError] = field(default_factory=list)

    def told(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.refused.append(error)
        else:
            self.places.append(Place(str(message.topic()), message.partition() or 0, message.offset() or 0))


def send_now(producer: Producer, records: Iterable[Own]) -> Sending:
    """Until the brokers have answered for each."""
    sending = Sending()
    for record in records:
        key = record.key.encode()
        producer.produce(record.topic, record.value, key, headers=list(record.headers), on_delivery=sending.told)
        producer.poll(0)
    producer.flush(_FLUSH_SECONDS)
    return sending


async def send(course: Course, records: Iterable[Own]) -> list[Place]:
    """Where the brokers have them; raises RuntimeError if they refuse one."""
    sending = await asyncio.to_thread(send_now, a_producer(course.stage.brokers), list(records))
    if sending.refused:
        raise RuntimeError(f"the brokers refused {len(sending.refused)} records: {sending.refused[0]}")
    return sending.places


async def passed(course: Course, places: Iterable[Place], timeout_seconds: float = _PASSED_SECONDS) -> None:
    """Until the ingesting group has committed all of these."""
    wanted: dict[tuple[str, int], int] = {}
    for place in places:
        at = (place.topic, place.partition)
        wanted[at] = max(wanted.get(at, 0), place.offset + 1)

    def is_so() -> bool:
        committed = committed_offsets(course.stage.brokers, wanted)
        return all(committed[at] >= offset for at, offset in wanted.items())

    async def asked() -> bool:
        return await asyncio.to_thread(is_so)

    await until(asked, timeout_seconds, "the group has passed the row's own records", 0.2)


def committed_offsets(brokers: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Of the ingesting group; -1001 where there is none."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": GROUP, "enable.auto.commit": False})
    try:
        found = consumer.committed([TopicPartition(t, n) for t, n in partitions], timeout=_ASK_SECONDS)
        return {(tp.topic, tp.partition): tp.offset for tp in found}
    finally:
        consumer.close()
