"""An assignment that moves to another teacher: one teacher has it, in the local copy and in the replica the same.

Whatever the order in which the rows come, and however they are cut into slices.
"""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from emis_streams import rows, topics
from emis_streams.answers import TeacherDetail
from emis_streams.assignment_owner import owner
from emis_streams.class_list import Cursor
from emis_streams.engine.follower import ChangelogSlice
from emis_streams.read_model.model import ReadModel
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.replica.reader import ReplicaReader
from emis_streams.replica.writer import ReplicaSink
from tests.replica_rows import CREATED, DELETED, TEACHERS, TOPIC_ID, WRITTEN_MS, id_of, row_of, slice_of

T1, T2, ASSIGNMENT, CLASS = id_of(1), id_of(2), id_of(100), id_of(11)
GONE = DELETED[topics.ASSIGNMENTS]

Event = tuple[str, str, int]
"""What, teacher, second."""


def created(teacher: str, second: int) -> Event:
    return ("created", teacher, second)


def deleted(teacher: str, second: int) -> Event:
    return ("deleted", teacher, second)


STORIES: dict[str, tuple[list[Event], str | None]] = {
    "moved, nothing deleted": ([created(T1, 1), created(T2, 2)], T2),
    "moved, deleted at the old one later": ([created(T1, 1), created(T2, 2), deleted(T1, 3)], T2),
    "deleted at the old one, then moved": ([created(T1, 1), deleted(T1, 2), created(T2, 3)], T2),
    "moved and back": ([created(T1, 1), created(T2, 2), created(T1, 3)], T1),
    "moved, back, and deleted where it was": ([created(T1, 1), created(T2, 2), created(T1, 3), deleted(T2, 4)], T1),
    "moved, and deleted there": ([created(T1, 1), created(T2, 2), deleted(T2, 3)], None),
    "moved, deleted at both": ([created(T1, 1), created(T2, 2), deleted(T2, 3), deleted(T1, 4)], None),
    "moved, deleted at both, and back": (
        [created(T1, 1), created(T2, 2), deleted(T1, 3), deleted(T2, 4), created(T1, 5)], T1,
    ),
    "deleted at one that never had it": ([created(T1, 1), deleted(T2, 2)], T1),
    "created at both in one moment": ([created(T1, 1), created(T2, 1)], T2),
    "all in one moment": ([created(T1, 1), created(T2, 1), deleted(T2, 1)], T1),
}  # fmt: skip


def row_after(event: Event, stored: bytes | None = None) -> bytes:
    what, _, second = event
    body = (CLASS, "subject", None) if what == "created" else None
    return rows.merged(row_of(second, CREATED if what == "created" else GONE, body), stored)


def slice_after(partition: int, events: Sequence[Event]) -> ChangelogSlice:
    found: dict[bytes, bytes] = {}
    for event in events:
        key = f"{event[1]}|{ASSIGNMENT}".encode()
        found[key] = row_after(event, found.get(key))
    tp = TopicPartition(topics.ASSIGNMENTS.changelog, partition)
    return ChangelogSlice(tp, TOPIC_ID, {k: (row, WRITTEN_MS) for k, row in found.items()}, 1, len(found))


def cuts(events: Sequence[Event]) -> list[list[ChangelogSlice]]:
    """All events in one slice; and each in its own, each teacher in a partition of its own."""
    return [
        [slice_after(0, events)],
        [slice_after(int(event[1] == T2), [event]) for event in events],
    ]


TEACHER_ROWS = {t: row_of(0, CREATED, ("Nguyễn Thị Ánh", None, None)) for t in (T1, T2)}


def owners_in(model: ReadModel) -> list[str]:
    """Checks that pages, counts that were followed, and counted entries agree."""
    found = []
    for teacher in (T1, T2):
        page = model.teacher(teacher)
        assert isinstance(page, TeacherDetail)
        shown = [(c.class_id, c.assignment_id) for c in page.class_assignments]
        assert shown in ([], [(CLASS, ASSIGNMENT)])
        assert model.entry_counts.of(teacher.encode()) == (len(shown), True)
        found += [teacher] * len(shown)
    return found


@pytest.mark.parametrize("story", STORIES)
async def test_in_every_order_one_teacher_has_it_in_the_local_copy(story: str, tmp_path: Path) -> None:
    events, expected = STORIES[story]
    for n, order in enumerate(itertools.permutations(events)):
        for cut, slices in enumerate(cuts(order)):
            with closing(ReadModel(tmp_path / f"{n}-{cut}")) as model:
                sink = ReadModelSink(model)
                await sink.apply([slice_of(TEACHERS, TEACHER_ROWS, 1)])
                assert owners_in(model) == []  # From now on the counts are followed.
                for part in slices:
                    await sink.apply([part])
                    assert len(owners_in(model)) <= 1
                assert owners_in(model) == ([] if expected is None else [expected]), order
                await sink.apply(slices)  # A replay.
                assert owners_in(model) == ([] if expected is None else [expected]), order


@pytest.fixture(params=["sqlite", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'replica.db'}"
    url: str = request.getfixturevalue("mariadb_url")
    return url


@pytest_asyncio.fixture
async def replica(database_url: str) -> AsyncIterator[tuple[ReplicaSink, ReplicaReader]]:
    async def refuse(*what: object) -> None:
        raise AssertionError(what)

    sink, reader = ReplicaSink.open(database_url, refuse), ReplicaReader.open(database_url, pool_size=2)
    await sink.positions([TEACHERS, *(TopicPartition(topics.ASSIGNMENTS.changelog, p) for p in (0, 1))])
    yield sink, reader
    await reader.close()
    await sink.close()


@pytest.mark.parametrize("story", STORIES)
async def test_the_replica_shows_it_at_the_same_teacher(story: str, replica: tuple[ReplicaSink, ReplicaReader]) -> None:
    """Its rows are those of the tables, in any order: other tests see to that."""
    events, expected = STORIES[story]
    sink, reader = replica
    await sink.apply([slice_of(TEACHERS, TEACHER_ROWS, 1)])
    for part in cuts(events)[0]:
        await sink.apply([part])
    for after in (None, Cursor(id_of(3), id_of(3))):
        pages = {t: await reader.teacher(t, after=after) for t in (T1, T2)}
        shown = [t for t, page in pages.items() if isinstance(page, TeacherDetail) and page.class_assignments]
        assert shown == ([] if expected is None else [expected])


some_events = st.lists(
    st.tuples(st.sampled_from(["created", "deleted"]), st.sampled_from([T1, T2, id_of(3)]), st.integers(1, 4)),
    max_size=8,
)


@given(some_events, st.randoms())
def test_the_owner_is_one_with_a_live_row_in_any_order(events: list[Event], dice: object) -> None:
    def owner_after(order: Sequence[Event]) -> bytes | None:
        found: dict[bytes, bytes] = {}
        for what, teacher, second in order:
            body = (id_of(11), "subject", None) if what == "created" else None
            row = row_of(second, CREATED if what == "created" else GONE, body)
            found[teacher.encode()] = rows.merged(row, found.get(teacher.encode()))
        has_it = owner(found)
        assert has_it is None or not rows.is_deleted(found[has_it])
        return has_it

    shuffled = list(events)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert owner_after(shuffled) == owner_after(events)
