"""The contract: what becomes a row, what is refused and why, and that a bad record costs no neighbour."""

import json
import random
import uuid
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emis_streams import events, rows
from emis_streams.events import CONTRACTS, Contract, Decoded, decode, is_canonical_id

NOW = datetime(2026, 9, 5, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1000
CLASS_ID = "b3da0b3b-a560-4ce7-9069-7a1f72aadbb2"
CREATED = CONTRACTS["emis.class.created"]
DELETED = CONTRACTS["emis.class.deleted"]


def an_id() -> str:
    return str(uuid.uuid4())


def a_class(**changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "eventId": "11111111-2222-4333-8444-555555555555",
        "eventType": "emis.class.created",
        "timestamp": "2026-09-05T12:00:00Z",
        "classId": CLASS_ID,
        "className": "Lớp 10A1",
        "grade": "Khối 10",
        "academicYear": "2026-2027",
        "totalStudents": 40,
        "schoolId": None,
        "homeroomTeacherId": None,
    }
    return {**event, **changes}


def json_of(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")


def without(field: str) -> bytes:
    event = a_class()
    del event[field]
    return json_of(event)


def named(raw: bytes) -> bytes:
    """A class whose name is these bytes between quotes."""
    return json_of(a_class()).replace("Lớp 10A1".encode(), raw)


def with_raw(raw: bytes) -> bytes:
    """A class with these bytes before the last brace."""
    return json_of(a_class())[:-1] + b", " + raw + b"}"


def decode_one(
    value: bytes | None, key: bytes | None = CLASS_ID.encode(), contract: Contract = CREATED, offset: int = 0
) -> Decoded:
    return decode(contract, [key], [value], [NOW_MS], offsets=[offset])


def refusal(decoded: Decoded) -> str:
    ((place, reason),) = decoded.refused
    assert (place, decoded.keys, decoded.versions, decoded.bodies) == (0, [], [], [])
    return str(reason)


REFUSED: dict[str, tuple[bytes | None, str]] = {
    "null value": (None, "value is null"),
    "empty value": (b"", "truncated"),
    "not JSON": (b"nope", "malformed"),
    "cut short": (json_of(a_class())[:-1], "truncated"),
    "two objects": (json_of(a_class()) * 2, "trailing characters"),
    "a list": (b"[" + json_of(a_class()) + b"]", "Expected `object`, got `array`"),
    "a list of nothing": (b"[]", "Expected `object`, got `array`"),
    "a number": (b"1", "Expected `object`, got `int`"),
    "JSON null": (b"null", "Expected `object`, got `null`"),
    "UTF-16": (json.dumps(a_class()).encode("utf-16"), "malformed"),
    "with a byte order mark": (b"\xef\xbb\xbf" + json_of(a_class()), "malformed"),
    "invalid UTF-8": (named(b"\xff\xfe"), "utf-8"),
    "overlong UTF-8": (named(b"\xc0\x80"), "utf-8"),
    "surrogate in UTF-8": (named(b"\xed\xa0\x80"), "utf-8"),
    "lone high surrogate escaped": (named(b"\\ud800 and more text"), "surrogate"),
    "lone high surrogate at the end": (named(b"\\ud800"), "surrogate"),
    "lone low surrogate escaped": (named(b"\\udc00"), "surrogate"),
    "raw line break in a text": (named(b"a\nb"), "invalid character"),
    "raw NUL in a text": (named(b"a\x00b"), "invalid character"),
    "deep lists": (b"[" * 100_000, "value: "),
    "deep objects": (b'{"a":' * 100_000, "value: "),
    "deep unknown field": (with_raw(b'"x": ' + b"[" * 50_000 + b"]" * 50_000), "recursion"),
    "NaN": (with_raw(b'"totalStudents": NaN'), "malformed"),
    "Infinity": (with_raw(b'"totalStudents": Infinity'), "malformed"),
    "huge int": (json_of(a_class(totalStudents=10**40)), "totalStudents"),
    "more pupils than a column holds": (json_of(a_class(totalStudents=2**31)), "<= 2147483647"),
    "fewer pupils than none": (json_of(a_class(totalStudents=-1)), ">= 0"),
    "half a pupil": (json_of(a_class(totalStudents=1.5)), "got `float`"),
    "pupils as text": (json_of(a_class(totalStudents="40")), "got `str`"),
    "pupils as truth": (json_of(a_class(totalStudents=True)), "got `bool`"),
    "name as number": (json_of(a_class(className=10)), "got `int`"),
    "name null": (json_of(a_class(className=None)), "got `null`"),
    "name empty": (json_of(a_class(className="")), ">= 1"),
    "name too long": (json_of(a_class(className="x" * 201)), "<= 200"),
    "name too long once normalised": (json_of(a_class(className="\u0958" * 150)), "after normalising"),
    "grade too long": (json_of(a_class(grade="x" * 51)), "grade"),
    "year too long": (json_of(a_class(academicYear="x" * 21)), "academicYear"),
    "no eventId": (without("eventId"), "required field `eventId`"),
    "no eventType": (without("eventType"), "required field `eventType`"),
    "no timestamp": (without("timestamp"), "required field `timestamp`"),
    "no classId": (without("classId"), "required field `classId`"),
    "no className": (without("className"), "required field `className`"),
    "snake case": (json_of({"event_id": an_id()}), "required field"),
    "type of another topic": (json_of(a_class(eventType="emis.class.updated")), "eventType"),
    "type null": (json_of(a_class(eventType=None)), "eventType"),
    "eventId upper case": (json_of(a_class(eventId=an_id()[:-1] + "A")), "eventId: "),
    "eventId without dashes": (json_of(a_class(eventId="0" * 36)), "eventId: "),
    "schoolId empty": (json_of(a_class(schoolId="")), "schoolId"),
    "schoolId no hexadecimal": (json_of(a_class(schoolId="g" + an_id()[1:])), "schoolId: "),
    "homeroomTeacherId not ASCII": (json_of(a_class(homeroomTeacherId="é" * 36)), "homeroomTeacherId: "),
    "classId with a line break": (json_of(a_class(classId=CLASS_ID + "\n")), "classId"),
    "another classId said last": (with_raw(b'"classId": "%s"' % an_id().encode()), "is not the classId"),
    "year 1999": (json_of(a_class(timestamp="1999-12-31T23:59:59.999999Z")), "before 2000"),
    "year 1": (json_of(a_class(timestamp="0001-01-01T00:00:00Z")), "before 2000"),
    "year 1, eastern zone": (json_of(a_class(timestamp="0001-01-01T00:00:00+23:59")), "before 2000"),
    "year 9999": (json_of(a_class(timestamp="9999-12-31T23:59:59Z")), "ahead"),
    "year 9999, western zone": (json_of(a_class(timestamp="9999-12-31T23:59:59.999999-23:59")), "ahead"),
    "eleven minutes ahead": (json_of(a_class(timestamp="2026-09-05T12:11:00Z")), "660 s ahead"),
    "no zone": (json_of(a_class(timestamp="2026-09-05T12:00:00")), "timezone"),
    "a date": (json_of(a_class(timestamp="2026-09-05")), "RFC3339"),
    "31 February": (json_of(a_class(timestamp="2026-02-31T12:00:00Z")), "RFC3339"),
    "seconds since 1970": (json_of(a_class(timestamp=1_788_609_600)), "got `int`"),
    "time null": (json_of(a_class(timestamp=None)), "got `null`"),
}


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_the_contract_forbids_is_refused_with_the_reason(value: bytes | None, reason: str) -> None:
    assert reason in refusal(decode_one(value))


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED)
def test_neighbours_of_a_refused_record_are_kept(value: bytes | None, reason: str) -> None:
    first, last = an_id(), an_id()
    values = [json_of(a_class(classId=first)), value, json_of(a_class(classId=last))]
    decoded = decode(CREATED, [first.encode(), CLASS_ID.encode(), last.encode()], values, [NOW_MS] * 3)
    assert decoded.keys == [first.encode(), last.encode()]
    assert [place for place, _reason in decoded.refused] == [1]


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"\xff",
        CLASS_ID.upper().encode(),
        pytest.param(an_id().encode(), id="of another class"),
        f'"{CLASS_ID}"'.encode(),
        CLASS_ID.encode() + b" ",
    ],
)
def test_a_key_that_is_not_the_class_id_is_refused(key: bytes | None) -> None:
    assert "is not the classId of the event" in refusal(decode_one(json_of(a_class()), key))


