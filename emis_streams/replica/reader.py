"""Answers from the replica, for as long as the local read model has not caught up.

A teacher is three queries however many classes there are: the teacher, a page of the assignments, and one
batch of class infos, in which a page of the homeroom classes is.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from sqlalchemy import CompoundSelect, Row, Select, and_, bindparam, exists, not_, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emis_streams import database, rows
from emis_streams.answers import ClassDetail, Gone, TeacherDetail
from emis_streams.class_list import DEFAULT_LIMIT, Cursor
from emis_streams.database_faults import waited_for
from emis_streams.replica.schema import class_infos, teacher_assignments, teachers
from emis_streams.replica.version_time import is_after_version
from emis_streams.teacher_detail import ClassPage, KnownClass, assemble

TIMEOUT_SECONDS = 5.0
"""Whoever waits for a page has gone by then; a server that hangs answers nothing, not even an error."""

Found = Row[*tuple[Any, ...]]

_TEACHER = select(
    teachers.c.FullName, teachers.c.Email, teachers.c.SchoolId, teachers.c.DeletedAt, teachers.c.Version
).where(teachers.c.TeacherId == bindparam("teacher_id"))

_A = teacher_assignments.c
_O = teacher_assignments.alias("of_others").c
_HAS_LATER_OWNER = exists().where(
    _O.AssignmentId == _A.AssignmentId,
    _O.TeacherId != _A.TeacherId,
    or_(
        and_(_O.DeletedAt.is_(None), _O.Version > _A.Version),
        and_(_O.DeletedAt.is_(None), _O.Version == _A.Version, _O.TeacherId > _A.TeacherId),
        and_(_O.CreatedAt < _O.DeletedAt, is_after_version(_O.CreatedAt, _A.Version)),
    ),
)
"""The rule of `assignment_owner.owner`, as a condition."""
ASSIGNMENTS = (
    select(_A.AssignmentId, _A.ClassId, _A.Role, _A.Subject)
    .where(_A.TeacherId == bindparam("teacher_id"), _A.DeletedAt.is_(None), not_(_HAS_LATER_OWNER))
    .order_by(_A.ClassId, _A.AssignmentId)
)
"""Of the teacher `teacher_id`, in the order of pages."""
_AFTER_ASSIGNMENT = or_(
    _A.ClassId > bindparam("class_id"),
    and_(_A.ClassId == bindparam("class_id"), _A.AssignmentId > bindparam("assignment_id")),
)

_CLASS_COLUMNS = (
    class_infos.c.ClassId,
    class_infos.c.ClassName,
    class_infos.c.Grade,
    class_infos.c.AcademicYear,
    class_infos.c.TotalStudents,
    class_infos.c.SchoolId,
    class_infos.c.HomeroomTeacherId,
    class_infos.c.LastSyncedAt,
    class_infos.c.DeletedAt,
)
_BY_ID = select(*_CLASS_COLUMNS).where(class_infos.c.ClassId.in_(bindparam("class_ids", expanding=True)))
_HOMEROOM = (
    select(*_CLASS_COLUMNS)
    .where(class_infos.c.HomeroomTeacherId == bindparam("teacher_id"))
    .order_by(class_infos.c.ClassId)
)

_CLASS = select(class_infos).where(class_infos.c.ClassId == bindparam("class_id"))


class ReplicaReader:
    """All methods raise Unavailable if the database cannot be reached, or does not answer in time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, database_url: str, pool_size: int) -> Self:
        """A reader with connections of its own, made when needed; raises InvalidSetting."""
        return cls(database.statement_engine(database_url, pool_size))

    async def close(self) -> None:
        await self._engine.dispose()

    async def teacher(
        self, teacher_id: str, limit: int = DEFAULT_LIMIT, after: Cursor | None = None
    ) -> TeacherDetail | Gone | None:
        """The teacher with the first `limit` entries of the list of classes that come after the cursor.

        Gone if it was deleted, None if it is not known. What is fetched is bounded by `limit`.
        """
        async with self._connected() as connection:
            found = (await connection.execute(_TEACHER, {"teacher_id": teacher_id})).one_or_none()
            if found is None:
                return None
            if found.DeletedAt is not None:
                return _gone(found)
            wanted: dict[str, Any] = {"teacher_id": teacher_id, **({} if after is None else after._asdict())}
            assigned = (await connection.execute(_assignments(limit, after), wanted)).all()
            wanted["class_ids"] = sorted({a.ClassId for a in assigned})
            classes = (await connection.execute(_classes(limit, after), wanted)).all()
        return _teacher_detail(teacher_id, found, _Page(limit, after), assigned, classes)

    async def class_(self, class_id: str) -> ClassDetail | Gone | None:
        """The class and where its data came from, or that and when it was deleted; None if it is not known."""
        async with self._connected() as connection:
            found = (await connection.execute(_CLASS, {"class_id": class_id})).one_or_none()
        if found is None:
            return None
        return _gone(found) if found.DeletedAt is not None else _class_detail(found)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        async with (
            waited_for("reading the replica"),
            asyncio.timeout(TIMEOUT_SECONDS),
            self._engine.connect() as connection,
        ):
            yield connection


