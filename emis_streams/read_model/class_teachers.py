"""The teachers of a class, from the index of assignments by class."""

from collections.abc import Mapping, Sequence
from itertools import islice

from emis_streams import rows
from emis_streams.answers import HOMEROOM, ClassTeacher, ClassTeacherRole, ClassTeachers
from emis_streams.collation import sort_key
from emis_streams.read_model.assignment_index import held_rows
from emis_streams.read_model.keys import ASSIGNMENTS_OF_CLASS, SHORT_ID_BYTES, TEACHER, TIME_BYTES, short_id
from emis_streams.read_model.local_copy import LocalCopy
from emis_streams.rows import AssignmentRow, TeacherRow

DEFAULT_LIMIT = MOST_LIMIT = 500
"""Assignments on a page: more than any class has."""


def of_class(
    copy: LocalCopy, class_id: str, homeroom_teacher_id: str | None, limit: int, after: str | None = None
) -> ClassTeachers:
    """The teachers of the first `limit` assignments after this one, by assignment id; the homeroom teacher is on the
    first page. The cost is bounded by `limit`."""
    prefix = ASSIGNMENTS_OF_CLASS + short_id(class_id.encode())
    first = prefix if after is None else prefix + short_id(after.encode()) + b"\0"
    keys = islice(copy.scan_keys(first, prefix + b"\xff" * (SHORT_ID_BYTES + 1)), limit + 1)
    ids = [rows.uuid_text(key[-SHORT_ID_BYTES:]) for key in keys]
    roles = _roles(copy, ids[:limit])
    if homeroom_teacher_id is not None and after is None and homeroom_teacher_id not in roles:
        roles[homeroom_teacher_id] = [ClassTeacherRole(assignment_id=None, role=HOMEROOM, subject=None)]
    return ClassTeachers(
        class_id=class_id,
        teachers=_teachers(copy, roles, homeroom_teacher_id),
        next_after=ids[limit - 1] if len(ids) > limit else None,
        source="local",
    )


def _roles(copy: LocalCopy, assignment_ids: Sequence[str]) -> dict[str, list[ClassTeacherRole]]:
    """By teacher id."""
    found: dict[str, list[ClassTeacherRole]] = {}
    for id_, (teacher, row) in held_rows(copy, [id_.encode() for id_ in assignment_ids]).items():
        body = rows.body_of(row, AssignmentRow)
        if body is not None:
            role = ClassTeacherRole(assignment_id=id_.decode(), role=body.role, subject=body.subject)
            found.setdefault(teacher.decode(), []).append(role)
    return found


def _teachers(
    copy: LocalCopy, roles: Mapping[str, list[ClassTeacherRole]], homeroom_teacher_id: str | None
) -> list[ClassTeacher]:
    values = copy.get_many([TEACHER + id_.encode() for id_ in roles])
    found = []
    for (id_, theirs), kept in zip(roles.items(), values, strict=True):
        body = None if kept is None else rows.body_of(kept[TIME_BYTES:], TeacherRow)
        found.append(
            ClassTeacher(
                teacher_id=id_,
                full_name=None if body is None else body.full_name,
                deleted=kept is not None and body is None,
                is_homeroom=id_ == homeroom_teacher_id,
                roles=sorted(theirs, key=_role_place),
            )
        )
    return sorted(found, key=_place)


def _role_place(role: ClassTeacherRole) -> tuple[bool, bytes, str, str]:
    return role.role != HOMEROOM, sort_key(role.subject or ""), role.role, role.assignment_id or ""


def _place(teacher: ClassTeacher) -> tuple[bool, bool, bytes, str]:
    name = teacher.full_name
    return not teacher.is_homeroom, name is None, sort_key(name or ""), teacher.teacher_id
