"""The rows of a teacher's page: one for each class."""

from emis_streams.answers import ClassAssignment
from web.i18n import Texts
from web.teacher_page import rows_of


def an_assignment(class_id: str, role: str, subject: str | None = None, **changes: object) -> ClassAssignment:
    fields: dict[str, object] = {"assignment_id": None, "class_name": f"Lớp {class_id}", "known": True, **changes}
    return ClassAssignment(class_id=class_id, role=role, subject=subject, **fields)  # type: ignore[arg-type]


def test_all_roles_in_a_class_are_in_its_row() -> None:
    found = rows_of(
        Texts("vi"),
        [
            an_assignment("10A1", "subject-teacher", "Toán"),
            an_assignment("10A2", "assistant"),
            an_assignment("10A1", "homeroom", is_homeroom=True),
            an_assignment("10A1", "subject-teacher", "Toán"),
            an_assignment("10A1", "subject-teacher", "Tin học"),
        ],
    )
    assert [(row.class_id, row.is_homeroom, row.roles) for row in found] == [
        ("10A1", True, ("Giáo viên bộ môn · Toán", "Giáo viên bộ môn · Tin học")),
        ("10A2", False, ("Trợ giảng",)),
    ]


def test_a_role_without_a_translation_is_shown_as_it_came() -> None:
    [row] = rows_of(Texts("vi"), [an_assignment("10A1", "tổ trưởng", "Ngữ văn")])
    assert row.roles == ("tổ trưởng · Ngữ văn",)


def test_a_class_of_which_nothing_is_known_is_a_row_without_a_name() -> None:
    deleted = an_assignment("10A1", "homeroom", class_name=None, known=False, deleted=True)
    [row] = rows_of(Texts("en"), [deleted])
    assert (row.name, row.deleted, row.is_homeroom, row.roles) == (None, True, True, ())
