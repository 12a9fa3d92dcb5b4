"""The teachers of a class, on a real RocksDB: all of them, the homeroom teacher first, each once."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from emis_streams.answers import ClassDetail, ClassTeachers
from emis_streams.read_model.model import ReadModel
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.topics import ASSIGNMENTS as ASSIGNMENTS_SUBJECT
from emis_streams.topics import TEACHERS as TEACHERS_SUBJECT
from tests.replica_rows import ASSIGNMENTS, CLASSES, CREATED, DELETED, TEACHERS, class_row, id_of, row_of, slice_of

CLASS, OTHER_CLASS = id_of(1), id_of(2)
AN, BINH, DAO, DUNG = (id_of(10 + n) for n in range(4))
NAMES = {AN: "Lê An", BINH: "Trần Bình", DAO: "Đào Hoa", DUNG: "Dung Hoa"}


class Kept:
    def __init__(self, path: Path) -> None:
        self.model = ReadModel(path)
        self.sink = ReadModelSink(self.model)

    async def start(self, homeroom: str | None = None) -> None:
        teachers = {id_: row_of(1, CREATED, (name, None, None)) for id_, name in NAMES.items()}
        await self.sink.apply([slice_of(TEACHERS, teachers, 1)])
        await self.sink.apply(
            [slice_of(CLASSES, {CLASS: class_row(1, homeroom=homeroom), OTHER_CLASS: class_row(1)}, 1)]
        )

    async def assign(self, assigned: Mapping[tuple[str, int], tuple[str, str] | None], second: int = 1) -> None:
        """By teacher and number of the assignment: class and subject; None: deleted."""
        deleted = row_of(second, DELETED[ASSIGNMENTS_SUBJECT], None)
        rows = {
            f"{teacher}|{id_of(100 + n)}": deleted
            if what is None
            else row_of(second, CREATED, (what[0], "subject-teacher", what[1]))
            for (teacher, n), what in assigned.items()
        }
        await self.sink.apply([slice_of(ASSIGNMENTS, rows, 1)])

    def page(self, class_id: str = CLASS, limit: int = 500, after: str | None = None) -> ClassTeachers:
        class_ = self.model.class_(class_id)
        assert isinstance(class_, ClassDetail)
        return self.model.class_teachers(class_, limit, after)

    def shown(self, class_id: str = CLASS) -> list[tuple[str | None, list[str | None]]]:
        """Names and subjects."""
        return [(one.full_name, [role.subject for role in one.roles]) for one in self.page(class_id).teachers]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "read-model")
    with closing(kept.model):
        yield kept


async def test_all_teachers_of_a_class_in_natural_order(kept: Kept) -> None:
    await kept.start()
    await kept.assign({(t, n): (CLASS, "Toán") for n, t in enumerate((BINH, DAO, DUNG, AN))})
    assert [name for name, _ in kept.shown()] == ["Dung Hoa", "Đào Hoa", "Lê An", "Trần Bình"]
    assert kept.shown(OTHER_CLASS) == []


async def test_the_homeroom_teacher_comes_first_with_or_without_an_assignment(kept: Kept) -> None:
    await kept.start(homeroom=BINH)
    await kept.assign({(AN, 1): (CLASS, "Toán")})
    first, second = kept.page().teachers
    assert (first.full_name, first.is_homeroom, [r.role for r in first.roles]) == ("Trần Bình", True, ["homeroom"])
    assert (second.full_name, second.is_homeroom) == ("Lê An", False)
    await kept.assign({(BINH, 2): (CLASS, "Ngữ văn")})
    first = kept.page().teachers[0]
    assert (first.is_homeroom, [r.subject for r in first.roles]) == (True, ["Ngữ văn"])


async def test_several_roles_of_a_teacher_are_one_row(kept: Kept) -> None:
    await kept.start()
    await kept.assign({(AN, 1): (CLASS, "Vật lí"), (AN, 2): (CLASS, "Đạo đức"), (AN, 3): (CLASS, "Địa lí")})
    assert kept.shown() == [("Lê An", ["Đạo đức", "Địa lí", "Vật lí"])]


async def test_an_assignment_that_moves_or_ends_leaves_the_class(kept: Kept) -> None:
    await kept.start()
    await kept.assign({(AN, 1): (CLASS, "Toán"), (AN, 2): (CLASS, "Tin học"), (BINH, 3): (CLASS, "Toán")})
    await kept.assign({(AN, 1): (OTHER_CLASS, "Toán"), (BINH, 3): None}, 2)
    assert (kept.shown(), kept.shown(OTHER_CLASS)) == ([("Lê An", ["Tin học"])], [("Lê An", ["Toán"])])
    await kept.assign({(DAO, 2): (CLASS, "Tin học")}, 3)
    assert kept.shown() == [("Đào Hoa", ["Tin học"])]
    await kept.assign({(DAO, 2): None}, 4)
    assert kept.shown() == []


async def test_unknown_and_deleted_teachers_are_shown_as_such(kept: Kept) -> None:
    await kept.start()
    await kept.assign({(id_of(77), 1): (CLASS, "Toán"), (AN, 2): (CLASS, "Toán"), (BINH, 3): (CLASS, "Toán")})
    deleted = row_of(2, DELETED[TEACHERS_SUBJECT], None, created=1)
    await kept.sink.apply([slice_of(TEACHERS, {AN: deleted}, 2)])
    found = [(one.teacher_id, one.full_name, one.deleted) for one in kept.page().teachers]
    assert found == [(BINH, "Trần Bình", False), (AN, None, True), (id_of(77), None, False)]


async def test_a_class_with_very_many_assignments_is_shown_a_page_at_a_time(kept: Kept) -> None:
    await kept.start(homeroom=DAO)
    await kept.assign({(AN if n % 2 else BINH, n): (CLASS, f"Môn {n}") for n in range(25)})
    page = kept.page(limit=10)
    found = list(page.teachers)
    while page.next_after is not None:
        page = kept.page(limit=10, after=page.next_after)
        assert sum(len(one.roles) for one in page.teachers) <= 10
        found += page.teachers
    assert sum(one.teacher_id == DAO for one in found) == 1
    assert len({role.assignment_id for one in found for role in one.roles}) == 26
