"""The rule that puts a teacher's page together."""

from datetime import UTC, datetime
from uuid import UUID

from emis_streams.answers import ClassAssignment, TeacherDetail
from emis_streams.rows import AssignmentRow, ClassRow, TeacherRow
from emis_streams.teacher_detail import KnownClass, assemble

SYNCED = datetime(2025, 9, 1, 7, 30, tzinfo=UTC)
TEACHER = TeacherRow("Nguyễn Thị Hoa", "hoa@truong.vn", None)


def id_of(number: int) -> str:
    return str(UUID(int=number))


ME, SOMEONE_ELSE = id_of(1), id_of(2)


def known(name: str, homeroom_teacher_id: str | None = None) -> KnownClass:
    return KnownClass(ClassRow(name, "10", "2025-2026", 41, id_of(9), homeroom_teacher_id), SYNCED)


def page(
    assignments: dict[str, AssignmentRow], classes: dict[str, KnownClass], homeroom: tuple[str, ...] = ()
) -> TeacherDetail:
    return assemble(ME, TEACHER, list(assignments.items()), classes, homeroom, "local")


def teaches(class_id: str, role: str = "subject") -> AssignmentRow:
    return AssignmentRow(class_id, role, "Toán")


def test_an_assignment_shows_the_class_with_its_data() -> None:
    detail = page({id_of(100): teaches(id_of(50))}, {id_of(50): known("10A1")})
    assert (detail.full_name, detail.email, detail.source) == ("Nguyễn Thị Hoa", "hoa@truong.vn", "local")
    assert detail.class_assignments == [
        ClassAssignment(
            assignment_id=id_of(100),
            class_id=id_of(50),
            class_name="10A1",
            grade="10",
            academic_year="2025-2026",
            total_students=41,
            school_id=id_of(9),
            role="subject",
            subject="Toán",
            is_homeroom=False,
            last_synced_at=SYNCED,
            known=True,
        )
    ]


def test_a_class_that_is_not_known_yet_is_shown_as_such_and_not_invented() -> None:
    [entry] = page({id_of(100): teaches(id_of(50))}, {}).class_assignments
    assert entry == ClassAssignment(assignment_id=id_of(100), class_id=id_of(50), role="subject", subject="Toán")
    assert (entry.known, entry.deleted, entry.class_name, entry.last_synced_at) == (False, False, None, None)


def test_a_deleted_class_stays_without_data() -> None:
    [entry] = page({id_of(100): teaches(id_of(50))}, {id_of(50): KnownClass(None, SYNCED)}).class_assignments
    assert (entry.known, entry.deleted, entry.class_name, entry.last_synced_at) == (True, True, None, SYNCED)
    assert entry.is_homeroom is False


def test_a_homeroom_class_without_assignment_has_an_entry_of_its_own() -> None:
    [entry] = page({}, {id_of(50): known("10A1", ME)}, (id_of(50),)).class_assignments
    assert (entry.role, entry.assignment_id, entry.subject, entry.is_homeroom) == ("homeroom", None, None, True)
    assert (entry.class_name, entry.known) == ("10A1", True)


def test_an_assigned_homeroom_class_is_marked_and_listed_once_per_assignment() -> None:
    assignments = {id_of(101): teaches(id_of(50)), id_of(100): teaches(id_of(50), "substitute")}
    entries = page(assignments, {id_of(50): known("10A1", ME)}, (id_of(50),)).class_assignments
    assert [(e.assignment_id, e.role, e.is_homeroom) for e in entries] == [
        (id_of(100), "substitute", True),
        (id_of(101), "subject", True),
    ]


def test_a_class_of_another_homeroom_teacher_is_not_marked() -> None:
    [entry] = page({id_of(100): teaches(id_of(50))}, {id_of(50): known("10A1", SOMEONE_ELSE)}).class_assignments
    assert entry.is_homeroom is False


def test_a_homeroom_entry_needs_a_row_that_still_names_the_teacher() -> None:
    classes = {id_of(50): known("10A1", SOMEONE_ELSE), id_of(51): KnownClass(None, SYNCED)}
    assert page({}, classes, (id_of(50), id_of(51), id_of(52))).class_assignments == []


def test_homeroom_classes_are_first_then_names_then_class_then_assignment_and_nameless_ones_are_last() -> None:
    assignments = {
        id_of(104): teaches(id_of(54)),
        id_of(103): teaches(id_of(53)),
        id_of(102): teaches(id_of(52)),
        id_of(101): teaches(id_of(51)),
        id_of(100): teaches(id_of(51)),
    }
    classes = {id_of(51): known("B"), id_of(52): known("A"), id_of(53): known("A"), id_of(60): known("AA", ME)}
    entries = page(assignments, classes, (id_of(60),)).class_assignments
    assert [(e.class_id, e.assignment_id) for e in entries] == [
        (id_of(60), None),
        (id_of(52), id_of(102)),
        (id_of(53), id_of(103)),
        (id_of(51), id_of(100)),
        (id_of(51), id_of(101)),
        (id_of(54), id_of(104)),
    ]


def test_names_are_in_natural_order() -> None:
    names = ["Lớp 6A1", "Lớp 10A2", "Lớp 10A10", "Lớp 10D1", "Lớp 10Đ1", "Lớp 12A1"]
    numbers = dict(zip((5, 3, 1, 4, 2, 0), names, strict=True))
    assignments = {id_of(100 + n): teaches(id_of(50 + n)) for n in numbers}
    classes = {id_of(50 + n): known(name) for n, name in numbers.items()}
    assert [entry.class_name for entry in page(assignments, classes).class_assignments] == names