def test_upper_case_ids_are_refused_even_when_the_key_agrees() -> None:
    upper = CLASS_ID.upper()
    assert "lower-case UUID" in refusal(decode_one(json_of(a_class(classId=upper)), upper.encode()))


ACCEPTED: dict[str, bytes] = {
    "only what is required": json_of({k: v for k, v in a_class().items() if v is not None and k not in ("grade",)}),
    "spaces around": b" \n" + json_of(a_class()) + b"\t\n",
    "the longest name": json_of(a_class(className="ế" * 200)),
    "a bracket in a name": json_of(a_class(className="Lớp [10] A1")),
    "what looks like a joint in a name": json_of(a_class(className="},{ },\\n{")),
    "escaped NUL": named(b"a\\u0000b"),
    "escaped line break": named(b"a\\nb"),
    "emoji by surrogates": named(b"\\ud83d\\ude00"),
    "zero pupils": json_of(a_class(totalStudents=0)),
    "most pupils": json_of(a_class(totalStudents=2**31 - 1)),
    "of the year 2000": json_of(a_class(timestamp="2000-01-01T00:00:00Z")),
    "ten minutes ahead": json_of(a_class(timestamp="2026-09-05T12:10:00Z")),
    "a zone": json_of(a_class(timestamp="2026-09-05T19:00:00+07:00")),
    "nanoseconds": json_of(a_class(timestamp="2026-09-05T12:00:00.123456789Z")),
}


