"""A record of a changelog is a row, or it is left out with a reason; no bytes raise anything."""

import json
import zlib
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams import events, rows, topics
from emis_streams.changelog_rows import CHANGELOGS, EARLIEST_US, LATEST_US, MAX_ROW_BYTES, refusal, refusals
from emis_streams.fold import fold
from tests.replica_rows import DELETED, class_row, id_of, row_of

CLASSES, TEACHERS, ASSIGNMENTS, PROGRESS, ACTIVITY = (
    subject.changelog for subject in (*topics.SUBJECTS, *topics.LESSON_SUBJECTS)
)
KEY = id_of(11).encode()
PAIR = f"{id_of(1)}|{id_of(2)}".encode()
DELETE = row_of(1, DELETED[topics.CLASSES], None)
TEACHER = row_of(1, 0, ("Nguyễn Thị Ánh", None, id_of(9)))
ASSIGNMENT = row_of(1, 0, (id_of(3), "subject-teacher", "Toán"))

HONEST = [
    (CLASSES, KEY, class_row(1)),
    (CLASSES, KEY, DELETE),
    (TEACHERS, KEY, TEACHER),
    (ASSIGNMENTS, PAIR, ASSIGNMENT),
    (ASSIGNMENTS, PAIR, row_of(1, 1, None)),
    (PROGRESS, PAIR, row_of(1, 0, ("Phân số",))),
    (ACTIVITY, PAIR, row_of(1, 0, (id_of(3), "Phân số"))),
]


def format_2(row: bytes, row_format: int = 2) -> bytes:
    """The same content under an offset of its source topic (docs/decisions/0017-ties.md)."""
    version = row[:9] + b"\xff" * 8 + (77).to_bytes(8, "big") + row[25:29]
    fields = msgspec.msgpack.decode(row[37:])
    return version + row[29:37] + msgspec.msgpack.encode([*fields, bytes([row_format]) + UUID(int=5).bytes])


def flipped(row: bytes, at: int) -> bytes:
    return row[:at] + bytes([row[at] ^ 1]) + row[at + 1 :]


def with_times(time_us: int, created_us: int) -> bytes:
    row = class_row(1)
    return time_us.to_bytes(8, "big") + row[8:29] + created_us.to_bytes(8, "big") + row[37:]


@pytest.mark.parametrize(("changelog", "key", "value"), HONEST)
def test_what_workers_write_is_a_row(changelog: str, key: bytes, value: bytes) -> None:
    assert refusal(changelog, key, value) is None


@pytest.mark.parametrize(("changelog", "key", "value"), [case for case in HONEST if not rows.is_deleted(case[2])])
def test_a_row_of_format_2_is_a_row(changelog: str, key: bytes, value: bytes) -> None:
    assert refusal(changelog, key, format_2(value)) is None


JSON = b'{"eventType": "emis.class.updated", "classId": "%s", "className": "10A1"}' % KEY

