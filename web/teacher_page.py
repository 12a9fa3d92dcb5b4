"""The rows of a teacher's page: one for each class, with all roles that the teacher has in it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from emis_streams.answers import HOMEROOM, ClassAssignment
from web.i18n import Texts


@dataclass(frozen=True)
class ClassRow:
    """A class as a teacher reads it."""

    class_id: str
    name: str | None
    """None: no event of the class came yet, or it was deleted."""
    deleted: bool
    grade: str | None
    academic_year: str | None
    n_pupils: int | None
    is_homeroom: bool
    roles: tuple[str, ...]
    """Each with its subject, in the reader's language."""
    updated_at: datetime | None


def rows_of(t: Texts, assignments: Iterable[ClassAssignment]) -> list[ClassRow]:
    """One row for each class, in the order in which the classes come first."""
    by_class: dict[str, list[ClassAssignment]] = {}
    for assignment in assignments:
        by_class.setdefault(assignment.class_id, []).append(assignment)
    return [_row(t, found) for found in by_class.values()]


def _row(t: Texts, assignments: Sequence[ClassAssignment]) -> ClassRow:
    first = assignments[0]
    roles = dict.fromkeys(role_text(t, a.role, a.subject) for a in assignments if a.role != HOMEROOM or a.subject)
    return ClassRow(
        class_id=first.class_id,
        name=first.class_name,
        deleted=first.deleted,
        grade=first.grade,
        academic_year=first.academic_year,
        n_pupils=first.total_students,
        is_homeroom=any(a.is_homeroom or a.role == HOMEROOM for a in assignments),
        roles=tuple(roles),
        updated_at=first.last_synced_at,
    )


def role_text(t: Texts, role: str, subject: str | None) -> str:
    """A role with its subject, in the reader's language; one that has no translation is shown as it came."""
    name = t(f"role.{role}") if t.has(f"role.{role}") else role
    return f"{name} · {subject}" if subject else name