@pytest.mark.parametrize("value", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_contract_allows_becomes_a_row(value: bytes) -> None:
    decoded = decode_one(value)
    assert decoded.refused == []
    assert decoded.keys == [CLASS_ID.encode()]


def test_the_row_says_what_the_event_said() -> None:
    school, teacher = an_id(), an_id()
    decoded = decode_one(json_of(a_class(schoolId=school, homeroomTeacherId=teacher)))
    (version,) = decoded.versions
    row = rows.pack(version, events.created_of(version), decoded.bodies[0])
    assert rows.body_of(row, rows.ClassRow) == rows.ClassRow("Lớp 10A1", "Khối 10", "2026-2027", 40, school, teacher)
    assert rows.event_time(row) == rows.created_at(row) == NOW
    assert rows.event_id(row) == "11111111-2222-4333-8444-555555555555"
    assert rows.event_rank(row) == 0
    assert crc32(rows.content_of(row)).to_bytes(4, "big") == rows.content_hash(row)
    assert not rows.is_deleted(row)


def test_microseconds_are_kept_exactly() -> None:
    for us in (1, 123_457, 999_999):
        (version,) = decode_one(json_of(a_class(timestamp=f"2026-09-05T12:00:00.{us:06}Z"))).versions
        assert rows.event_time(version) == NOW.replace(microsecond=us)


def test_zones_do_not_count() -> None:
    east = decode_one(json_of(a_class(timestamp="2026-09-05T19:00:00+07:00")))
    assert east.versions == decode_one(json_of(a_class())).versions


@pytest.mark.parametrize("escaped", [True, False])
def test_names_are_normalised_to_nfc(escaped: bool) -> None:
    decomposed = json.dumps(a_class(className="Lo\u031b\u0301p 10A1"), ensure_ascii=escaped).encode()
    assert decode_one(decomposed).bodies == decode_one(json_of(a_class())).bodies


def test_unknown_fields_are_ignored_and_counted() -> None:
    known, unknown = an_id(), an_id()
    values = [json_of(a_class(classId=known)), json_of(a_class(classId=unknown, room="B12", tags=[1, {"a": None}]))]
    decoded = decode(CREATED, [known.encode(), unknown.encode()], values, [NOW_MS] * 2)
    assert (decoded.refused, decoded.unknown_fields) == ([], 1)
    assert decoded.bodies[0] == decoded.bodies[1]


def test_an_empty_slice_is_nothing() -> None:
    assert decode(CREATED, [], [], []) == Decoded()


def test_the_allowed_time_ahead_is_of_each_records_own_time() -> None:
    ids = [an_id(), an_id()]
    values = [json_of(a_class(classId=i, timestamp="2026-09-05T13:00:00Z")) for i in ids]
    decoded = decode(CREATED, [i.encode() for i in ids], values, [NOW_MS, NOW_MS + 3_600_000])
    assert [place for place, _reason in decoded.refused] == [0]
    assert decode(CREATED, [i.encode() for i in ids], values, [NOW_MS] * 2, max_ahead_seconds=3_600).refused == []


def deleted(class_id: str, tail: bytes = b"}") -> bytes:
    event = a_class(classId=class_id, eventType="emis.class.deleted", className=None)
    return json_of(event)[:-1] + tail


SHIFTED: dict[str, tuple[Contract, list[bytes]]] = {
    "an object over two values": (CREATED, [b'{"x":1', b'"y":2}']),
    "a whole event over two values": (CREATED, [json_of(a_class())[:40], json_of(a_class())[40:]]),
    "two events in one value, none in the next": (CREATED, [json_of(a_class()) + b"," + json_of(a_class()), b""]),
    "a list in an ignored field over two values, made up for by two events in one": (
        DELETED,
        [deleted(CLASS_ID, b', "x": [{}'), b"{}]}," + deleted(CLASS_ID), deleted(CLASS_ID)],
    ),
    "one event over two values, made up for by two in one": (
        CREATED,
        [json_of(a_class()) + b"," + json_of(a_class()), *json_of(a_class()).split(b", ", 1)],
    ),
    "a text over two values": (DELETED, [deleted(CLASS_ID, b', "x": "{}'), b'{}"}', deleted(CLASS_ID)]),
    "a closing bracket": (CREATED, [json_of(a_class()) + b"]", b"[" + json_of(a_class())]),
}


@pytest.mark.parametrize(("contract", "values"), SHIFTED.values(), ids=SHIFTED)
def test_values_that_only_make_sense_together_are_refused(contract: Contract, values: list[bytes]) -> None:
    keys = [CLASS_ID.encode()] * len(values)
    assert decode(contract, keys, values, [NOW_MS] * len(values)) == one_by_one(contract, keys, values)
    assert [place for place, _reason in decode(contract, keys, values, [NOW_MS] * len(values)).refused][:2] == [0, 1]


def one_by_one(contract: Contract, keys: list[Any], values: list[Any]) -> Decoded:
    """What each record gives by itself."""
    whole = Decoded()
    for place, (key, value) in enumerate(zip(keys, values, strict=True)):
        one = decode(contract, [key], [value], [NOW_MS])
        whole.keys += one.keys
        whole.versions += one.versions
        whole.bodies += one.bodies
        whole.unknown_fields += one.unknown_fields
        whole.refused += [(place, _Reason(reason)) for _zero, reason in one.refused]
    return whole


class _Reason(events.InvalidEvent):
    """Equal to another one that says the same."""

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    __hash__ = events.InvalidEvent.__hash__


_pieces = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b"\n", b'"', b"},\n{", b"[{", b"}]", b"\xff", b'"x":', b"null"]
)