NO_ROWS: list[tuple[str, bytes | None, bytes | None, str]] = [
    (CLASSES, KEY, JSON, "event time"),
    (CLASSES, KEY, b"hello", "5 bytes, a row has at least 37: b'hello'"),
    (CLASSES, b"test", class_row(1), "key b'test' is not ClassId in lower-case UUIDs"),
    (CLASSES, KEY, None, "a null value"),
    (CLASSES, None, class_row(1), "key null is not ClassId"),
    (CLASSES, b"", class_row(1), "key b''"),
    (CLASSES, KEY, b"", "0 bytes"),
    (CLASSES, KEY, b"\x00" * 37, "event time 0 µs"),
    (CLASSES, KEY, b"\xff" * 37, "event time"),
    (CLASSES, KEY, flipped(class_row(1), 40), "CRC-32"),
    (CLASSES, KEY, class_row(1)[:-1], "CRC-32"),
    (CLASSES, KEY, class_row(1) + b"x", "CRC-32"),
    (CLASSES, KEY, TEACHER, "content"),
    (TEACHERS, KEY, ASSIGNMENT, "content"),
    (ASSIGNMENTS, PAIR, class_row(1), "content"),
    (ASSIGNMENTS, KEY, ASSIGNMENT, r"is not TeacherId\|AssignmentId"),
    (CLASSES, KEY, class_row(1, rank=9), "rank 9, rows with a body have 0, 1"),
    (CLASSES, KEY, class_row(1, rank=2), "rank 2, rows with a body have 0, 1"),
    (CLASSES, KEY, row_of(1, 0, None), "rank 0, rows without a body have 2"),
    (PROGRESS, PAIR, row_of(1, 0, None), "rank 0, rows without a body have none"),
    (CLASSES, KEY, with_times(1_831_000_000_000_000_000, EARLIEST_US), "event time"),
    (CLASSES, KEY, with_times(2**64 - 1, EARLIEST_US), "event time"),
    (CLASSES, KEY, with_times(EARLIEST_US - 1, EARLIEST_US), "event time"),
    (CLASSES, KEY, with_times(LATEST_US, EARLIEST_US - 1), "time of creation"),
    (CLASSES, KEY, with_times(EARLIEST_US, LATEST_US + 1), "time of creation"),
    (CLASSES, str(UUID(int=0xABCDEF)).upper().encode(), class_row(1), "lower-case"),
    (CLASSES, PAIR, class_row(1), r"\|.*is not ClassId"),
    (CLASSES, KEY + b"\n", class_row(1), "key"),
    (CLASSES, KEY, class_row(1, "x" * 201), "content"),
    (CLASSES, KEY, class_row(1, ""), "content"),
    (CLASSES, KEY, class_row(1, students=-1), "content"),
    (CLASSES, KEY, class_row(1, students=2**31), "content"),
    (CLASSES, KEY, class_row(1, school="S-1"), "content"),
    (CLASSES, KEY, class_row(1, homeroom="A" * 36), "no lower-case UUID"),
    (CLASSES, KEY, row_of(1, 0, ("10A1",)), "content"),
    (CLASSES, KEY, b"x" * 1_000_000, f"1000000 bytes, a row has at most {MAX_ROW_BYTES}"),
    (CLASSES, b"k" * 1_000_000, class_row(1), "1000000 bytes"),
    (CLASSES, KEY, format_2(class_row(1), 3), "format 3: written by a newer release"),
    (CLASSES, KEY, flipped(format_2(class_row(1)), 40), "CRC-32"),
]


