"""A made-up district: its classes, teachers and assignments, and the endless life of them, by seed.

Nothing of the application is imported: events are made as a stranger would make them from `docs/asyncapi.yaml`.
"""

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

N_CLASSES, N_TEACHERS, N_ASSIGNMENTS = 240, 30, 240
_LATE, _AGAIN, _DELETED = 0.06, 0.04, 0.1
_TIED, _FIRST = 0.08, 0.15
"""Of events, those that others of the same time follow; of creates, those that are earlier than all before."""
_MOST_TIED = 3
_MOST_SECONDS_LATE = 20.0
_EARLIER_KEPT = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RANKS = {"created": 0, "updated": 1, "deleted": 2}
ASSIGNMENT_RANKS = {"created": 0, "deleted": 1}


@dataclass(frozen=True)
class Sent:
    """A record to be sent."""

    topic: str
    key: str
    row_key: str
    value: bytes
    time_us: int
    rank: int
    event_id: str
    name: str | None
    """What a page shows of it."""
    bad: bool = False


@dataclass
class District:
    """Ids are of the seed alone; each life is of the time at which it is lived."""

    seed: str
    poison_share: float = 0.0
    skew_seconds: float = 0.0
    """How far the producer's clock is wrong at most, to either side and anew with each event."""
    _is_beginning: bool = field(default=False, init=False)
    _dice: random.Random = field(init=False, repr=False)
    _n: int = field(default=0, init=False)
    _earlier: list[Sent] = field(default_factory=list, init=False, repr=False)
    _tied_to: Sent | None = field(default=None, init=False, repr=False)
    """The event whose time the next one gets."""
    _earliest_us: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    """Of each thing's events, by row key."""

    def __post_init__(self) -> None:
        ids = random.Random(self.seed)
        self.classes = [_id(ids) for _ in range(N_CLASSES)]
        self.teachers = [_id(ids) for _ in range(N_TEACHERS)]
        self.assignments = [(ids.choice(self.teachers), _id(ids)) for _ in range(N_ASSIGNMENTS)]
        self._dice = random.Random(f"{self.seed} lives")

    @property
    def own_ids(self) -> set[str]:
        """Keys of all records about this district."""
        return {*self.classes, *self.teachers}

    def beginning(self) -> Iterator[Sent]:
        """Everything is created once. A clock that is wrong is late then: what is of the future would be refused."""
        self._is_beginning = True
        for teacher_id in self.teachers:
            yield self._teacher(teacher_id, "created")
        for class_id in self.classes:
            yield self._class(class_id, "created")
        for assignment in self.assignments:
            yield self._assignment(assignment, "created")
        self._is_beginning = False

    def life(self) -> Iterator[Sent]:
        """What happens afterwards, without end: late, twice, at one time, deleted, bad."""
        while True:
            event = self._next()
            yield event
            if event.bad:
                continue
            self._earlier = [*self._earlier[-_EARLIER_KEPT:], event]
            if self._dice.random() < _TIED:
                yield from self._tied(event)
            if self._dice.random() < _AGAIN:
                yield self._dice.choice(self._earlier)

    def _next(self) -> Sent:
        roll = self._dice.random()
        if roll < self.poison_share:
            return self._poison()
        if roll > 0.9:
            return self._assignment(self._dice.choice(self.assignments), self._what(("created",)))
        if roll > 0.82:
            return self._teacher(self._dice.choice(self.teachers), self._what(("updated",)))
        return self._class(self._dice.choice(self.classes), self._what(("created", "updated", "updated", "updated")))

    def _tied(self, event: Sent) -> Iterator[Sent]:
        """Events of the same thing, topic and time; each has a lower id than the one before it in the log."""
        _, kind, what = event.topic.split(".")
        for _ in range(self._dice.randint(1, _MOST_TIED)):
            self._tied_to = event
            match kind:
                case "class":
                    event = self._class(event.key, what)
                case "teacher":
                    event = self._teacher(event.key, what)
                case _:
                    event = self._assignment((event.key, event.row_key[-36:]), what)
            self._tied_to = None
            yield event

    def _what(self, living: tuple[str, ...]) -> str:
        return "deleted" if self._dice.random() < _DELETED else self._dice.choice(living)

    def _class(self, class_id: str, what: str) -> Sent:
        name = f"Lớp {self._n}"
        fields = {
            "className": name,
            "grade": "Khối 10",
            "academicYear": "2026-2027",
            "totalStudents": self._dice.randint(20, 45),
            "schoolId": None,
            "homeroomTeacherId": self._dice.choice([None, *self.teachers]),
        }
        return self._event("class", what, {"classId": class_id}, fields, class_id, class_id, name)

    def _teacher(self, teacher_id: str, what: str) -> Sent:
        name = f"Nguyễn Văn {self._n}"
        fields = {"fullName": name, "email": None, "schoolId": None}
        return self._event("teacher", what, {"teacherId": teacher_id}, fields, teacher_id, teacher_id, name)

    def _assignment(self, ids: tuple[str, str], what: str) -> Sent:
        teacher_id, assignment_id = ids
        fields = {
            "teacherId": teacher_id,
            "assignmentId": assignment_id,
            "classId": self._dice.choice(self.classes),
            "role": "subject-teacher",
            "subject": "Ngữ văn",
        }
        return self._event("assignment", what, fields, {}, teacher_id, f"{teacher_id}|{assignment_id}", None)

    def _event(
        self,
        kind: str,
        what: str,
        ids: dict[str, Any],
        fields: dict[str, Any],
        key: str,
        row_key: str,
        name: str | None,
    ) -> Sent:
        self._n += 1
        topic = f"emis.{kind}.{what}"
        event_id, us = self._id_and_time(what, row_key)
        time = _EPOCH + timedelta(microseconds=us)
        body = {} if what == "deleted" and kind != "assignment" else fields
        event = {"eventId": event_id, "eventType": topic, "timestamp": time.isoformat(timespec="microseconds")}
        value = json.dumps({**event, **ids, **body}, ensure_ascii=False).encode()
        rank = (ASSIGNMENT_RANKS if kind == "assignment" else RANKS)[what]
        return Sent(topic, key, row_key, value, us, rank, event_id, name)

    def _id_and_time(self, what: str, row_key: str) -> tuple[str, int]:
        if (tied_to := self._tied_to) is not None:
            return str(uuid.UUID(int=self._dice.randrange(uuid.UUID(tied_to.event_id).int))), tied_to.time_us
        us = _us(datetime.now(UTC) - timedelta(seconds=self._wrong_by()))
        earliest_us = self._earliest_us.get(row_key, us)
        if what == "created" and not self._is_beginning and self._dice.random() < _FIRST:
            us = earliest_us - self._dice.randint(0, 2_000_000)
        self._earliest_us[row_key] = min(us, earliest_us)
        return _id(self._dice), us

    def _wrong_by(self) -> float:
        late = self._dice.uniform(0, _MOST_SECONDS_LATE) if self._dice.random() < _LATE else 0.0
        return late + self._dice.uniform(0 if self._is_beginning else -1, 1) * self.skew_seconds

    def _poison(self) -> Sent:
        """About a class of ours, and of no use."""
        good = self._class(self._dice.choice(self.classes), "updated")
        event = json.loads(good.value)
        value = self._dice.choice(
            (
                b"no event",
                good.value[:-1],
                json.dumps({**event, "totalStudents": "many"}).encode(),
                json.dumps({**event, "className": "x" * 201}).encode(),
                json.dumps({**event, "eventType": "emis.class.created"}).encode(),
                json.dumps({**event, "classId": _id(self._dice)}).encode(),
                b"",
            )
        )
        return Sent(good.topic, good.key, good.row_key, value, 0, 0, "", None, bad=True)


def _id(dice: random.Random) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))


def _us(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