@st.composite
def _values(draw: st.DrawFn) -> tuple[list[bytes | None], list[bytes | None]]:
    """Keys and values of a slice: good events, events of the table above, and events torn and glued."""
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    bad = [value for value, _reason in REFUSED.values() if value is None or len(value) < 1_000]
    for _ in range(draw(st.integers(0, 6))):
        value = draw(st.sampled_from([json_of(a_class()), deleted(CLASS_ID), *ACCEPTED.values(), *bad]))
        if value is not None and draw(st.booleans()):
            at = draw(st.integers(0, len(value)))
            value = draw(st.sampled_from([value[:at], value[at:], value[:at] + draw(_pieces) + value[at:]]))
        values.append(value)
        keys.append(draw(st.sampled_from([CLASS_ID.encode(), CLASS_ID.encode(), None, b"", b"other"])))
    return keys, values


@settings(max_examples=400)
@given(slice_=_values(), contract=st.sampled_from([CREATED, DELETED]))
def test_a_slice_gives_what_its_records_give_one_by_one(
    slice_: tuple[list[bytes | None], list[bytes | None]], contract: Contract
) -> None:
    keys, values = slice_
    assert decode(contract, keys, values, [NOW_MS] * len(values)) == one_by_one(contract, keys, values)


@pytest.fixture
def never_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: Any) -> Decoded:
        raise AssertionError("each record was looked at by itself")

    monkeypatch.setattr(events, "_decode_one_by_one", never)


@pytest.mark.usefixtures("never_one_by_one")
def test_a_good_slice_is_decoded_with_one_call() -> None:
    ids = [an_id() for _ in range(500)]
    decoded = decode(CREATED, [i.encode() for i in ids], [json_of(a_class(classId=i)) for i in ids], [NOW_MS] * 500)
    assert decoded.keys == [i.encode() for i in ids]


EXAMPLES: dict[str, tuple[dict[str, Any], str]] = {
    "emis.class.deleted": ({"classId": "{id}"}, "{id}"),
    "emis.teacher.created": ({"teacherId": "{id}", "fullName": "Nguyễn Thị Lan", "email": None}, "{id}"),
    "emis.teacher.updated": ({"teacherId": "{id}", "fullName": "Lan", "email": "lan@example.edu.vn"}, "{id}"),
    "emis.teacher.deleted": ({"teacherId": "{id}"}, "{id}"),
    "emis.assignment.created": (
        {"teacherId": "{id}", "assignmentId": CLASS_ID, "classId": CLASS_ID, "role": "subject-teacher"},
        "{id}|" + CLASS_ID,
    ),
    "emis.assignment.deleted": ({"teacherId": "{id}", "assignmentId": CLASS_ID}, "{id}|" + CLASS_ID),
}


