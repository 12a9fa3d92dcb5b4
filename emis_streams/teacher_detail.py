"""How a teacher's page is put together: one rule for the local read model and for the replica.

Pure: whoever asks has read the rows already. What the rule says:

- one entry per assignment, also when two assignments are of the same class;
- a class whose first event has not come yet is `known: false`: it is shown as such, never invented;
- a deleted class stays on the page as `deleted: true`, without data;
- a class that names this teacher as its homeroom teacher is marked `isHomeroom`; without an
  assignment it gets an entry of its own with the role `homeroom` and no assignment id;
- a deleted class names no homeroom teacher any more, so without an assignment it is not on the page.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from emis_streams.answers import HOMEROOM, ClassAssignment, Source, TeacherDetail
from emis_streams.class_list import Cursor
from emis_streams.collation import sort_key
from emis_streams.rows import AssignmentRow, ClassRow, TeacherRow


class KnownClass(NamedTuple):
    """A class of which at least one event was seen."""

    row: ClassRow | None
    """None: the class was deleted."""
    last_synced_at: datetime


class ClassPage(NamedTuple):
    """Which part of the list of classes is shown."""

    next_after: Cursor | None
    """The last entry, if others come after it."""
    n_counted: int
    """Entries of the whole list that were counted."""
    is_all: bool
    """Whether all of them were."""


def assemble(
    teacher_id: str,
    teacher: TeacherRow,
    assignments: Sequence[tuple[str, AssignmentRow]],
    classes: Mapping[str, KnownClass],
    homeroom_class_ids: Iterable[str],
    source: Source,
    page: ClassPage | None = None,
) -> TeacherDetail:
    """The teacher with these classes: homeroom classes first, then in natural order of their names.

    Unknown and deleted ones are last; equal names are in the order of class id and assignment id.

    `page` is None if there are no others.
    `assignments` are (assignment id, row) pairs that are not deleted; `classes` has what is known of the
    classes in `assignments` and `homeroom_class_ids` by class id; a class without an entry is not known.
    A homeroom id counts only if the class's row (still) names this teacher.
    """
    entries = [_assigned(teacher_id, id_, assigned, classes.get(assigned.class_id)) for id_, assigned in assignments]
    assigned_ids = {assigned.class_id for _, assigned in assignments}
    for class_id in set(homeroom_class_ids) - assigned_ids:
        known = classes.get(class_id)
        if known is not None and known.row is not None and known.row.homeroom_teacher_id == teacher_id:
            entries.append(_with_data(class_id, known.row, known.last_synced_at, None, HOMEROOM, None, True))
    entries.sort(key=_place)
    page = page or ClassPage(None, len(entries), True)
    return TeacherDetail(
        teacher_id=teacher_id,
        full_name=teacher.full_name,
        email=teacher.email,
        school_id=teacher.school_id,
        class_assignments=entries,
        next_after=None if page.next_after is None else str(page.next_after),
        total=page.n_counted if page.is_all else None,
        total_at_least=page.n_counted,
        source=source,
    )


def _assigned(
    teacher_id: str, assignment_id: str, assigned: AssignmentRow, known: KnownClass | None
) -> ClassAssignment:
    class_id, role, subject = assigned.class_id, assigned.role, assigned.subject
    if known is None:
        return ClassAssignment(assignment_id=assignment_id, class_id=class_id, role=role, subject=subject)
    row, last_synced_at = known
    if row is not None:
        is_homeroom = row.homeroom_teacher_id == teacher_id
        return _with_data(class_id, row, last_synced_at, assignment_id, role, subject, is_homeroom)
    return ClassAssignment(
        assignment_id=assignment_id,
        class_id=class_id,
        role=role,
        subject=subject,
        last_synced_at=last_synced_at,
        known=True,
        deleted=True,
    )


def _with_data(
    class_id: str,
    row: ClassRow,
    last_synced_at: datetime,
    assignment_id: str | None,
    role: str,
    subject: str | None,
    is_homeroom: bool,
) -> ClassAssignment:
    return ClassAssignment(
        assignment_id=assignment_id,
        class_id=class_id,
        class_name=row.class_name,
        grade=row.grade,
        academic_year=row.academic_year,
        total_students=row.total_students,
        school_id=row.school_id,
        role=role,
        subject=subject,
        is_homeroom=is_homeroom,
        last_synced_at=last_synced_at,
        known=True,
    )


def _place(entry: ClassAssignment) -> tuple[bool, bool, bytes, str, str]:
    name = entry.class_name
    is_homeroom = entry.is_homeroom or entry.role == HOMEROOM
    return name is None, not is_homeroom, sort_key(name or ""), entry.class_id, entry.assignment_id or ""
