"""Whatever the order in which events come, late, twice, in slices of any cut: the teacher's page is the same.

On one topic the place in the log belongs to the event, however often and in which order it is read.

Events go the way they go in a worker: JSON → `decode` → `fold` into a table → changelog → read model.
"""

import itertools
import random
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from emis_streams import topics
from emis_streams.answers import TeacherDetail
from emis_streams.engine.follower import ChangelogSlice
from emis_streams.events import CONTRACTS, decode
from emis_streams.fold import fold
from emis_streams.read_model.model import ReadModel
from emis_streams.read_model.sink import ReadModelSink
from tests.replica_rows import id_of

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
ARRIVED_MS = int(NOON.timestamp() * 1000) + 3_600_000
TEACHER, CLASS, OTHER_CLASS = id_of(1), id_of(11), id_of(12)
ASSIGNMENT, OTHER_ASSIGNMENT = id_of(101), id_of(102)
SUBJECT_OF = {topic: subject for subject in topics.SUBJECTS for topic in subject.events}

Event = dict[str, Any]


def event(topic: str, minute: int, *, offset: int = 0, **fields: Any) -> Event:
    """The id of what is later in the log is the lower one: it has no say."""
    time = (NOON + timedelta(minutes=minute)).isoformat()
    return {"eventId": id_of(9000 + minute - offset), "eventType": topic, "timestamp": time, "offset": offset, **fields}


def teacher(what: str, minute: int, name: str = "Nguyễn Thị Ánh", offset: int = 0) -> Event:
    return event(f"emis.teacher.{what}", minute, offset=offset, teacherId=TEACHER, fullName=name)


def assignment(what: str, minute: int, class_id: str = CLASS, assignment_id: str = ASSIGNMENT) -> Event:
    ids = {"assignmentId": assignment_id, "teacherId": TEACHER, "classId": class_id}
    return event(f"emis.assignment.{what}", minute, **ids, role="subject-teacher", subject="Toán")


def class_(
    what: str, minute: int, name: str = "10A1", class_id: str = CLASS, homeroom: str | None = None, offset: int = 0
) -> Event:
    fields = {"className": name, "totalStudents": 40, "homeroomTeacherId": homeroom}
    return event(f"emis.class.{what}", minute, offset=offset, classId=class_id, **fields)


class Worker:
    """Tables as they are in a worker, in memory, and what goes from them into the read model."""

    def __init__(self, model: ReadModel) -> None:
        self.model = model
        self._sink = ReadModelSink(model)
        self._tables: dict[str, dict[bytes, bytes]] = {subject.name: {} for subject in topics.SUBJECTS}
        self._offset = 0

    async def take(self, topic: str, events: Sequence[Event]) -> None:
        """A slice of one topic."""
        keys = [str(e[camel_key(topic)]).encode() for e in events]
        values = [msgspec.json.encode({name: e[name] for name in e.keys() - {"offset"}}) for e in events]
        offsets = [e["offset"] for e in events]
        decoded = decode(CONTRACTS[topic], keys, values, [ARRIVED_MS] * len(events), offsets=offsets)
        assert decoded.refused == []
        subject = SUBJECT_OF[topic]
        table = self._tables[subject.name]
        rows = fold(decoded, {key: table.get(key) for key in decoded.keys}).rows
        table.update(rows)
        self._offset += len(rows)
        tp = TopicPartition(subject.changelog, 0)
        timed = {key: (row, ARRIVED_MS + self._offset) for key, row in rows.items()}
        await self._sink.apply([ChangelogSlice(tp, "topic-id", timed, self._offset, len(rows))])


def camel_key(topic: str) -> str:
    return "classId" if topic in topics.CLASSES.events else "teacherId"


async def page_after(slices: Sequence[Sequence[Event]]) -> Any:
    """What is answered about the teacher (but for when it was written), after events in slices of one topic."""
    with TemporaryDirectory(prefix="any-order-") as folder, closing(ReadModel(Path(folder) / "read-model")) as model:
        worker = Worker(model)
        for events in slices:
            await worker.take(events[0]["eventType"], events)
        found = model.teacher(TEACHER)
    answer = msgspec.to_builtins(found)
    if isinstance(found, TeacherDetail):
        for entry in answer["classAssignments"]:
            entry.pop("lastSyncedAt")
    return answer


def one_by_one(events: Sequence[Event]) -> list[list[Event]]:
    return [[e] for e in events]


def by_topic(events: Sequence[Event]) -> list[list[Event]]:
    """As few slices as the order allows: neighbours of the same topic together."""
    return [list(group) for _, group in itertools.groupby(events, key=lambda e: e["eventType"])]