class _Page(NamedTuple):
    limit: int
    after: Cursor | None


def _assignments(limit: int, after: Cursor | None) -> Select[Any]:
    """One more than fit on the page, to see whether there are more."""
    query = ASSIGNMENTS if after is None else ASSIGNMENTS.where(_AFTER_ASSIGNMENT)
    return query.limit(limit + 1)


def _classes(limit: int, after: Cursor | None) -> CompoundSelect[Any]:
    """By id or by homeroom teacher: each half has its index (for an OR, a database may read the whole table).

    Homeroom classes that have an assignment are no entries of their own, so twice as many are fetched.
    """
    query = _HOMEROOM if after is None else _HOMEROOM.where(class_infos.c.ClassId > bindparam("class_id"))
    return union_all(_BY_ID, select(query.limit(2 * (limit + 1)).subquery()))


def _teacher_detail(
    teacher_id: str, found: Found, page: _Page, assigned: Sequence[Found], classes: Sequence[Found]
) -> TeacherDetail:
    of_assignments = {a.ClassId for a in assigned}
    homeroom = {c.ClassId for c in classes if c.HomeroomTeacherId == teacher_id} - of_assignments
    cursors = sorted([*(Cursor(a.ClassId, a.AssignmentId) for a in assigned), *(Cursor(id_) for id_ in homeroom)])
    shown = cursors[: page.limit]
    on_page = set(shown)
    is_more = len(cursors) > page.limit
    return assemble(
        teacher_id,
        rows.TeacherRow(found.FullName, found.Email, found.SchoolId),
        [
            (a.AssignmentId, rows.AssignmentRow(a.ClassId, a.Role, a.Subject))
            for a in assigned
            if Cursor(a.ClassId, a.AssignmentId) in on_page
        ],
        {c.ClassId: KnownClass(_class_row(c), _utc(c.LastSyncedAt)) for c in classes},
        [cursor.class_id for cursor in shown if not cursor.assignment_id],
        "mysql",
        ClassPage(shown[-1] if is_more else None, len(cursors), page.after is None and not is_more),
    )


def _class_row(found: Found) -> rows.ClassRow | None:
    if found.DeletedAt is not None:
        return None
    return rows.ClassRow(
        found.ClassName,
        found.Grade,
        found.AcademicYear,
        found.TotalStudents,
        found.SchoolId,
        found.HomeroomTeacherId,
    )


def _class_detail(found: Found) -> ClassDetail:
    return ClassDetail(
        class_id=found.ClassId,
        class_name=found.ClassName,
        grade=found.Grade,
        academic_year=found.AcademicYear,
        total_students=found.TotalStudents,
        school_id=found.SchoolId,
        homeroom_teacher_id=found.HomeroomTeacherId,
        version=found.Version,
        event_id=found.SourceEventId,
        event_time=rows.event_time(bytes.fromhex(found.Version)),
        sync_source=found.SyncSource,
        created_at=_utc(found.CreatedAt),
        last_synced_at=_utc(found.LastSyncedAt),
        source="mysql",
    )


def _gone(found: Found) -> Gone:
    return Gone(deleted_at=_utc(found.DeletedAt), version=found.Version)


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)
