"""Answers from the replica, on SQLite and on MariaDB."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event

from emis_streams import topics
from emis_streams.answers import ClassAssignment, ClassDetail, Gone, TeacherDetail
from emis_streams.class_list import Cursor
from emis_streams.errors import Unavailable
from emis_streams.replica.reader import ASSIGNMENTS as OF_A_TEACHER
from emis_streams.replica.reader import ReplicaReader
from emis_streams.replica.writer import ReplicaSink
from emis_streams.rows import from_ms
from tests.replica_rows import (
    ASSIGNMENTS,
    CLASSES,
    CREATED,
    DELETED,
    TEACHERS,
    UPDATED,
    WRITTEN_MS,
    at,
    class_row,
    id_of,
    row_of,
    slice_of,
)

ME, SOMEONE_ELSE = id_of(1), id_of(2)
SYNCED = from_ms(WRITTEN_MS)


@pytest.fixture(params=["sqlite", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'replica.db'}"
    url: str = request.getfixturevalue("mariadb_url")
    return url


@pytest_asyncio.fixture
async def sink(database_url: str) -> AsyncIterator[ReplicaSink]:
    async def refuse(*what: object) -> None:
        raise AssertionError(what)

    opened = ReplicaSink.open(database_url, refuse)
    await opened.positions([CLASSES, TEACHERS, ASSIGNMENTS])
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def reader(sink: ReplicaSink, database_url: str) -> AsyncIterator[ReplicaReader]:
    opened = ReplicaReader.open(database_url, pool_size=2)
    yield opened
    await opened.close()


@pytest.fixture
def queries(reader: ReplicaReader) -> Iterator[list[str]]:
    """What the reader sends to the database."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    engine = reader._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


async def keep(sink: ReplicaSink, **rows_by_table: dict[str, bytes]) -> None:
    tps = {"classes": CLASSES, "teachers": TEACHERS, "assignments": ASSIGNMENTS}
    for table, rows in rows_by_table.items():
        await sink.apply([slice_of(tps[table], rows, 1)])


def a_teacher(second: int = 1) -> bytes:
    return row_of(second, CREATED, ("Nguyễn Thị Hoa", "hoa@truong.vn", id_of(9)))


def teaches(class_id: str, role: str = "subject") -> bytes:
    return row_of(1, CREATED, (class_id, role, "Toán"))


def assignment_key(number: int, teacher_id: str = ME) -> str:
    return f"{teacher_id}|{id_of(number)}"


async def teacher(reader: ReplicaReader, teacher_id: str = ME) -> TeacherDetail:
    detail = await reader.teacher(teacher_id)
    assert isinstance(detail, TeacherDetail)
    return detail


async def test_a_teacher_with_many_classes_is_three_queries(
    sink: ReplicaSink, reader: ReplicaReader, queries: list[str]
) -> None:
    await keep(
        sink,
        teachers={ME: a_teacher(), SOMEONE_ELSE: a_teacher()},
        classes={id_of(50 + n): class_row(1, f"C{n:02}", homeroom=ME if n == 3 else SOMEONE_ELSE) for n in range(40)},
        assignments={assignment_key(100 + n): teaches(id_of(50 + n)) for n in range(30)},
    )
    detail = await teacher(reader)
    assert len(detail.class_assignments) == 30
    assert [query.split()[0] for query in queries] == ["SELECT"] * 3


