"""A small world as the fault matrix's checker sees it, all made by hand: what was sent, kept, and answered.

Class A was created and updated, B deleted; teacher T teaches A and B, and C is T's homeroom class.
Everything is right; tests spoil one thing and see what the checker says.
"""

import json
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import msgspec

from tests.faults.checker import history, stores
from tests.faults.checker.findings import Findings
from tests.faults.checker.history import Read, Send
from tests.faults.checker.stores import DeadLetter, Entry, Partition
from tests.faults.checker.truth import Place, Truth, Version
from tests.integration.independent import NO_ORDER, SOURCES, Kept, Key, kept_in

LIMIT_SECONDS = 5.0


def an_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


A, B, C, T = (an_id(name) for name in "ABCT")
ASSIGNED_A, ASSIGNED_B = an_id("T teaches A"), an_id("T teaches B")
BAD = Place("emis.class.updated", 0, 7)
OFFSETS = {("classes", A): (0, 3), ("classes", B): (1, 4), ("classes", C): (2,)}
"""Of their rows in the changelog of classes."""


def row_of(kept: Kept) -> bytes:
    raw_id = uuid.UUID(kept.event_id).bytes
    content = b"" if kept.fields is None else msgspec.msgpack.encode(kept.fields)
    decider, body = raw_id, content
    if kept.order != NO_ORDER:
        decider = b"\xff" * 8 + kept.order.to_bytes(8, "big")
        body = msgspec.msgpack.encode((*(kept.fields or ()), b"\x02" + raw_id))
    version = kept.time_us.to_bytes(8, "big") + bytes([kept.rank]) + decider + crc32(content).to_bytes(4, "big")
    return version + kept.created_us.to_bytes(8, "big") + body


def time_text(us: int) -> str:
    return datetime.fromtimestamp(us / 1_000_000, UTC).isoformat(timespec="microseconds")


def class_body(kept: Kept, **changes: Any) -> dict[str, Any]:
    names = ("className", "grade", "academicYear", "totalStudents", "schoolId", "homeroomTeacherId")
    assert kept.fields is not None
    fields = dict(zip(names, kept.fields, strict=True))
    told = {"version": row_of(kept)[:29].hex(), "eventId": kept.event_id, "createdAt": time_text(kept.created_us)}
    return {**fields, **told, "stale": False, **changes}


def entry_of(assignment_id: str | None, class_id: str, role: str, name: str | None, **changes: Any) -> dict[str, Any]:
    entry = {
        "assignmentId": assignment_id,
        "classId": class_id,
        "role": role,
        "className": name,
        "deleted": name is None,
    }
    n_students = None if name is None else 30
    return {**entry, "subject": None if role == "homeroom" else "Toán", "totalStudents": n_students, **changes}


@dataclass
class World:
    truth: Truth = field(default_factory=Truth)
    sent: list[Send] = field(default_factory=list)
    read: list[Read] = field(default_factory=list)
    changelog: list[Entry] = field(default_factory=list)
    mysql: dict[Key, Kept] = field(default_factory=dict)
    tables: list[Partition] = field(default_factory=list)
    answers: dict[Key, tuple[int, Any]] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)

    def send(self, topic: str, key: str, at: float, **body: Any) -> Version:
        """An event at that second, acknowledged a tenth later; twice the same place: never."""
        kind, rank = SOURCES[topic]
        event_id = an_id(f"{topic} {key} {at} {body}")
        time = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
        value = json.dumps({"eventId": event_id, "timestamp": time, **body}).encode()
        place = Place(topic, 0, sum(one.topic == topic for one in self.sent))
        self.truth.add(place, key.encode(), value, is_bad=False)
        row_key = f"{body['teacherId']}|{body['assignmentId']}" if kind == "assignments" else key
        order = NO_ORDER if topic.endswith(".deleted") else place.offset
        version = (int(at * 1_000_000), rank, order, event_id)
        self.sent.append(Send(topic, key, row_key, version, False, at, at + 0.1, 0, place.offset))
        return version

    def class_event(
        self, what: str, class_id: str, at: float, name: str | None = None, homeroom: Any = None
    ) -> Version:
        body = {} if name is None else {"className": name, "totalStudents": 30, "homeroomTeacherId": homeroom}
        return self.send(f"emis.class.{what}", class_id, at, classId=class_id, **body)

    def answer(self, kind: str, key: str, at: float, status: int, version: Version | None = None, **more: Any) -> Read:
        """What worker-1 answered, asked at that second."""
        given: dict[str, Any] = {"stale": False, "entries": (), "source": "local", "worker": "worker-1", **more}
        worker = given.pop("worker")
        read = Read(worker, kind, key, at, at, 0.01, status, version, **given)
        self.read.append(read)
        return read

    def kept(self, kind: str, key: str) -> Kept:
        return self.truth.expected[kind, key]

    def found(self) -> set[str]:
        """The kinds of what the checker finds."""
        return {kind for kind, things in self.findings().found.items() if things}

    def findings(self) -> Findings:
        findings, truth = Findings(), self.truth
        history.check_sends(self.sent, truth, findings)
        history.check_reads(self.read, self.sent, truth, LIMIT_SECONDS, findings)
        last = stores.check_changelogs(self.changelog, truth, findings)
        classes = Truth(expected={key: kept for key, kept in truth.expected.items() if key[0] == "classes"})
        stores.compare("changelog", {k: kept_in(r) for k, r in last.items()}, classes, findings)
        stores.compare("MariaDB", self.mysql, truth, findings)
        stores.compare("the tables", stores.rows_of_owners(self.tables), classes, findings)
        stores.check_positions(self.tables, self.changelog, findings)
        for (kind, key), (status, body) in self.answers.items():
            stores.compare_answer("worker-1", kind, key, status, body, truth, findings)
        stores.check_dead_letters(self.letters, truth, findings)
        return findings

    # -- for spoiling -------------------------------------------------------------------------

    def entry(self, key: str, version: Version, offset: int, created_us: int = 100_000_000) -> Entry:
        """A changelog record of a class's row."""
        row = row_of(Kept(*version, created_us, None if version[1] == 2 else ("?", None, None, 30, None, None)))
        return Entry("classes", 0, offset, key, row)

    def change_mysql(self, kind: str, key: str, **changes: Any) -> None:
        self.mysql[kind, key] = self.mysql[kind, key]._replace(**changes)

    def change_table(self, number: int, **changes: Any) -> None:
        self.tables[number] = self.tables[number]._replace(**changes)

    def change_read(self, number: int, **changes: Any) -> None:
        self.read[number] = replace(self.read[number], **changes)


