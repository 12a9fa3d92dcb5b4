"""The index of names: teachers and classes by name, by word of the name, and by school.

Entries have no values. All end with a suffix, the sort key of the name and the id (16 bytes), so that entries of one
word, or of one school, are in the order of names, and two such lists are intersected by seeks. `<kind>` is the prefix
of the row (`keys.py`).

    n<kind><suffix>              every name
    w<kind><word>\\0<suffix>      names that have the word
    x<kind><schoolId><suffix>    names of a school (id of 16 bytes)
"""

from collections.abc import Mapping

import msgspec

from emis_streams import rows
from emis_streams.collation import collated
from emis_streams.read_model.assignment_index import RowChange
from emis_streams.read_model.keys import (
    CLASS,
    NAMES,
    NAMES_OF_SCHOOL,
    SHORT_ID_BYTES,
    TEACHER,
    WORDS_OF_NAMES,
    homeroom_key,
    short_id,
)
from emis_streams.read_model.local_copy import IndexChanges
from emis_streams.rows import ClassRow, TeacherRow

KINDS = (TEACHER, CLASS)
WORD_ENDS = b"\0"


def add_changes(to: IndexChanges, kind: bytes, changes: Mapping[bytes, RowChange]) -> None:
    """How the entries of classes or teachers change with their rows; those in lists of homeroom classes, too."""
    for key, (row_before, row_after) in changes.items():
        was = None if row_before is None else _body(kind, row_before)
        is_ = _body(kind, row_after)
        if was == is_:
            continue
        if was is None or _named(was) != _named(is_):
            to.removed += _name_entries(kind, key, was)
            to.added += _name_entries(kind, key, is_)
        if kind == CLASS:
            before, after = _homeroom_entry(key, was), _homeroom_entry(key, is_)
            if before != after:
                to.move(before, after)
                to.moved.append((before, after))


def _body(kind: bytes, row: bytes) -> ClassRow | TeacherRow | None:
    """None if there is nothing to find: a deleted row, or a body that is not one of its kind."""
    if rows.is_deleted(row):
        return None
    try:
        return rows.body_of(row, ClassRow) if kind == CLASS else rows.body_of(row, TeacherRow)
    except (msgspec.MsgspecError, ValueError):
        return None


def _named(body: ClassRow | TeacherRow | None) -> tuple[str, str | None] | None:
    return None if body is None else (name_of(body), body.school_id)


def name_of(body: ClassRow | TeacherRow) -> str:
    """What a class or a teacher is called."""
    return body.class_name if isinstance(body, ClassRow) else body.full_name


def _homeroom_entry(key: bytes, body: ClassRow | TeacherRow | None) -> bytes | None:
    return homeroom_key(key, body.homeroom_teacher_id) if isinstance(body, ClassRow) else None


def _name_entries(kind: bytes, key: bytes, body: ClassRow | TeacherRow | None) -> list[bytes]:
    """Of a key that is no id there are none."""
    if body is None:
        return []
    words, sort_key = collated(name_of(body))
    try:
        suffix = sort_key + short_id(key)
        made = [NAMES + kind + suffix]
        if body.school_id is not None:
            made.append(NAMES_OF_SCHOOL + kind + short_id(body.school_id.encode()) + suffix)
    except ValueError:
        return []
    of_words, end = WORDS_OF_NAMES + kind, WORD_ENDS + suffix
    made += [of_words + word + end for word in words]
    return made


def id_of(suffix: bytes) -> str:
    """The id at the end of a suffix."""
    return rows.uuid_text(suffix[-SHORT_ID_BYTES:])
