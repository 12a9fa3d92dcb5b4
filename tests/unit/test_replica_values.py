"""A changelog's row as the values of a row of the replica."""

from typing import Any

import pytest

from emis_streams import rows, topics
from emis_streams.errors import InvalidEvent
from emis_streams.replica.values import columns_of, time_text, values_of
from tests.replica_rows import CREATED, DELETED, UPDATED, WRITTEN_MS, class_row, id_of, row_of

WRITTEN = "2025-09-04 15:33:20.123000"


def named(subject: topics.Subject, key: str, row: bytes) -> dict[str, Any]:
    values = values_of(subject, 7, key.encode(), row, WRITTEN_MS)
    return dict(zip(columns_of(subject), values, strict=True))


def test_a_created_class() -> None:
    row = class_row(1, "10A1", homeroom=id_of(3))
    assert named(topics.CLASSES, id_of(50), row) == {
        "ClassId": id_of(50),
        "ClassName": "10A1",
        "Grade": "10",
        "AcademicYear": "2025-2026",
        "TotalStudents": 41,
        "SchoolId": id_of(9),
        "HomeroomTeacherId": id_of(3),
        "LastSyncedAt": WRITTEN,
        "SyncSource": "emis.class.created",
        "CreatedAt": "2025-09-05 07:00:01.250001",
        "UpdatedAt": None,
        "DeletedAt": None,
        "SourceEventId": id_of(1001),
        "ChangelogPartition": 7,
        "Version": row[:29].hex(),
    }


def test_an_updated_class_has_the_time_of_its_creation_and_of_its_change() -> None:
    values = named(topics.CLASSES, id_of(50), row_of(5, UPDATED, ("B", None, None, None, None, None), created=2))
    assert (values["SyncSource"], values["CreatedAt"]) == ("emis.class.updated", "2025-09-05 07:00:02.250002")
    assert (values["UpdatedAt"], values["DeletedAt"]) == ("2025-09-05 07:00:05.250005", None)


@pytest.mark.parametrize("subject", topics.SUBJECTS, ids=lambda s: s.name)
def test_a_deleted_row_has_its_times_and_its_origin_but_no_data(subject: topics.Subject) -> None:
    keys = {"ClassId": id_of(50)}
    key = id_of(50)
    if subject is topics.TEACHERS:
        keys = {"TeacherId": id_of(50)}
    if subject is topics.ASSIGNMENTS:
        key, keys = f"{id_of(50)}|{id_of(60)}", {"TeacherId": id_of(50), "AssignmentId": id_of(60)}
    values = named(subject, key, row_of(6, DELETED[subject], None, created=2))
    origin = {
        "LastSyncedAt": WRITTEN,
        "SyncSource": subject.events[-1],
        "CreatedAt": "2025-09-05 07:00:02.250002",
        "UpdatedAt": "2025-09-05 07:00:06.250006",
        "DeletedAt": "2025-09-05 07:00:06.250006",
        "SourceEventId": id_of(1006),
        "ChangelogPartition": 7,
    }
    values.pop("Version")
    assert {name: value for name, value in values.items() if value is not None} == keys | origin


def test_a_teacher_and_an_assignment() -> None:
    teacher = named(topics.TEACHERS, id_of(1), row_of(1, CREATED, ("Nguyễn Thị Hoa", "hoa@truong.vn", id_of(9))))
    assert [teacher[n] for n in ("TeacherId", "FullName", "Email", "SchoolId")] == [
        id_of(1),
        "Nguyễn Thị Hoa",
        "hoa@truong.vn",
        id_of(9),
    ]
    key = f"{id_of(1)}|{id_of(100)}"
    assignment = named(topics.ASSIGNMENTS, key, row_of(1, CREATED, (id_of(50), "subject", "Toán")))
    assert [assignment[n] for n in ("TeacherId", "AssignmentId", "ClassId", "Role", "Subject")] == [
        id_of(1),
        id_of(100),
        id_of(50),
        "subject",
        "Toán",
    ]


GOOD = class_row(1)


@pytest.mark.parametrize(
    ("subject", "key", "row"),
    [
        (topics.CLASSES, b"k", b""),
        (topics.CLASSES, b"k", GOOD[:20]),
        (topics.CLASSES, b"k", GOOD[: rows.BODY_AT - 1]),
        (topics.CLASSES, b"k", GOOD[:-1]),
        (topics.CLASSES, b"k", GOOD[: rows.BODY_AT] + b"\x01"),
        (topics.CLASSES, b"\xff", GOOD),
        (topics.CLASSES, b"k", GOOD[:8] + b"\x09" + GOOD[9:]),
        (topics.CLASSES, b"k", b"\xff" * 8 + GOOD[8:]),
        (topics.ASSIGNMENTS, b"no bar", row_of(1, CREATED, (id_of(50), "subject", None))),
    ],
    ids=[
        "empty",
        "half a version",
        "half a time of creation",
        "body cut",
        "body of another kind",
        "key no text",
        "rank of no topic",
        "year 584542",
        "key of one id",
    ],
)
def test_what_is_no_row_is_refused_with_the_reason(subject: topics.Subject, key: bytes, row: bytes) -> None:
    with pytest.raises(InvalidEvent, match=r"\w{3,}"):
        values_of(subject, 0, key, row, WRITTEN_MS)


def test_times_sort_as_text() -> None:
    assert time_text(0) == "1970-01-01 00:00:00.000000"
    assert time_text(1_757_055_600_000_001) == "2025-09-05 07:00:00.000001"
