"""The local copies of progress and activity: from an event's bytes to the answer about a user."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from aiokafka import TopicPartition

from emis_streams import topics
from emis_streams.engine.follower import ChangelogSlice
from emis_streams.events import CONTRACTS, decode
from emis_streams.fold import fold
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.read_model.user_rows import Page, UserRows
from emis_streams.topics import ACTIVITY, LESSON_AVAILABLE, PROGRESS, USER_ACTIVITY, Subject

NOW = datetime(2026, 11, 27, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)
USER, OTHER = "0a000000-0000-4000-8000-000000000001", "0a000000-0000-4000-8000-000000000002"


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[UserRows]:
    with closing(UserRows(tmp_path / "read-model")) as own:
        yield own


def event(topic: str, user: str = USER, lesson: str | None = None, title: str = "Phân số", minutes: int = 0) -> bytes:
    return msgspec.json.encode(
        {
            "eventId": str(uuid.uuid4()),
            "eventType": topic,
            "timestamp": NOW + timedelta(minutes=minutes),
            "userId": user,
            "lessonId": lesson or str(uuid.uuid4()),
            "title": title,
        }
    )


async def follow(copy: UserRows, subject: Subject, *values: bytes) -> None:
    """What agent, table and follower make of them."""
    keys = [msgspec.json.decode(value)["userId"].encode() for value in values]
    events = decode(CONTRACTS[subject.events[0]], keys, list(values), [NOW_MS + 3_600_000] * len(values))
    assert events.refused == []
    rows = fold(events, dict.fromkeys(events.keys)).rows
    kept = {key: (row, NOW_MS) for key, row in rows.items()}
    tp = TopicPartition(subject.changelog, 0)
    await ReadModelSink(copy).apply([ChangelogSlice(tp, "id", kept, len(kept), len(kept))])


async def test_a_users_lessons_are_theirs_the_newest_first(copy: UserRows) -> None:
    await follow(
        copy,
        PROGRESS,
        event(LESSON_AVAILABLE, title="old"),
        event(LESSON_AVAILABLE, title="new", minutes=5),
        event(LESSON_AVAILABLE, OTHER),
    )
    assert [lesson.title for lesson in copy.lessons(USER).rows] == ["new", "old"]
    assert [lesson.status for lesson in copy.lessons(OTHER).rows] == ["available"]
    assert copy.lessons(USER).rows[1].available_at == NOW


async def test_a_user_that_nobody_has_heard_of_has_nothing(copy: UserRows) -> None:
    assert copy.lessons(USER) == copy.activities(USER) == Page((), None)


async def test_the_same_events_again_change_nothing(copy: UserRows) -> None:
    values = [event(USER_ACTIVITY, minutes=n) for n in range(3)]
    await follow(copy, ACTIVITY, *values)
    before = copy.activities(USER)
    await follow(copy, ACTIVITY, *values)
    assert copy.activities(USER) == before
    assert len(before.rows) == 3


async def test_an_older_event_of_a_lesson_does_not_replace_a_newer_one(copy: UserRows) -> None:
    lesson = str(uuid.uuid4())
    await follow(copy, PROGRESS, event(LESSON_AVAILABLE, lesson=lesson, title="new", minutes=5))
    await follow(copy, PROGRESS, event(LESSON_AVAILABLE, lesson=lesson, title="old"))
    assert [found.title for found in copy.lessons(USER).rows] == ["new"]


@pytest.mark.parametrize("subject", topics.LESSON_SUBJECTS, ids=lambda subject: subject.name)
def test_a_bad_event_costs_no_neighbour(subject: Subject) -> None:
    good = event(subject.events[0])
    found = decode(CONTRACTS[subject.events[0]], [USER.encode()] * 3, [good, b"garbage", good], [NOW_MS + 60_000] * 3)
    assert (len(found.keys), [place for place, _ in found.refused]) == (2, [1])