STORIES: dict[str, list[Event]] = {
    "a class that was renamed": [
        teacher("created", 1), assignment("created", 2), class_("created", 3), class_("updated", 4, "10A2"),
    ],
    "a class that was deleted": [
        teacher("created", 1), assignment("created", 2), class_("created", 3), class_("deleted", 4),
    ],
    "a class that became and stopped being homeroom": [
        teacher("created", 1), class_("created", 2, homeroom=TEACHER), class_("updated", 3), assignment("created", 4),
    ],
    "a homeroom class of a teacher who was renamed": [
        teacher("created", 1), teacher("updated", 2, "Trần Thị Ánh"),
        class_("created", 3), class_("updated", 4, homeroom=TEACHER),
    ],
    "an assignment that was taken back, another that was not": [
        teacher("created", 1), assignment("created", 2), assignment("deleted", 3),
        assignment("created", 4, OTHER_CLASS, OTHER_ASSIGNMENT), class_("created", 5, "11B", OTHER_CLASS),
    ],
    "a teacher who was deleted": [
        teacher("created", 1), assignment("created", 2), teacher("updated", 3), teacher("deleted", 4),
    ],
    "a teacher who was deleted and came back": [
        teacher("created", 1), teacher("deleted", 2), teacher("created", 3, "Lê Thị Ánh"), assignment("created", 4),
    ],
    "things that happened in the same moment": [
        teacher("created", 1), assignment("created", 1), class_("created", 1), class_("deleted", 1),
        class_("updated", 1, "10A2"),
    ],
    "a class that was renamed twice in one moment, and a teacher as well": [
        class_("updated", 1, "10A1", homeroom=TEACHER), class_("updated", 1, "10A2", homeroom=TEACHER, offset=1),
        class_("updated", 1, "10A3", homeroom=TEACHER, offset=2),
        teacher("updated", 1, "Trần Thị Ánh", offset=1), teacher("updated", 1, "Lê Thị Ánh", offset=2),
    ],
    "a class that stopped being homeroom in the moment in which it became it": [
        teacher("created", 1), class_("updated", 1, homeroom=TEACHER), class_("updated", 1, offset=1),
        class_("created", 1, homeroom=TEACHER),
    ],
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
async def test_every_order_gives_the_same_page(story: str) -> None:
    events = STORIES[story]
    expected = await page_after(one_by_one(events))
    assert expected is not None
    for order in itertools.permutations(events):
        assert await page_after(one_by_one(order)) == expected, [e["eventType"] for e in order]


@pytest.mark.parametrize("story", STORIES)
async def test_events_that_come_twice_or_again_at_the_end_change_nothing(story: str) -> None:
    events = STORIES[story]
    expected = await page_after(one_by_one(events))
    dice = random.Random(story)
    for _ in range(15):
        order = [*events, *dice.choices(events, k=3)]
        dice.shuffle(order)
        assert await page_after(by_topic(order)) == expected, [e["eventType"] for e in order]
        assert await page_after([*by_topic(order), *one_by_one(order)]) == expected


async def test_the_page_of_all_of_it_is_the_same_however_it_is_cut_into_slices() -> None:
    """A school year in one: many events of one topic are one slice, as a worker gets them."""
    events = [
        teacher("created", 1), teacher("updated", 20, "Trần Thị Ánh"),
        *(class_("created", 2, f"{n}A", id_of(10 + n), TEACHER if n == 3 else None) for n in range(1, 7)),
        *(class_("updated", 5 + n, f"{n}B", id_of(10 + n), TEACHER if n == 4 else None) for n in range(1, 5)),
        class_("deleted", 30, class_id=id_of(15)),
        *(assignment("created", 3, id_of(10 + n), id_of(100 + n)) for n in range(1, 8)),
        assignment("deleted", 31, id_of(12), id_of(102)),
    ]  # fmt: skip
    expected = await page_after(one_by_one(events))
    assert [(c["className"], c["isHomeroom"], c["deleted"], c["known"]) for c in expected["classAssignments"]] == [
        ("4B", True, False, True),
        ("1B", False, False, True),
        ("3B", False, False, True),
        ("6A", False, False, True),
        (None, False, True, True),
        (None, False, False, False),
    ]
    dice = random.Random(1)
    for _ in range(40):
        order = [*events, *dice.choices(events, k=5)]
        dice.shuffle(order)
        if dice.random() < 0.5:
            order.sort(key=lambda e: e["eventType"], reverse=dice.random() < 0.5)
        assert await page_after(by_topic(order)) == expected


async def test_of_two_events_of_one_moment_the_later_one_of_the_topic_is_shown() -> None:
    events = STORIES["a class that was renamed twice in one moment, and a teacher as well"]
    page = await page_after(one_by_one(events))
    assert (page["fullName"], [c["className"] for c in page["classAssignments"]]) == ("Lê Thị Ánh", ["10A3"])
