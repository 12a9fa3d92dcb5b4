"""What the read model and the replica answer: the shapes of the JSON API (`docs/openapi.yaml`).

Both sources give the same structs, so that a page cannot tell them apart but by `source`.
Times are UTC; None means "not known", never a guess.
"""

from datetime import datetime
from typing import Literal

import msgspec

Source = Literal["local", "mysql"]
HOMEROOM = "homeroom"
"""Role shown for a homeroom class that has no assignment of its own."""


class ClassAssignment(msgspec.Struct, rename="camel", kw_only=True):
    """A class on a teacher's page.

    `known` is false until the class's first event came; a deleted class stays, without data.
    """

    assignment_id: str | None
    class_id: str
    class_name: str | None = None
    grade: str | None = None
    academic_year: str | None = None
    total_students: int | None = None
    school_id: str | None = None
    role: str
    subject: str | None = None
    is_homeroom: bool = False
    last_synced_at: datetime | None = None
    known: bool = False
    deleted: bool = False


class TeacherDetail(msgspec.Struct, rename="camel", kw_only=True):
    """A teacher with a page of the list of classes; `age_seconds` is an upper bound against the source topics."""

    teacher_id: str
    full_name: str
    email: str | None
    school_id: str | None
    class_assignments: list[ClassAssignment]
    """Within the page in natural order of the class names, homeroom classes first."""
    next_after: str | None = None
    """Ask for what comes after this one; null at the end."""
    total: int | None
    """Entries on all pages together; null while a long list is being counted."""
    total_at_least: int
    """Entries that were counted so far."""
    source: Source
    age_seconds: float | None = None
    stale: bool = True


class ClassDetail(msgspec.Struct, rename="camel", kw_only=True):
    """A class and where its data came from."""

    class_id: str
    class_name: str
    grade: str | None
    academic_year: str | None
    total_students: int | None
    school_id: str | None
    homeroom_teacher_id: str | None
    version: str
    """Hexadecimal text of the 29 bytes that decide between two rows."""
    event_id: str
    event_time: datetime
    sync_source: str
    """Topic of the event that the row comes from."""
    created_at: datetime
    last_synced_at: datetime
    source: Source
    age_seconds: float | None = None
    stale: bool = True


class Gone(msgspec.Struct, rename="camel", kw_only=True):
    """The thing was deleted by an event: answered with 410."""

    deleted_at: datetime
    version: str


class FoundTeacher(msgspec.Struct, rename="camel", kw_only=True, tag_field="kind", tag="teacher"):
    """A teacher in a list of names, with what tells namesakes apart."""

    teacher_id: str
    full_name: str
    school_id: str | None
    subjects: list[str]
    """Subjects, class names and years are those of the first eight entries of the list of classes."""
    class_names: list[str]
    academic_years: list[str]


class FoundClass(msgspec.Struct, rename="camel", kw_only=True, tag_field="kind", tag="class"):
    """A class in a list of names, with what tells namesakes apart."""

    class_id: str
    class_name: str
    grade: str | None
    academic_year: str | None
    total_students: int | None
    school_id: str | None
    homeroom_teacher_id: str | None
    homeroom_teacher_name: str | None
    """Null also if the teacher is not known."""


class SearchPage(msgspec.Struct, rename="camel", kw_only=True):
    """A page of a list of names: teachers before classes, each in natural order."""

    results: list[FoundTeacher | FoundClass]
    next_after: str | None
    """Ask for what comes after this one; null at the end."""
    complete: bool
    """False: the search was ended early to bound its cost; a page that is not full is no sign of the end."""
    source: Source
    age_seconds: float | None = None
    stale: bool = True


class ClassTeacherRole(msgspec.Struct, rename="camel", kw_only=True):
    """What a teacher does in a class."""

    assignment_id: str | None
    """Null for a homeroom teacher without an assignment."""
    role: str
    subject: str | None


class ClassTeacher(msgspec.Struct, rename="camel", kw_only=True):
    """A teacher of a class, with all roles in it."""

    teacher_id: str
    full_name: str | None
    """Null if the teacher is not known, or deleted."""
    deleted: bool
    is_homeroom: bool
    roles: list[ClassTeacherRole]


class ClassTeachers(msgspec.Struct, rename="camel", kw_only=True):
    """The teachers of a class: the homeroom teacher first, then in natural order of their names within the page."""

    class_id: str
    teachers: list[ClassTeacher]
    next_after: str | None
    """Ask for what comes after this assignment; null at the end."""
    source: Source
    age_seconds: float | None = None
    stale: bool = True