@pytest.mark.parametrize("limit", [1, 4, 500])
async def test_pages_after_each_other_are_the_whole_list(sink: ReplicaSink, reader: ReplicaReader, limit: int) -> None:
    await keep(
        sink,
        teachers={ME: a_teacher()},
        classes={id_of(50 + n): class_row(1, f"C{n:02}", homeroom=ME) for n in range(12)},
        assignments={assignment_key(100 + n): teaches(id_of(45 + n // 2)) for n in range(20)},
    )
    found: list[tuple[str, str | None]] = []
    after = None
    while True:
        page = await reader.teacher(ME, limit, after)
        assert isinstance(page, TeacherDetail)
        assert len(page.class_assignments) <= limit
        found += [(c.class_id, c.assignment_id) for c in page.class_assignments]
        if page.next_after is None:
            break
        after = Cursor.of(page.next_after)
    assigned = {(id_of(45 + n // 2), id_of(100 + n)) for n in range(20)}
    homeroom = {(id_of(50 + n), None) for n in range(5, 12)}
    assert len(found) == 27
    assert set(found) == assigned | homeroom


@pytest.mark.parametrize("n_assignments", [0, 1])
async def test_a_teacher_with_few_or_no_classes_is_three_queries_too(
    sink: ReplicaSink, reader: ReplicaReader, queries: list[str], n_assignments: int
) -> None:
    await keep(
        sink,
        teachers={ME: a_teacher()},
        assignments={assignment_key(100 + n): teaches(id_of(50 + n)) for n in range(n_assignments)},
    )
    assert len((await teacher(reader)).class_assignments) == n_assignments
    assert len(queries) == 3


async def test_every_kind_of_class_is_shown_as_what_it_is(sink: ReplicaSink, reader: ReplicaReader) -> None:
    await keep(
        sink,
        teachers={ME: a_teacher()},
        classes={
            id_of(50): class_row(1, "A", homeroom=ME),
            id_of(51): class_row(1, "B"),
            id_of(52): row_of(2, DELETED[topics.CLASSES], None),
            id_of(54): class_row(1, "C", homeroom=ME),
            id_of(55): class_row(1, "D", homeroom=SOMEONE_ELSE),
        },
        assignments={
            **{assignment_key(100 + n): teaches(id_of(50 + n)) for n in range(4)},
            assignment_key(110): row_of(2, DELETED[topics.ASSIGNMENTS], None),
            assignment_key(111, SOMEONE_ELSE): teaches(id_of(55)),
        },
    )
    data: dict[str, Any] = {"grade": "10", "academic_year": "2025-2026", "total_students": 41, "school_id": id_of(9)}
    synced: dict[str, Any] = {"last_synced_at": SYNCED, "known": True}
    mine: dict[str, Any] = {"role": "subject", "subject": "Toán"}

    def entry(n: int, **more: Any) -> ClassAssignment:
        return ClassAssignment(assignment_id=id_of(100 + n), class_id=id_of(50 + n), **mine, **more)

    homeroom = ClassAssignment(
        assignment_id=None, class_id=id_of(54), class_name="C", role="homeroom", is_homeroom=True, **data, **synced
    )
    assert await teacher(reader) == TeacherDetail(
        teacher_id=ME,
        full_name="Nguyễn Thị Hoa",
        email="hoa@truong.vn",
        school_id=id_of(9),
        source="mysql",
        class_assignments=[
            entry(0, class_name="A", is_homeroom=True, **data, **synced),
            homeroom,
            entry(1, class_name="B", **data, **synced),
            entry(2, deleted=True, **synced),
            entry(3),
        ],
        total=5,
        total_at_least=5,
    )


async def test_a_teacher_that_is_not_known_is_none_and_a_deleted_one_is_gone(
    sink: ReplicaSink, reader: ReplicaReader
) -> None:
    deleted = row_of(2, DELETED[topics.TEACHERS], None)
    await keep(sink, teachers={ME: deleted}, assignments={assignment_key(100, SOMEONE_ELSE): teaches(id_of(50))})
    assert await reader.teacher(ME) == Gone(deleted_at=at(2), version=deleted[:29].hex())
    assert await reader.teacher(SOMEONE_ELSE) is None


async def test_a_class_says_where_its_data_is_from(sink: ReplicaSink, reader: ReplicaReader) -> None:
    row = row_of(5, UPDATED, ("10A1", "10", "2025-2026", 41, id_of(9), ME), created=2)
    deleted = row_of(6, DELETED[topics.CLASSES], None)
    await keep(sink, classes={id_of(50): row, id_of(51): deleted})
    assert await reader.class_(id_of(50)) == ClassDetail(
        class_id=id_of(50),
        class_name="10A1",
        grade="10",
        academic_year="2025-2026",
        total_students=41,
        school_id=id_of(9),
        homeroom_teacher_id=ME,
        version=row[:29].hex(),
        event_id=id_of(1005),
        event_time=at(5),
        sync_source="emis.class.updated",
        created_at=at(2),
        last_synced_at=SYNCED,
        source="mysql",
    )
    assert await reader.class_(id_of(51)) == Gone(deleted_at=at(6), version=deleted[:29].hex())
    assert await reader.class_(id_of(52)) is None


async def test_a_database_without_tables_is_unavailable(tmp_path: Path) -> None:
    reader = ReplicaReader.open(f"sqlite:///{tmp_path / 'new.db'}", pool_size=1)
    with pytest.raises(Unavailable, match="no such table"):
        await reader.teacher(ME)
    await reader.close()


async def test_a_page_of_assignments_is_found_by_an_index_in_the_order_of_pages(
    sink: ReplicaSink, reader: ReplicaReader
) -> None:
    """A placeholder teacher may have a million of them: they are not sorted for each page."""
    row = row_of(1, 0, (id_of(3), "subject-teacher", None))
    await keep(sink, assignments={f"{id_of(n % 50)}|{id_of(n)}": row for n in range(2_000)})
    async with reader._engine.connect() as connection:
        explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        await connection.exec_driver_sql("ANALYZE" if explain != "EXPLAIN" else "ANALYZE TABLE TeacherAssignments")
        query = OF_A_TEACHER.limit(51).params(teacher_id=id_of(1))
        sql = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = str((await connection.exec_driver_sql(f"{explain} {sql}".replace("%", "%%"))).all())
    assert "ix_TeacherAssignments_TeacherId_ClassId" in plan
    assert "filesort" not in plan
    assert "TEMP B-TREE" not in plan
