"""A row of a changelog as the values of a row of the replica. Pure, and quick: it runs for every row.

Times are made as text in the form that MySQL reads and SQLite keeps (`YYYY-MM-DD HH:MM:SS.ffffff`),
so that one value serves both.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from emis_streams import rows, topics
from emis_streams.errors import InvalidEvent
from emis_streams.replica import schema

Values = tuple[str | int | None, ...]
Fields = Callable[[str, bytes], Values]
"""Key and row to the values of the columns before `LastSyncedAt`."""

_EPOCH = datetime(1970, 1, 1)


def columns_of(subject: topics.Subject) -> list[str]:
    """The columns that values are given for, in their order: all but computed ones."""
    return [str(column.name) for column in schema.TABLES[subject].columns if column.computed is None]


def time_text(us: int) -> str:
    """Text of a time in µs since 1970 (UTC)."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(" ", "microseconds")


@lru_cache(maxsize=4096)
def _ms_text(ms: int) -> str:
    return time_text(ms * 1000)


def _class_fields(key: str, row: bytes) -> Values:
    body = rows.body_of(row, rows.ClassRow)
    if body is None:
        return (key, None, None, None, None, None, None)
    return (
        key,
        body.class_name,
        body.grade,
        body.academic_year,
        body.total_students,
        body.school_id,
        body.homeroom_teacher_id,
    )


def _teacher_fields(key: str, row: bytes) -> Values:
    body = rows.body_of(row, rows.TeacherRow)
    return (key, None, None, None) if body is None else (key, body.full_name, body.email, body.school_id)


def _assignment_fields(key: str, row: bytes) -> Values:
    teacher_id, bar, assignment_id = key.partition("|")
    if not bar:
        raise InvalidEvent(f"key {key!r} is not teacherId|assignmentId")
    body = rows.body_of(row, rows.AssignmentRow)
    if body is None:
        return (teacher_id, assignment_id, None, None, None)
    return (teacher_id, assignment_id, body.class_id, body.role, body.subject)


_FIELDS: dict[topics.Subject, Fields] = {
    topics.CLASSES: _class_fields,
    topics.TEACHERS: _teacher_fields,
    topics.ASSIGNMENTS: _assignment_fields,
}


def values_of(subject: topics.Subject, partition: int, key: bytes, row: bytes, written_ms: int) -> Values:
    """Values for `columns_of(subject)` of a changelog record; raises InvalidEvent with the reason."""
    try:
        rank = rows.event_rank(row)
        event_time = time_text(int.from_bytes(row[:8], "big"))
        created = row[rows.VERSION_BYTES : rows.BODY_AT]
        if len(created) != rows.CREATED_BYTES:
            raise InvalidEvent(f"row of {len(row)} bytes is shorter than version and time of creation")
        return (
            *_FIELDS[subject](key.decode(), row),
            _ms_text(written_ms),
            subject.events[rank],
            event_time if row[:8] == created else time_text(int.from_bytes(created, "big")),
            event_time if rank else None,
            event_time if rows.is_deleted(row) else None,
            rows.event_id(row),
            partition,
            rows.version_of(row).hex(),
        )
    except (IndexError, OverflowError, UnicodeError, msgspec.MsgspecError, rows.UnknownRowFormat) as error:
        raise InvalidEvent(f"row of {subject.name} cannot be read: {type(error).__name__}: {error}") from None
