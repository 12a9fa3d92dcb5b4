"""Long lists in the local copy: what a page costs does not depend on how many rows there are."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rocksdict import WriteBatch

from emis_streams.answers import TeacherDetail
from emis_streams.class_list import Cursor
from emis_streams.read_model.entry_counts import MOST_COUNTED_AT_ONCE
from emis_streams.read_model.keys import POSITION, POSITIONS_WITHOUT_INDEXES, TEACHERS_OF_ASSIGNMENT
from emis_streams.read_model.model import HOMEROOM, ReadModel
from emis_streams.read_model.sink import ReadModelSink
from tests.replica_rows import ASSIGNMENTS, CLASSES, CREATED, TEACHERS, class_row, id_of, row_of, slice_of
from tests.services import until

PLACEHOLDER, OTHER = id_of(0), id_of(5)
N_CLASSES = 100_000
MOST_CPU_SECONDS = 0.05


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ReadModel]:
    with closing(ReadModel(tmp_path / "read-model")) as opened:
        yield opened


async def with_homeroom_classes(model: ReadModel, n: int, teacher_id: str = PLACEHOLDER, second: int = 1) -> None:
    sink = ReadModelSink(model)
    await sink.apply([slice_of(TEACHERS, {teacher_id: row_of(1, CREATED, ("Chưa rõ", None, None))}, 1)])
    for first in range(0, n, 2_000):
        numbers = range(first, min(n, first + 2_000))
        rows = {id_of(1_000 + m): class_row(second, f"10A{m}", homeroom=teacher_id) for m in numbers}
        await sink.apply([slice_of(CLASSES, rows, first)])


def page_of(model: ReadModel, limit: int = 500, after: str | None = None) -> TeacherDetail:
    found = model.teacher(PLACEHOLDER, limit, None if after is None else Cursor.of(after))
    assert isinstance(found, TeacherDetail)
    return found


class _Counting:
    """An iterator that counts its steps."""

    def __init__(self, of: Any) -> None:
        self._of = of
        self.n = 0

    def next(self) -> None:
        self.n += 1
        self._of.next()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


class EntriesRead:
    def __init__(self) -> None:
        self.iterators: list[_Counting] = []

    @property
    def n(self) -> int:
        return sum(one.n for one in self.iterators)


@contextmanager
def index_entries_read(model: ReadModel) -> Iterator[EntriesRead]:
    """How many steps all scans of the block make."""
    read, iterator = EntriesRead(), model.iterator

    def counted(end: bytes) -> Any:
        read.iterators.append(_Counting(iterator(end)))
        return read.iterators[-1]

    model.iterator = counted  # type: ignore[method-assign,assignment]
    try:
        yield read
    finally:
        del model.iterator  # type: ignore[method-assign]


def pages(model: ReadModel, limit: int) -> Iterator[TeacherDetail]:
    page = page_of(model, limit)
    yield page
    while page.next_after is not None:
        page = page_of(model, limit, page.next_after)
        yield page


async def test_a_page_of_a_long_list_costs_what_it_shows(model: ReadModel) -> None:
    await with_homeroom_classes(model, N_CLASSES)
    with index_entries_read(model) as read:
        first = page_of(model)
        assert read.n <= MOST_COUNTED_AT_ONCE + 500 + 5, "the page, and the count up to its bound"
    with index_entries_read(model) as read:
        second = page_of(model, 500, first.next_after)
        assert read.n <= 505, "the count is known to be long"
    with index_entries_read(model) as read:
        samples = model.sample_teachers(12)
        assert read.n <= 55
    assert (len(first.class_assignments), len(second.class_assignments)) == (500, 500)
    assert (first.total, first.total_at_least) == (None, MOST_COUNTED_AT_ONCE)
    assert samples == [], "a placeholder is no sample"


async def test_a_list_that_has_moved_away_leaves_nothing_to_read_over(model: ReadModel) -> None:
    """RocksDB keeps a mark of each index entry that was deleted, until it compacts."""
    n = 20_000
    await with_homeroom_classes(model, n)
    await with_homeroom_classes(model, n, OTHER, second=2)
    assert page_of(model).class_assignments == []
    page_of(model)
    began = time.thread_time()
    for _ in range(20):
        assert page_of(model).total == 0
    assert (time.thread_time() - began) / 20 < MOST_CPU_SECONDS


async def test_a_long_list_is_counted_in_the_background_and_stays_exact(model: ReadModel) -> None:
    n = MOST_COUNTED_AT_ONCE + 5_000
    await with_homeroom_classes(model, n)
    assert page_of(model).total is None
    counting = asyncio.create_task(model.entry_counts.run())
    await until(lambda: page_of(model, 1).total == n)
    sink = ReadModelSink(model)
    keys = [f"{PLACEHOLDER}|{id_of(m)}" for m in (1, 2)]
    rows = [row_of(1, CREATED, (id_of(class_), "subject-teacher", "Toán")) for class_ in (1_000, 7)]
    await sink.apply([slice_of(ASSIGNMENTS, dict(zip(keys, rows, strict=True)), 1)])
    assert page_of(model, 1).total == n + 1, "the homeroom class 1000 is now shown as an assignment"
    await sink.apply([slice_of(CLASSES, {id_of(1_001): class_row(2, homeroom=OTHER)}, 1)])
    assert page_of(model, 1).total == n
    counting.cancel()


@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_pages_after_each_other_are_the_whole_list_while_other_rows_move(model: ReadModel, limit: int) -> None:
    await with_homeroom_classes(model, 60)
    sink = ReadModelSink(model)
    keys = {
        f"{PLACEHOLDER}|{id_of(m)}": row_of(1, CREATED, (id_of(990 + m), "subject-teacher", "Toán")) for m in range(30)
    }
    await sink.apply([slice_of(ASSIGNMENTS, keys, 1)])
    found: list[tuple[str, str | None]] = []
    for turn, page in enumerate(pages(model, limit)):
        found += [(c.class_id, c.assignment_id) for c in page.class_assignments]
        name = {id_of(1_000 + m): class_row(3 + turn % 50, f"{turn}", homeroom=PLACEHOLDER) for m in range(60)}
        await sink.apply([slice_of(CLASSES, name, 1)])  # All are renamed, which moves them within a page only.
    assigned = {(id_of(990 + m), id_of(m)) for m in range(30)}
    homeroom = {(id_of(1_000 + m), None) for m in range(20, 60)}
    assert len(found) == len(set(found)) == 70
    assert set(found) == assigned | homeroom


@pytest.mark.parametrize("old_position", POSITIONS_WITHOUT_INDEXES)
async def test_a_copy_of_an_older_version_gets_its_indexes_and_keeps_its_positions(
    model: ReadModel, old_position: bytes
) -> None:
    await with_homeroom_classes(model, 3_000)
    sink = ReadModelSink(model)
    key = f"{PLACEHOLDER}|{id_of(1)}"
    await sink.apply([slice_of(ASSIGNMENTS, {key: row_of(1, CREATED, (id_of(7), "subject-teacher", "Toán"))}, 1)])
    before, positions = page_of(model), await sink.positions([CLASSES, TEACHERS, ASSIGNMENTS])
    older = WriteBatch(raw_mode=True)  # As e687981 wrote it: positions elsewhere, no index of assignments.
    for key_, value in list(model.scan(POSITION, bytes([POSITION[0] + 1]))):
        older.put(old_position + key_[1:], value)
        older.delete(key_)
    older.delete_range(HOMEROOM, b"i")
    older.delete_range(TEACHERS_OF_ASSIGNMENT, b"p")
    model.write(older)
    assert page_of(model).class_assignments == []
    assert await ReadModelSink(model).positions([CLASSES, TEACHERS, ASSIGNMENTS]) == positions
    assert page_of(model).class_assignments == before.class_assignments
    assert list(model.scan_keys(b"p", POSITION)) == []
    moved = f"{id_of(2)}|{id_of(1)}"
    await sink.apply([slice_of(ASSIGNMENTS, {moved: row_of(2, CREATED, (id_of(7), "subject-teacher", "Toán"))}, 2)])
    assert id_of(1) not in {c.assignment_id for c in page_of(model).class_assignments}