@pytest.mark.parametrize(("changelog", "key", "value", "reason"), NO_ROWS)
def test_what_is_no_row_is_refused_with_the_reason(
    changelog: str, key: bytes | None, value: bytes | None, reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(refusal(changelog, key, value))
    neighbours = [(k, v) for topic, k, v in HONEST if topic == changelog]
    records = [record(*pair) for pair in [*neighbours, (key, value), *neighbours]]
    assert [place for place, _ in refusals(changelog, records)] == [len(neighbours)]


def record(key: bytes | None, value: bytes | None) -> Any:
    return SimpleNamespace(key=key, value=value)


def test_two_bodies_that_are_rows_together_only_are_no_rows() -> None:
    """The bodies of two records, cut elsewhere: each is looked at by itself."""
    body = class_row(1)[37:]
    shifted = [body + body[:10], body[10:]]
    values = [class_row(1)[:25] + zlib.crc32(part).to_bytes(4, "big") + class_row(1)[29:37] + part for part in shifted]
    assert [place for place, _ in refusals(CLASSES, [record(KEY, value) for value in values])] == [0, 1]


def test_no_records_are_no_refusals() -> None:
    assert refusals(CLASSES, []) == []


some_keys = st.none() | st.binary(max_size=80) | st.sampled_from([KEY, PAIR])
honest_values = st.sampled_from([value for _, _, value in HONEST] + [format_2(class_row(1))])
some_values = (
    st.none()
    | st.binary(max_size=120)
    | honest_values
    | st.builds(lambda row, at: flipped(row, at % len(row)), honest_values, st.integers(0, 500))
    | st.builds(lambda row, n: row[:n], honest_values, st.integers(0, 200))
    | st.builds(lambda body: row_of(1, 0, None)[:25] + zlib.crc32(body).to_bytes(4, "big") + DELETE[29:37] + body,
                st.binary(max_size=60))
)  # fmt: skip


@given(st.sampled_from(CHANGELOGS), st.lists(st.tuples(some_keys, some_values), max_size=6))
def test_a_run_of_records_is_judged_as_each_of_them_is(
    changelog: str, pairs: list[tuple[bytes | None, bytes | None]]
) -> None:
    one_by_one = [(at, reason) for at, pair in enumerate(pairs) if (reason := refusal(changelog, *pair)) is not None]
    assert refusals(changelog, [record(*pair) for pair in pairs]) == one_by_one


@given(st.sampled_from(CHANGELOGS), some_values)
def test_whatever_is_taken_for_a_row_can_be_read(changelog: str, value: bytes | None) -> None:
    kinds: dict[str, Any] = {CLASSES: rows.ClassRow, TEACHERS: rows.TeacherRow, ASSIGNMENTS: rows.AssignmentRow}
    kinds |= {PROGRESS: rows.ProgressRow, ACTIVITY: rows.ActivityRow}
    for key in (KEY, PAIR):
        if value is not None and refusal(changelog, key, value) is None:
            rows.body_of(value, kinds[changelog])
            rows.event_time(value), rows.created_at(value), rows.event_id(value)


def fields_of(contract: events.Contract) -> st.SearchStrategy[dict[str, Any]]:
    """Events of a contract, with the longest and the oddest of what it takes."""
    ids = st.uuids().map(str)
    limits = {"class_name": 200, "full_name": 200, "title": 200, "grade": 50, "academic_year": 20, "email": 254}
    limits |= {"role": 50, "subject": 100}
    numbers = st.none() | st.sampled_from([0, 2**31 - 1])
    said: dict[str, st.SearchStrategy[Any]] = {"eventType": st.just(contract.topic), "timestamp": times}
    for name in contract.event.__struct_fields__:
        if name in limits:
            said[events.camel(name)] = st.text(st.characters(codec="utf-8"), min_size=1, max_size=limits[name])
        elif name == "total_students":
            said["totalStudents"] = numbers
        elif name not in ("event_type", "timestamp"):
            said[events.camel(name)] = ids
    return st.fixed_dictionaries(said)


times = st.datetimes(datetime(2000, 1, 1), datetime(2026, 1, 1)).map(lambda at: at.replace(tzinfo=UTC).isoformat())


@pytest.mark.parametrize("topic", list(events.CONTRACTS))
@given(st.data())
def test_every_event_that_the_contract_takes_becomes_a_row(topic: str, data: st.DataObject) -> None:
    contract = events.CONTRACTS[topic]
    event = data.draw(fields_of(contract))
    now_ms = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
    decoded = events.decode(
        contract, [event[events.camel(contract.key)].encode()], [json.dumps(event).encode()], [now_ms]
    )
    subject = next(s for s in (*topics.SUBJECTS, *topics.LESSON_SUBJECTS) if topic in s.events)
    kept = fold(decoded, dict.fromkeys(decoded.keys)).rows
    assert [refusal(subject.changelog, key, row) for key, row in kept.items()] == [None] * len(decoded.keys)


@pytest.mark.parametrize(("changelog", "key", "value"), HONEST)
def test_rows_of_both_formats_are_checked_together(
    changelog: str, key: bytes, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one takes several times as long."""
    monkeypatch.delattr("emis_streams.changelog_rows._refusal")
    both = [value] if rows.is_deleted(value) else [value, format_2(value)]
    assert refusals(changelog, [SimpleNamespace(key=key, value=row) for row in both]) == []
