"""The keys of a local copy. The first byte says what a key is; ids are UUIDs of 36 characters.

    c<classId>                   class row            t<teacherId>                 teacher row
    a<teacherId>|<assignmentId>  assignment row
    g<userId>|<lessonId>         progress row         y<userId>|<eventId>          activity row
    o<assignmentId>              ids of the teachers that have a row of it, one after the other
    s<topic>|<partition>         position in the changelog

Indexes of lists have no values. Each is written in the same batch as the row that it is made of:

    h<teacherId>|<classId>                  homeroom teacher of a class
    h<teacherId>|<classId>|<assignmentId>   assignment, by class, of the teacher who has it
    u<userId>|<time><lessonId>              progress by time (µs since 1970, 8 bytes)
    v<userId>|<time><eventId>               activity by time
    k<classId><assignmentId>                assignment, by class (ids of 16 bytes each)
    n w x                                   names of teachers and classes (`search_index.py`)

Positions of e687981 and before are under `p`: such a copy lacks the indexes of assignments, progress and activity.
Positions under `q` are of a copy that lacks the teachers of assignments, under `r` of one that lacks assignments by
class and names.
"""

from binascii import unhexlify

import msgspec

from emis_streams import rows
from emis_streams.rows import AssignmentRow

CLASS, TEACHER, ASSIGNMENT, PROGRESS_ROW, ACTIVITY_ROW = b"c", b"t", b"a", b"g", b"y"
HOMEROOM = CLASSES_OF_TEACHER = b"h"
"""Prefix of the index of a teacher's classes: homeroom classes and assignments."""
PROGRESS_BY_TIME, ACTIVITY_BY_TIME = b"u", b"v"
TEACHERS_OF_ASSIGNMENT = b"o"
ASSIGNMENTS_OF_CLASS = b"k"
NAMES, WORDS_OF_NAMES, NAMES_OF_SCHOOL = b"n", b"w", b"x"
INDEXES = (
    CLASSES_OF_TEACHER,
    TEACHERS_OF_ASSIGNMENT,
    PROGRESS_BY_TIME,
    ACTIVITY_BY_TIME,
    ASSIGNMENTS_OF_CLASS,
    NAMES,
    WORDS_OF_NAMES,
    NAMES_OF_SCHOOL,
)
"""What follows from the rows, and can be made again from them."""
POSITION = b"s"
"""And topic|partition: position in a changelog."""
POSITIONS_WITHOUT_INDEXES = (b"r", b"q", b"p")

ID_BYTES = 36
SHORT_ID_BYTES = 16
TIME_BYTES = 8
PAIR_BYTES = 2 * ID_BYTES + 1
"""Of `<id>|<id>`."""


def index_key(prefix: bytes, key: bytes, row: bytes) -> bytes | None:
    """The index entry of an assignment, progress or activity row; None if it has none: deleted, or no row of its kind.

    Also None for a key that is not made of ids: no question finds it.
    """
    if len(key) != PAIR_BYTES or rows.is_deleted(row):
        return None
    try:
        return _of_assignment(key, row) if prefix == ASSIGNMENT else time_key(prefix, key, row)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None


def homeroom_key(key: bytes, teacher_id: str | None) -> bytes | None:
    """The index entry of a class with this homeroom teacher; None if it has none, or if one of the ids is none."""
    if teacher_id is None or len(key) != ID_BYTES:
        return None
    try:
        return HOMEROOM + _id(teacher_id) + b"|" + key
    except ValueError:
        return None


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


def short_id(id_: bytes) -> bytes:
    """The 16 bytes of an id. Raises ValueError for what is none."""
    raw = unhexlify(id_.replace(b"-", b""))
    if len(raw) != SHORT_ID_BYTES:
        raise ValueError(f"{id_!r} is no id")
    return raw


def class_key(entry: bytes) -> bytes:
    """The entry by class of an assignment, whose entry in the index of a teacher's classes is given."""
    class_id, assignment_id = entry[1 + ID_BYTES + 1 : 1 + PAIR_BYTES], entry[1 + PAIR_BYTES + 1 :]
    return ASSIGNMENTS_OF_CLASS + unhexlify((class_id + assignment_id).replace(b"-", b""))


def time_key(prefix: bytes, key: bytes, row: bytes) -> bytes:
    """The entry of a progress or an activity row in the index by time. Raises OverflowError for no time of a row."""
    if prefix == PROGRESS_ROW:
        by_time, time = PROGRESS_BY_TIME, rows.created_at(row)
    else:
        by_time, time = ACTIVITY_BY_TIME, rows.event_time(row)
    return by_time + key[: ID_BYTES + 1] + rows.to_us(time).to_bytes(TIME_BYTES, "big") + key[ID_BYTES + 1 :]
