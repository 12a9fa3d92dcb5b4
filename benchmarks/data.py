"""The events that all contenders work on: the same bytes for the same seed and counts, on every machine."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import md5

CREATED, UPDATED, DELETED = SOURCES = ("emis.class.created", "emis.class.updated", "emis.class.deleted")
PARTITIONS = 10

_SHARES = (0.20, 0.95)
"""Up to the first: created, up to the second: updated, else deleted."""
_LATE_SHARE = 0.02
_LATE_MOST_US = 600_000_000
_TWICE_SHARE = 0.005
_STEP_US = 20_000
"""50 events a second of event time; 5,000,000 events are a little more than a day."""
CLASSES_OF_A_TEACHER = 10
_START_US = int(datetime(2025, 9, 5, 0, 0, tzinfo=UTC).timestamp()) * 1_000_000
_SCHOOLS = 25_000
_TEACHERS = 50_000

Record = tuple[str, str, str]
"""Topic, key, value."""


@dataclass(frozen=True)
class Load:
    """How many events over how many classes."""

    events: int
    classes: int
    seed: int = 3
    start_us: int = _START_US
    step_us: int = _STEP_US


def text_id(kind: str, number: int) -> str:
    """The id of the thing with this number: a canonical UUID text, the same in every run."""
    return _dashed(md5(f"{kind}-{number}".encode(), usedforsecurity=False).hexdigest())


def _dashed(h: str) -> str:
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def class_events(load: Load) -> Iterator[Record]:
    """Events in the order in which they are sent.

    20 % created, 75 % updated, 5 % deleted, over all classes evenly (the hardest for caches); 2 % are up to
    ten minutes older than their neighbours, 0.5 % are sent twice.
    """
    dice = random.Random(load.seed)
    chance, below = dice.random, dice.randrange
    class_ids = [text_id("class", n) for n in range(load.classes)]
    fields = _field_texts(dice)
    time_text = TimeText()
    created = 0
    for n in range(load.events):
        share = chance()
        if share < _SHARES[0]:
            topic, class_id = CREATED, class_ids[created % load.classes]
            created += 1
        else:
            topic, class_id = (UPDATED if share < _SHARES[1] else DELETED), class_ids[below(load.classes)]
        us = load.start_us + n * load.step_us
        if chance() < _LATE_SHARE:
            us -= below(_LATE_MOST_US)
        value = (
            f'{{"eventId":"{_dashed(dice.randbytes(16).hex())}","eventType":"{topic}",'
            f'"timestamp":"{time_text.of(us)}","classId":"{class_id}",{fields[below(4096)]}}}'
        )
        yield topic, class_id, value
        if chance() < _TWICE_SHARE:
            yield topic, class_id, value


class TimeText:
    """Formats times; the part down to seconds only once per second."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def of(self, us: int) -> str:
        second = us // 1_000_000
        text = self._texts.get(second)
        if text is None:
            text = self._texts[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{text}.{us % 1_000_000:06d}Z"


def _field_texts(dice: random.Random) -> list[str]:
    """Some thousand ways to fill what describes a class, as pieces of JSON."""
    return [_fields(dice) for _ in range(4096)]


def _fields(dice: random.Random) -> str:
    grade = dice.randrange(1, 13)
    name = f"Lớp {grade}{dice.choice('ABCDEĐGH')}{dice.randrange(1, 15)}"
    school, teacher = text_id("school", dice.randrange(_SCHOOLS)), text_id("teacher", dice.randrange(_TEACHERS))
    return (
        f'"className":"{name}","grade":"Khối {grade}","academicYear":"2025-2026",'
        f'"totalStudents":{dice.randrange(18, 52)},"schoolId":"{school}","homeroomTeacherId":"{teacher}"'
    )


def teacher_id(number: int) -> str:
    return text_id("bench-teacher", number)


def taught_class_id(number: int, place: int) -> str:
    """The class at this place (from 0) on the page of the teacher with this number."""
    return text_id("taught", number * CLASSES_OF_A_TEACHER + place)


def teacher_events(teachers: int) -> Iterator[Record]:
    """Teachers with ten classes each, which no other load touches: events of all three subjects."""
    dice = random.Random(teachers)
    time = f'"timestamp":"{TimeText().of(_START_US)}"'
    for n in range(teachers):
        key = teacher_id(n)
        yield (
            "emis.teacher.created",
            key,
            f'{{"eventId":"{text_id("e-t", n)}","eventType":"emis.teacher.created",{time},"teacherId":"{key}",'
            f'"fullName":"Nguyễn Thị Bích {n}","email":"t{n}@example.edu.vn","schoolId":"{text_id("school", n)}"}}',
        )
        for place in range(CLASSES_OF_A_TEACHER):
            class_id, name = taught_class_id(n, place), f"e-{n}-{place}"
            yield CREATED, class_id, class_event(class_id, CREATED, time, text_id(name, 0), _fields(dice))
            yield (
                "emis.assignment.created",
                key,
                f'{{"eventId":"{text_id(name, 1)}","eventType":"emis.assignment.created",{time},'
                f'"assignmentId":"{text_id(name, 2)}","teacherId":"{key}","classId":"{class_id}",'
                f'"role":"subject-teacher","subject":"Toán"}}',
            )


def class_event(class_id: str, topic: str, time: str, event_id: str, fields: str) -> str:
    """One event as JSON; time and fields are pieces of JSON."""
    return f'{{"eventId":"{event_id}","eventType":"{topic}",{time},"classId":"{class_id}",{fields}}}'