def tie(world: World) -> tuple[Kept, Kept]:
    """Class A is updated twice at one time; every store has the later one. Both, in the order of the log."""
    world.class_event("updated", A, 112, "A3")
    earlier = world.kept("classes", A)
    world.class_event("updated", A, 112, "A6")  # Its id is the lower one.
    later = world.kept("classes", A)
    world.change_read(-1, version=later[:4], name="A6")
    assert later.fields is not None
    assert later.fields[0] == "A6"
    key = ("classes", A)
    world.mysql[key] = later
    world.changelog += [Entry("classes", 0, 5 + n, A, row_of(kept)) for n, kept in enumerate((earlier, later))]
    world.change_table(0, position=7, rows={**world.tables[0].rows, key: row_of(later)})
    world.answers[key] = (200, class_body(later))
    world.answers["teachers", T][1]["classAssignments"][0]["className"] = "A6"
    return earlier, later


def right(*, with_last_release: bool = False) -> World:
    """Everything as it should be."""
    world = World(Truth(with_last_release))
    a1 = world.class_event("created", A, 100, "A1")
    b1 = world.class_event("created", B, 100, "B1")
    world.class_event("created", C, 100, "C1", homeroom=T)
    teacher = world.send("emis.teacher.created", T, 100, teacherId=T, fullName="Nguyễn Văn Tú")
    for assignment_id, class_id in ((ASSIGNED_A, A), (ASSIGNED_B, B)):
        ids = {"teacherId": T, "assignmentId": assignment_id, "classId": class_id}
        world.send("emis.assignment.created", T, 101, **ids, role="subject-teacher", subject="Toán")
    a2 = world.class_event("updated", A, 110, "A2")
    b2 = world.class_event("deleted", B, 110)
    world.truth.add(BAD, A.encode(), b"no event", is_bad=True)
    world.sent.append(Send(BAD.topic, A, A, (0, 0, NO_ORDER, ""), True, 111, 111.1, BAD.partition, BAD.offset))
    _keep(world, {A: (a1, a2), B: (b1, b2)})
    world.letters = [DeadLetter(BAD, b"no event", "no JSON")]
    shown = [(ASSIGNED_A, A, "A1"), (ASSIGNED_B, B, "B1"), (None, C, "C1")]
    world.answer("classes", A, 102, 200, a1, name="A1")
    world.answer("classes", B, 102, 200, b1, name="B1")
    world.answer("teachers", T, 103, 200, name="Nguyễn Văn Tú", entries=tuple(shown))
    world.answer("classes", A, 111, 200, a2, name="A2")
    world.answer("classes", B, 111, 410, (*b2[:2], NO_ORDER, ""))
    world.answer("classes", A, 130, 200, a2, name="A2")
    assert teacher in world.truth.versions["teachers", T]
    return world


def _keep(world: World, versions: dict[str, tuple[Version, Version]]) -> None:
    """The stores and the last answers."""
    expected = world.truth.expected
    world.mysql = dict(expected)
    for key, (first, _) in versions.items():
        world.changelog.append(world.entry(key, first, OFFSETS["classes", key][0]))
    for (kind, key), kept in expected.items():
        if kind == "classes":
            world.changelog.append(Entry(kind, 0, OFFSETS[kind, key][-1], key, row_of(kept)))
    world.changelog.sort(key=lambda entry: entry.offset)
    rows = {key: row_of(kept) for key, kept in expected.items() if key[0] == "classes"}
    old = {(e.kind, e.key): e.row for e in world.changelog[:3] if e.row is not None}
    world.tables = [
        Partition("worker-1", "classes", 0, 5, b"topic", rows),
        Partition("worker-2", "classes", 0, 3, b"topic", old),
    ]
    entries = [
        entry_of(ASSIGNED_A, A, "subject-teacher", "A2"),
        entry_of(ASSIGNED_B, B, "subject-teacher", None),
        entry_of(None, C, "homeroom", "C1"),
    ]
    world.answers = {
        ("classes", A): (200, class_body(expected["classes", A])),
        ("classes", B): (410, {"stale": False}),
        ("classes", C): (200, class_body(expected["classes", C])),
        ("teachers", T): (
            200,
            {"fullName": "Nguyễn Văn Tú", "email": None, "schoolId": None, "classAssignments": entries},
        ),
    }
