"""The keys of a local copy. The first byte says what a key is; ids are UUIDs of 36 characters.

    c<classId>                   class row            t<teacherId>                 teacher row
    a<teacherId>|<assignmentId>  assignment row
    g<userId>|<lessonId>         progress row         y<userId>|<eventId>          activity row
    o<assignmentId>              ids of the teachers that have a row of it, one after the other
    r<topic>|<partition>         position in the changelog

Indexes of lists have no values. Each is written in the same batch as the row that it is made of:

    h<teacherId>|<classId>                  homeroom teacher of a class
    h<teacherId>|<classId>|<assignmentId>   assignment, by class, of the teacher who has it
    u<userId>|<time><lessonId>              progress by time (µs since 1970, 8 bytes)
    v<userId>|<time><eventId>               activity by time

Positions of e687981 and before are under `p`: such a copy lacks the indexes of assignments, progress and activity.
Positions under `q` are of a copy that lacks the teachers of assignments.
"""

import msgspec

from emis_streams import rows
from emis_streams.rows import AssignmentRow, ClassRow

CLASS, TEACHER, ASSIGNMENT, PROGRESS_ROW, ACTIVITY_ROW = b"c", b"t", b"a", b"g", b"y"
HOMEROOM = CLASSES_OF_TEACHER = b"h"
"""Prefix of the index of a teacher's classes: homeroom classes and assignments."""
PROGRESS_BY_TIME, ACTIVITY_BY_TIME = b"u", b"v"
TEACHERS_OF_ASSIGNMENT = b"o"
POSITION = b"r"
"""And topic|partition: position in a changelog."""
POSITIONS_WITHOUT_INDEXES = (b"q", b"p")

ID_BYTES = 36
TIME_BYTES = 8
PAIR_BYTES = 2 * ID_BYTES + 1
"""Of `<id>|<id>`."""


def index_key(prefix: bytes, key: bytes, row: bytes) -> bytes | None:
    """The index entry of a row; None if it has none: deleted, a teacher, a class without a homeroom teacher.

    Also None for a key that is not made of ids, and for a body that is not one of its kind: no question finds them.
    """
    if prefix == TEACHER or len(key) != (ID_BYTES if prefix == CLASS else PAIR_BYTES) or rows.is_deleted(row):
        return None
    try:
        if prefix == CLASS:
            return _of_class(key, row)
        return _of_assignment(key, row) if prefix == ASSIGNMENT else time_key(prefix, key, row)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None


def _of_class(key: bytes, row: bytes) -> bytes | None:
    body = rows.body_of(row, ClassRow)
    assert body is not None
    teacher_id = body.homeroom_teacher_id
    return None if teacher_id is None else HOMEROOM + _id(teacher_id) + b"|" + key


def _of_assignment(key: bytes, row: bytes) -> bytes:
    body = rows.body_of(row, AssignmentRow)
    assert body is not None
    return CLASSES_OF_TEACHER + key[: ID_BYTES + 1] + _id(body.class_id) + key[ID_BYTES:]


def _id(text: str) -> bytes:
    """Raises ValueError for what is none: the parts of a key are found by their lengths."""
    raw = text.encode()
    if len(raw) != ID_BYTES:
        raise ValueError(f"{text!r} is no id")
    return raw


def time_key(prefix: bytes, key: bytes, row: bytes) -> bytes:
    """The entry of a progress or an activity row in the index by time. Raises OverflowError for no time of a row."""
    if prefix == PROGRESS_ROW:
        by_time, time = PROGRESS_BY_TIME, rows.created_at(row)
    else:
        by_time, time = ACTIVITY_BY_TIME, rows.event_time(row)
    return by_time + key[: ID_BYTES + 1] + rows.to_us(time).to_bytes(TIME_BYTES, "big") + key[ID_BYTES + 1 :]