def example(topic: str, own_id: str) -> dict[str, Any]:
    fields, _row_key = EXAMPLES[topic]
    event = {"eventId": an_id(), "eventType": topic, "timestamp": NOW.isoformat()}
    return event | {name: own_id if value == "{id}" else value for name, value in fields.items()}


@pytest.mark.parametrize("topic", EXAMPLES)
@pytest.mark.usefixtures("never_one_by_one")
def test_each_other_topic_has_its_contract(topic: str) -> None:
    _fields, row_key = EXAMPLES[topic]
    own = an_id()
    decoded = decode_one(json_of(example(topic, own)), own.encode(), CONTRACTS[topic])
    assert decoded.refused == []
    assert decoded.keys == [row_key.replace("{id}", own).encode()]
    assert (decoded.bodies == [b""]) == topic.endswith(".deleted")


@pytest.mark.parametrize("topic", EXAMPLES)
def test_a_key_that_is_not_the_one_of_the_event_is_refused(topic: str) -> None:
    value = json_of(example(topic, an_id()))
    assert "is not the" in refusal(decode_one(value, an_id().encode(), CONTRACTS[topic]))


def test_a_delete_may_say_anything_else() -> None:
    value = deleted(CLASS_ID, b', "x": {"y": [1, 2]}, "totalStudents": "many"}')
    decoded = decode_one(value, contract=DELETED)
    assert (decoded.refused, decoded.bodies) == ([], [b""])


def version_of(contract: Contract, offset: int = 0, **changes: Any) -> bytes:
    event = a_class(eventType=contract.topic, **changes)
    return decode_one(json_of(event), contract=contract, offset=offset).versions[0]


def test_versions_are_ordered_by_time_then_rank_then_place_in_the_log() -> None:
    """Event ids are random: that of what came later is as often the lower one."""
    updated = CONTRACTS["emis.class.updated"]
    low, high = "00000000-0000-4000-8000-000000000000", "ffffffff-ffff-4fff-8fff-ffffffffffff"
    ordered = [
        version_of(CREATED, 7, eventId=high),
        version_of(CREATED, 300, eventId=low),
        version_of(updated, 2, eventId=high),
        version_of(updated, 2**40, eventId=low),
        version_of(DELETED, 1, eventId=low),
        version_of(DELETED, 0, eventId=high),
        version_of(CREATED, 1, eventId=low, timestamp="2026-09-05T12:00:00.000001Z"),
    ]
    shuffled = random.Random(4).sample(ordered, len(ordered))
    assert sorted(shuffled) == ordered
    assert {len(version) for version in ordered} == {rows.VERSION_BYTES}
    assert version_of(CREATED, className="A") != version_of(CREATED, className="B")


def test_an_equal_version_wins_so_that_a_replay_repairs() -> None:
    row = rows.pack(version_of(CREATED), b"\0" * 8, b"body")
    higher = rows.pack(version_of(CREATED, timestamp="2026-09-05T12:00:01Z"), b"\0" * 8, b"")
    again = rows.pack(version_of(CREATED), b"\0" * 8, b"body")
    assert rows.merged(row, None) is row
    assert rows.merged(again, row) is again
    assert rows.merged(higher, row) is rows.merged(row, higher) is higher


def test_two_rows_are_merged_to_the_higher_version_and_the_earlier_time_of_creation() -> None:
    version, higher = version_of(CREATED), version_of(CREATED, timestamp="2026-09-05T12:00:01Z")
    early, late = b"\0" * 7 + b"\1", b"\0" * 7 + b"\2"
    row, deleted = rows.pack(version, early, b"body"), rows.pack(higher, late, b"")
    assert rows.merged(row, None) is row
    assert rows.merged(row, deleted) == rows.merged(deleted, row) == rows.pack(higher, early, b"")
    assert rows.merged(rows.pack(version, late, b"body"), row) == row


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (CLASS_ID, True),
        (CLASS_ID.upper(), False),
        (CLASS_ID[:-1], False),
        (CLASS_ID + "0", False),
        (CLASS_ID.replace("-", "0"), False),
        ("é" * 36, False),
        ("", False),
        ("{" + CLASS_ID[1:], False),
    ],
)
def test_ids_are_lower_case_uuids_of_36_characters(text: str, is_one: bool) -> None:
    assert is_canonical_id(text) is is_one
