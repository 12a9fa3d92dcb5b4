"""The local copy on a real RocksDB: what the changelogs say is what is answered, also after a crash."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from emis_streams import rows, topics
from emis_streams.answers import ClassAssignment, ClassDetail, Gone, TeacherDetail
from emis_streams.class_list import Cursor
from emis_streams.engine.database_errors import Damaged
from emis_streams.engine.follower import Position
from emis_streams.read_model.model import CLASS as CLASS_PREFIX
from emis_streams.read_model.model import HOMEROOM, ReadModel
from emis_streams.read_model.sink import ReadModelSink
from tests.replica_rows import (
    ASSIGNMENTS,
    CLASSES,
    CREATED,
    DELETED,
    TEACHERS,
    TOPIC_ID,
    UPDATED,
    WRITTEN_MS,
    at,
    class_row,
    id_of,
    row_of,
    slice_of,
)

TEACHER, COLLEAGUE = id_of(1), id_of(2)
CLASS, OTHER_CLASS = id_of(11), id_of(12)


def teacher_row(second: int = 1, name: str = "Nguyễn Thị Ánh", rank: int = CREATED) -> bytes:
    return row_of(second, rank, (name, "anh@example.edu.vn", id_of(9)))


def assignment_row(class_id: str, second: int = 1, role: str = "subject-teacher") -> bytes:
    return row_of(second, CREATED, (class_id, role, "Toán"))


def deleted(subject: topics.Subject, second: int) -> bytes:
    return row_of(second, DELETED[subject], None, created=1)


def assigned(number: int, teacher_id: str = TEACHER) -> str:
    return f"{teacher_id}|{id_of(100 + number)}"


class Kept:
    """A read model, and the offsets of what was written to it."""

    def __init__(self, path: Path) -> None:
        self.model = ReadModel(path)
        self.sink = ReadModelSink(self.model)
        self.next_offset = 0

    async def write(self, tp: TopicPartition, rows_by_key: Mapping[str, bytes], written_ms: int = WRITTEN_MS) -> None:
        self.next_offset += len(rows_by_key)
        await self.sink.apply([slice_of(tp, rows_by_key, self.next_offset, written_ms)])

    async def teacher_with_class(self) -> None:
        await self.write(TEACHERS, {TEACHER: teacher_row()})
        await self.write(ASSIGNMENTS, {assigned(1): assignment_row(CLASS)})
        await self.write(CLASSES, {CLASS: class_row(1, "10A1")})

    def teacher(self, teacher_id: str = TEACHER) -> TeacherDetail:
        found = self.model.teacher(teacher_id)
        assert isinstance(found, TeacherDetail)
        return found

    def classes(self, teacher_id: str = TEACHER) -> list[ClassAssignment]:
        return self.teacher(teacher_id).class_assignments


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "read-model")
    yield kept
    kept.model.close()


# -- a teacher ----------------------------------------------------------------------------------


async def test_a_teacher_with_an_assigned_class(kept: Kept) -> None:
    await kept.teacher_with_class()
    assert kept.teacher() == TeacherDetail(
        teacher_id=TEACHER,
        full_name="Nguyễn Thị Ánh",
        email="anh@example.edu.vn",
        school_id=id_of(9),
        class_assignments=[
            ClassAssignment(
                assignment_id=id_of(101),
                class_id=CLASS,
                class_name="10A1",
                grade="10",
                academic_year="2025-2026",
                total_students=41,
                school_id=id_of(9),
                role="subject-teacher",
                subject="Toán",
                last_synced_at=rows.from_ms(WRITTEN_MS),
                known=True,
            )
        ],
        total=1,
        total_at_least=1,
        source="local",
    )


def test_a_teacher_that_was_never_heard_of(kept: Kept) -> None:
    assert kept.model.teacher(TEACHER) is None


async def test_an_assignment_before_its_teacher_waits_for_it(kept: Kept) -> None:
    await kept.write(ASSIGNMENTS, {assigned(1): assignment_row(CLASS)})
    assert kept.model.teacher(TEACHER) is None
    await kept.write(TEACHERS, {TEACHER: teacher_row()})
    assert [c.class_id for c in kept.classes()] == [CLASS]


async def test_a_class_that_is_not_known_yet_is_told_as_such(kept: Kept) -> None:
    await kept.write(TEACHERS, {TEACHER: teacher_row()})
    await kept.write(ASSIGNMENTS, {assigned(1): assignment_row(CLASS)})
    (unknown,) = kept.classes()
    assert (unknown.known, unknown.deleted, unknown.class_name, unknown.last_synced_at) == (False, False, None, None)


async def test_a_deleted_class_stays_without_data(kept: Kept) -> None:
    await kept.teacher_with_class()
    await kept.write(CLASSES, {CLASS: deleted(topics.CLASSES, 5)})
    (gone,) = kept.classes()
    assert (gone.known, gone.deleted, gone.class_name, gone.role) == (True, True, None, "subject-teacher")


async def test_a_deleted_assignment_is_no_longer_there_and_the_others_are(kept: Kept) -> None:
    await kept.teacher_with_class()
    await kept.write(ASSIGNMENTS, {assigned(2): assignment_row(OTHER_CLASS)})
    await kept.write(ASSIGNMENTS, {assigned(1): deleted(topics.ASSIGNMENTS, 5)})
    assert [c.assignment_id for c in kept.classes()] == [id_of(102)]


async def test_a_deleted_teacher_is_gone_until_created_again(kept: Kept) -> None:
    await kept.teacher_with_class()
    await kept.write(TEACHERS, {TEACHER: deleted(topics.TEACHERS, 5)})
    gone = kept.model.teacher(TEACHER)
    assert isinstance(gone, Gone)
    assert gone.deleted_at == at(5)
    assert gone.version == deleted(topics.TEACHERS, 5)[: rows.VERSION_BYTES].hex()
    await kept.write(TEACHERS, {TEACHER: teacher_row(6)})
    assert [c.class_id for c in kept.classes()] == [CLASS]


async def test_teachers_do_not_see_each_others_assignments(kept: Kept) -> None:
    await kept.teacher_with_class()
    await kept.write(TEACHERS, {COLLEAGUE: teacher_row(1, "Trần Văn Bình")})
    await kept.write(ASSIGNMENTS, {assigned(2, COLLEAGUE): assignment_row(OTHER_CLASS)})
    assert [c.class_id for c in kept.classes(TEACHER)] == [CLASS]
    assert [c.class_id for c in kept.classes(COLLEAGUE)] == [OTHER_CLASS]


# -- homeroom -----------------------------------------------------------------------------------


async def test_a_homeroom_class_is_on_the_page_without_an_assignment(kept: Kept) -> None:
    await kept.write(TEACHERS, {TEACHER: teacher_row()})
    await kept.write(CLASSES, {CLASS: class_row(1, "10A1", homeroom=TEACHER)})
    (homeroom,) = kept.classes()
    assert (homeroom.class_name, homeroom.role, homeroom.assignment_id) == ("10A1", "homeroom", None)
    assert homeroom.is_homeroom


async def test_a_homeroom_class_with_an_assignment_is_there_once(kept: Kept) -> None:
    await kept.teacher_with_class()
    await kept.write(CLASSES, {CLASS: class_row(2, "10A1", homeroom=TEACHER)})
    (both,) = kept.classes()
    assert (both.role, both.is_homeroom, both.assignment_id) == ("subject-teacher", True, id_of(101))


async def test_a_homeroom_class_moves_to_another_teacher_and_back(kept: Kept) -> None:
    await kept.write(TEACHERS, {TEACHER: teacher_row(), COLLEAGUE: teacher_row()})
    for second, teacher_id in enumerate((TEACHER, COLLEAGUE, TEACHER), start=1):
        await kept.write(CLASSES, {CLASS: class_row(second, "10A1", UPDATED, homeroom=teacher_id)})
        assert [c.class_id for c in kept.classes(teacher_id)] == [CLASS]
        (elsewhere,) = {TEACHER, COLLEAGUE} - {teacher_id}
        assert kept.classes(elsewhere) == []


async def test_a_late_older_event_does_not_move_the_homeroom_back(kept: Kept) -> None:
    await kept.write(TEACHERS, {TEACHER: teacher_row(), COLLEAGUE: teacher_row()})
    await kept.write(CLASSES, {CLASS: class_row(2, "10A1", homeroom=COLLEAGUE)})
    await kept.write(CLASSES, {CLASS: class_row(1, "10A1", homeroom=TEACHER)})
    assert kept.classes(TEACHER) == []
    assert [c.class_id for c in kept.classes(COLLEAGUE)] == [CLASS]


@pytest.mark.parametrize(
    "after", [class_row(2, "10A1", UPDATED), deleted(topics.CLASSES, 2)], ids=["nobody", "class deleted"]
)
async def test_a_homeroom_class_without_a_homeroom_teacher_leaves_the_page(kept: Kept, after: bytes) -> None:
    await kept.write(TEACHERS, {TEACHER: teacher_row()})
    await kept.write(CLASSES, {CLASS: class_row(1, "10A1", homeroom=TEACHER)})
    await kept.write(CLASSES, {CLASS: after})
    assert kept.classes() == []


# -- a class ------------------------------------------------------------------------------------


async def test_a_class_says_what_it_is_and_where_it_came_from(kept: Kept) -> None:
    row = row_of(7, UPDATED, ("10A1", "10", "2025-2026", 41, id_of(9), TEACHER), created=3)
    await kept.write(CLASSES, {CLASS: row}, written_ms=1_757_000_009_999)
    assert kept.model.class_(CLASS) == ClassDetail(
        class_id=CLASS,
        class_name="10A1",
        grade="10",
        academic_year="2025-2026",
        total_students=41,
        school_id=id_of(9),
        homeroom_teacher_id=TEACHER,
        version=row[: rows.VERSION_BYTES].hex(),
        event_id=id_of(1007),
        event_time=at(7),
        sync_source="emis.class.updated",
        created_at=at(3),
        last_synced_at=rows.from_ms(1_757_000_009_999),
        source="local",
    )


async def test_a_class_that_is_gone_or_was_never_heard_of(kept: Kept) -> None:
    await kept.write(CLASSES, {CLASS: deleted(topics.CLASSES, 4)})
    gone = kept.model.class_(CLASS)
    assert isinstance(gone, Gone)
    assert gone.deleted_at == at(4)
    assert kept.model.class_(OTHER_CLASS) is None


async def test_a_lower_version_is_passed_over_but_its_position_is_kept(kept: Kept) -> None:
    await kept.write(CLASSES, {CLASS: class_row(5, "newer")})
    await kept.write(CLASSES, {CLASS: class_row(4, "older")})
    found = kept.model.class_(CLASS)
    assert isinstance(found, ClassDetail)
    assert found.class_name == "newer"
    assert await kept.sink.positions([CLASSES]) == {CLASSES: Position(2, TOPIC_ID)}


async def test_an_equal_version_is_written_again_with_its_new_time(kept: Kept) -> None:
    await kept.write(CLASSES, {CLASS: class_row(5)}, written_ms=1_000)
    await kept.write(CLASSES, {CLASS: class_row(5)}, written_ms=2_000)
    found = kept.model.class_(CLASS)
    assert isinstance(found, ClassDetail)
    assert found.last_synced_at == rows.from_ms(2_000)


# -- samples ------------------------------------------------------------------------------------


async def test_samples_are_teachers_with_known_classes_only(kept: Kept) -> None:
    teachers = {id_of(n): teacher_row() for n in range(1, 8)}
    await kept.write(TEACHERS, teachers)
    await kept.write(ASSIGNMENTS, {assigned(n, id_of(n)): assignment_row(id_of(10 + n)) for n in range(1, 7)})
    await kept.write(CLASSES, {id_of(10 + n): class_row(1) for n in (2, 4, 5)})
    await kept.write(TEACHERS, {id_of(4): deleted(topics.TEACHERS, 5)})
    assert [t.teacher_id for t in kept.model.sample_teachers(10)] == [id_of(2), id_of(5)]
    assert [t.teacher_id for t in kept.model.sample_teachers(1)] == [id_of(2)]


def test_an_empty_model_has_no_samples(kept: Kept) -> None:
    assert kept.model.sample_teachers(10) == []


# -- positions, crashes, starting anew ----------------------------------------------------------


async def test_positions_are_those_of_what_was_written(kept: Kept) -> None:
    other = TopicPartition(CLASSES.topic, 1)
    await kept.sink.apply(
        [slice_of(CLASSES, {CLASS: class_row(1)}, 7), slice_of(other, {OTHER_CLASS: class_row(1)}, 9)]
    )
    never = TopicPartition(CLASSES.topic, 2)
    assert await kept.sink.positions([CLASSES, other, never]) == {
        CLASSES: Position(7, TOPIC_ID),
        other: Position(9, TOPIC_ID),
    }


async def test_rows_homeroom_and_positions_survive_closing(tmp_path: Path) -> None:
    first = Kept(tmp_path / "model")
    await first.teacher_with_class()
    await first.write(CLASSES, {OTHER_CLASS: class_row(1, "11B2", homeroom=TEACHER)})
    before = first.teacher()
    positions = await first.sink.positions([CLASSES, TEACHERS, ASSIGNMENTS])
    first.model.close()
    again = Kept(tmp_path / "model")
    assert again.teacher() == before
    assert await again.sink.positions([CLASSES, TEACHERS, ASSIGNMENTS]) == positions
    assert not again.model.caught_up
    again.model.close()


_WRITE_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from emis_streams.read_model.model import CLASS as CLASS_PREFIX
from emis_streams.read_model.model import HOMEROOM, ReadModel
from emis_streams.read_model.sink import ReadModelSink
from tests.replica_rows import CLASSES, class_row, id_of, slice_of

async def main():
    sink = ReadModelSink(ReadModel(Path(sys.argv[1])))
    n = 0
    while True:
        numbers = range(n, n + 500)
        rows = {id_of(m): class_row(1, "x" * 200, homeroom=id_of(10**6 + m)) for m in numbers}
        n += 500
        await sink.apply([slice_of(CLASSES, rows, n)])
        if n == 100_000:
            print("many written", flush=True)

asyncio.run(main())
"""


def kill_while_writing(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"many written\n"
    process.kill()
    process.communicate()


async def test_after_a_kill_rows_homeroom_index_and_position_are_those_of_one_moment(tmp_path: Path) -> None:
    kill_while_writing(tmp_path / "model")
    after = Kept(tmp_path / "model")
    position = (await after.sink.positions([CLASSES]))[CLASSES].next_offset
    assert position > 0, "nothing was flushed: the test shows nothing"
    numbers = range(position + 20)
    found = after.model.get_many([CLASS_PREFIX + id_of(n).encode() for n in numbers])
    index = after.model.get_many([HOMEROOM + f"{id_of(10**6 + n)}|{id_of(n)}".encode() for n in numbers])
    assert [n for n, row in zip(numbers, found, strict=True) if row is not None] == list(range(position))
    assert [n for n, entry in zip(numbers, index, strict=True) if entry is not None] == list(range(position))
    after.model.close()


async def test_a_position_that_is_forgotten_costs_no_row(kept: Kept) -> None:
    await kept.teacher_with_class()
    kept.model.note_caught_up()
    await kept.sink.reset(CLASSES)
    assert set(await kept.sink.positions([CLASSES, TEACHERS, ASSIGNMENTS])) == {TEACHERS, ASSIGNMENTS}
    assert [c.class_id for c in kept.classes()] == [CLASS]
    assert kept.model.caught_up


async def test_whoever_remembers_an_answer_sees_that_something_changed(kept: Kept) -> None:
    seen = {kept.model.changes}
    await kept.teacher_with_class()
    seen.add(kept.model.changes)
    kept.teacher()
    assert kept.model.changes in seen
    await kept.sink.reset(CLASSES)
    seen.add(kept.model.changes)
    assert len(seen) == 3


def read_every_page(model: ReadModel) -> None:
    after = None
    while True:
        page = model.teacher(TEACHER, after=after)
        assert isinstance(page, TeacherDetail)
        if page.next_after is None:
            return
        after = Cursor.of(page.next_after)


# -- damage -------------------------------------------------------------------------------------


async def test_half_a_teacher_is_never_shown(tmp_path: Path) -> None:
    """A block that turned corrupt while it was open looks like the end to RocksDB's iterators."""
    path = tmp_path / "read-model"
    before = Kept(path)
    await before.write(TEACHERS, {TEACHER: teacher_row()})
    await before.write(ASSIGNMENTS, {assigned(n): assignment_row(id_of(n)) for n in range(2_000)})
    before.model.close()
    model = ReadModel(path)
    told: list[Damaged] = []
    model.on_damage = told.append
    (file,) = path.glob("*.sst")
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        byte = opened.read(1)[0]
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte ^ 0x10]))
    with pytest.raises(Damaged, match=f"{path} is damaged and set aside"):
        read_every_page(model)
    assert len(told) == 1
    assert path.with_name("read-model.corrupt").exists()
