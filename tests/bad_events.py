"""Bad events of all kinds, and what is expected of each: one table, by number of the list of bad inputs.

The numbers are those of the list of 60 kinds that tests are held to; a number has as many rows as it
has sides. Unit tests decode and fold every row, alone and among good neighbours; an integration test sends them through
a broker to a worker.
"""

import json
import pickle
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Event = dict[str, Any]

NOW = datetime.now(UTC).replace(microsecond=0)
"""Of the real clock, so that brokers that stamp the records agree which times are ahead."""
NOW_MS = int(NOW.timestamp()) * 1000
CLASS_ID = "0ba00000-0000-4000-8000-0000000000ef"
"""What the bad events are about; nothing else is."""
OTHER_ID = "0ba00000-0000-4000-8000-0000000000aa"
KEY = CLASS_ID.encode()
CREATED, UPDATED, DELETED = (f"emis.class.{what}" for what in ("created", "updated", "deleted"))


@dataclass(frozen=True)
class Record:
    key: bytes | None
    value: bytes | None
    topic: str = CREATED
    timestamp_ms: int | None = None
    """The brokers' time of it, where that matters; such a record cannot be produced to topics that stamp."""


@dataclass(frozen=True)
class Applied:
    """What is kept after all records, whatever their order."""

    rows: dict[str, Event | None]
    """By row key: the fields that matter of what is kept, None if that is the marker of a delete."""
    unknown_fields: int = 0
    """Records with fields that the contract does not know."""
    refused: str = ""
    """A part of the reason of the one record that is a dead letter, if one of several is."""


@dataclass(frozen=True)
class DeadLetter:
    reason: str
    """A part of the reason that the dead letter tells."""


@dataclass(frozen=True)
class NotForUs:
    """Never comes to the decoder."""

    why: str
    test: str | None = None
    """The test that shows it (file::name), if there is one."""


Outcome = Applied | DeadLetter | NotForUs


@dataclass(frozen=True)
class Kind:
    number: int
    name: str
    outcome: Outcome
    records: tuple[Record, ...] = field(default=(), repr=False)

    @property
    def id(self) -> str:
        return f"{self.number} {self.name}"


# -- records --------------------------------------------------------------------------------------


def a_class(seconds: float = 0, *, leave_out: str = "", **changes: Any) -> Event:
    """A good event of that many seconds ago, with changes."""
    event: Event = {
        "eventId": "0ba00000-0000-4000-8000-000000000001",
        "eventType": CREATED,
        "timestamp": (NOW - timedelta(seconds=seconds)).isoformat(),
        "classId": CLASS_ID,
        "className": "10A1",
        "totalStudents": 41,
        **changes,
    }
    return {name: value for name, value in event.items() if name != leave_out}


def json_of(event: Event) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def _is(event: Event, key: bytes | None = KEY, timestamp_ms: int | None = None) -> Record:
    return Record(key, json_of(event), str(event["eventType"]), timestamp_ms)


def _with(raw: bytes, after: bytes = b"") -> bytes:
    """A good event with these bytes before its last brace."""
    return json_of(a_class())[:-1] + b", " + raw + b"}" + after


def _named(raw: bytes) -> bytes:
    """A good event whose name is these bytes between quotes."""
    return json_of(a_class()).replace(b"10A1", raw)


def _deleted(seconds: float = 0) -> Record:
    fields = ("eventId", "eventType", "timestamp", "classId")
    event = a_class(seconds, eventType=DELETED)
    return _is({name: event[name] for name in fields})


# -- rows of the table ------------------------------------------------------------------------------


def _refused(number: int, name: str, reason: str, record: Record | bytes | None) -> Kind:
    made = record if isinstance(record, Record) else Record(KEY, record)
    return Kind(number, name, DeadLetter(reason), (made,))


def _wrong(number: int, name: str, reason: str, **changes: Any) -> Kind:
    """An event with other fields."""
    return _refused(number, name, reason, json_of(a_class(**changes)))


def _applied(number: int, name: str, says: Event, value: bytes | Record, unknown_fields: int = 0) -> Kind:
    """One record that is kept, and what the row says then."""
    made = value if isinstance(value, Record) else Record(KEY, value)
    return Kind(number, name, Applied({CLASS_ID: says}, unknown_fields), (made,))


def _kept_as_it_is(number: int, name: str, text: str) -> Kind:
    """A name that is harmless here: who shows it or stores it elsewhere escapes it."""
    return _applied(number, name, {"className": text}, json_of(a_class(className=text)))


def _story(number: int, name: str, says: Event | None, *records: Record, refused: str = "") -> Kind:
    """What several records of one class leave."""
    return Kind(number, name, Applied({CLASS_ID: says}, refused=refused), records)


def _not_for_us(number: int, name: str, why: str, test: str | None = None) -> Kind:
    return Kind(number, name, NotForUs(why, test))


_GOOD = json_of(a_class())
_SAYS: Event = {"className": "10A1", "totalStudents": 41}
_STUDENTS = b'"totalStudents": '
_MILLION_KEYS = b", ".join(b'"k%d": 0' % n for n in range(1_000_000))
_KEPT_AS_THEY_CAME = (
    "tests/integration/test_worker.py::test_records_that_cannot_be_used_are_kept_as_they_came_and_cost_nobody_else"
)
_REFUSED_BY_BROKERS = "tests/integration/test_worker.py::test_the_brokers_refuse_what_is_no_batch_and_what_is_too_large"
_TWIN_REASON = "lower-case UUID"

_BYTES = [
    _refused(1, "empty value", "truncated", b""),
    _refused(2, "null value", "null", None),
    _refused(2, "null key and null value", "null", Record(None, None)),
    _refused(3, "no key", "key None is not the classId", Record(None, _GOOD)),
    _refused(4, "empty key", "key b'' is not the classId", Record(b"", _GOOD)),
    _refused(5, "key of another class", "is not the classId", Record(OTHER_ID.encode(), _GOOD)),
    _refused(5, "key that is no text", "is not the classId", Record(b"\xff\x00", _GOOD)),
    _not_for_us(
        6,
        "wrong partition for the key",
        "a record does not say its partition to the decoder: it is used where it lies, and counted as misplaced",
        _KEPT_AS_THEY_CAME,
    ),
    _refused(7, "not JSON", "malformed", b"class 10A1 was created"),
    _refused(8, "cut off in a text", "truncated", b'{"eventId": "'),
    _refused(8, "cut off before the last brace", "truncated", _GOOD[:-1]),
    _refused(9, "garbage behind", "trailing", _GOOD + b" garbage"),
    _refused(9, "two events", "trailing", _GOOD + b",\n" + _GOOD),
    _refused(9, "garbage behind unknown fields", "trailing", _with(b'"x": 1', after=b"}")),
    _refused(10, "not UTF-8", "utf-8", _named(b"\xff\xfe")),
    _refused(10, "overlong UTF-8", "utf-8", _named(b"\xc0\x80")),
    # Nobody reads what an unknown field says: it is passed over without being looked at.
    _applied(10, "not UTF-8 in an unknown field", _SAYS, _with(b'"x": "\xff"'), unknown_fields=1),
    _refused(11, "UTF-16", "malformed", json.dumps(a_class()).encode("utf-16")),
    _refused(11, "byte order mark", "malformed", b"\xef\xbb\xbf" + _GOOD),
    _refused(12, "lone surrogate before a text", "surrogate", _named(b"\\ud800 and more text")),
    _refused(12, "lone surrogate at the end", "surrogate", _named(b"\\ud800")),
    _refused(12, "lone low surrogate", "surrogate", _named(b"\\udc00")),
    _refused(12, "surrogate in UTF-8", "utf-8", _named(b"\xed\xa0\x80")),
    _refused(13, "raw NUL in a text", "invalid character", _named(b"a\x00b")),
    _applied(13, "escaped NUL in a text", {"className": "a\x00b"}, _named(b"a\\u0000b")),
    _refused(14, "empty list", "got `array`", b"[]"),
    _refused(14, "list of an event", "got `array`", b"[" + _GOOD + b"]"),
    _refused(14, "number", "got `int`", b"1"),
    _refused(14, "text", "got `str`", b'"class"'),
    _refused(14, "JSON null", "got `null`", b"null"),
    _applied(15, "field said twice: the last counts", {"className": "B"}, _with(b'"className": "B"')),
    _refused(15, "classId said twice, the last not the key's", "is not the classId",
             _with(b'"classId": "%s"' % OTHER_ID.encode())),
    _refused(15, "eventType said twice, the last not the topic's", "eventType",
             _with(b'"eventType": "%s"' % UPDATED.encode())),
]  # fmt: skip

_FIELDS = [
    *(_wrong(16, f"no {name}", f"required field `{name}`", leave_out=name)
      for name in ("eventId", "eventType", "timestamp", "classId", "className")),
    _applied(17, "unknown fields", _SAYS, json_of(a_class(room="B12", tags=[1, {"a": None}])), unknown_fields=1),
    *(_wrong(18, f"{name} null", "null", **{name: None}) for name in ("eventId", "timestamp", "classId", "className")),
    _wrong(19, "number as text", "totalStudents", totalStudents="41"),
    _wrong(19, "word for a number", "totalStudents", totalStudents="many"),
    _wrong(20, "truth for a number", "got `bool`", totalStudents=True),
    _wrong(20, "truth for an id", "got `bool`", classId=True),
    _wrong(21, "fraction for an id", "got `float`", classId=1.5),
    _wrong(21, "half a pupil", "got `float`", totalStudents=40.5),
    _applied(21, "integer with a fraction of zero", {"className": "10A1", "totalStudents": 42},
             _with(_STUDENTS + b"42.0")),
    _applied(21, "integer with a fraction of zero and an unknown field", {"className": "10A1", "totalStudents": 42},
             _with(_STUDENTS + b'4.2e1, "x": 1'), unknown_fields=1),
    _wrong(21, "integer with a fraction of zero, negative", ">= 0", totalStudents=-1.0),
    _wrong(21, "integer with a fraction of zero, too large", "totalStudents", totalStudents=2.0**31),
    _wrong(21, "integer with a fraction of zero, beyond what floats count", "got `float`", totalStudents=2.0**60),
    *(_refused(22, name, "malformed", _with(_STUDENTS + name.encode())) for name in ("NaN", "Infinity", "-Infinity")),
    _refused(23, "1e400", "out of range", _with(_STUDENTS + b"1e400")),
    *(_wrong(24, name, "totalStudents", totalStudents=n)
      for name, n in {"2^31": 2**31, "2^53+1": 2**53 + 1, "2^63": 2**63, "2^64": 2**64}.items()),
    _refused(25, "integer of 5,000 digits", "out of range", _with(_STUDENTS + b"9" * 5_000)),
    _applied(25, "integer of 5,000 digits in an unknown field", _SAYS,
             _with(b'"x": ' + b"9" * 5_000), unknown_fields=1),
    _wrong(26, "negative id", "got `int`", classId=-1),
    _wrong(26, "negative number", ">= 0", totalStudents=-1),
    _wrong(27, "version 0: the time is 1970", "before 2000", timestamp="1970-01-01T00:00:00Z"),
    _wrong(27, "no version: the time is null", "timestamp", timestamp=None),
    _refused(28, "100,000 objects, never closed", "value: ", b'{"x":' * 100_000),
    _refused(28, "100,000 lists", "value: ", b"[" * 100_000 + b"]" * 100_000),
    _refused(28, "100,000 lists in an unknown field", "recursion", _with(b'"x": ' + b"[" * 100_000 + b"]" * 100_000)),
    _applied(29, "1,000,000 unknown fields", _SAYS, _with(_MILLION_KEYS), unknown_fields=1),
    _refused(29, "1,000,000 other fields", "required field", b"{" + _MILLION_KEYS + b"}"),
    _wrong(30, "name of 1 MiB", "<= 200", className="x" * 2**20),
    _wrong(30, "name of 1 MiB of accents to be normalised", "<= 200", className="\u0301" * 2**19),
    _applied(30, "1 MiB in an unknown field", _SAYS, json_of(a_class(x="x" * 2**20)), unknown_fields=1),
]  # fmt: skip

_TRANSPORT = [
    _not_for_us(31, "over the brokers' limit", "the brokers refuse it to its producer (max.message.bytes)",
                _REFUSED_BY_BROKERS),
    _not_for_us(32, "gzip or zstd bomb",
                "the client unpacks a batch, the decoder gets what was in it; a dead letter of it is cut",
                _KEPT_AS_THEY_CAME),
    _refused(32, "value packed by its producer", "malformed", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"),
    _not_for_us(33, "unknown or corrupt codec",
                "brokers unpack a batch to look at it, and refuse one that they cannot unpack", _REFUSED_BY_BROKERS),
    _not_for_us(34, "CRC error", "brokers check it when they are sent a batch, the client when it fetches one",
                _REFUSED_BY_BROKERS),
]  # fmt: skip

_TIMES = [
    *(_wrong(35, text, "RFC3339", timestamp=f"{text}T00:00:00Z") for text in ("0000-00-00", "2026-02-30")),
    _wrong(35, "year 9999", "ahead", timestamp="9999-12-31T23:59:59-14:00"),
    _wrong(35, "year 1", "before 2000", timestamp="0001-01-01T00:00:00+14:00"),
    _wrong(36, "leap second", "RFC3339", timestamp="2016-12-31T23:59:60Z"),
    _wrong(36, "offset of a day", "RFC3339", timestamp="2026-01-01T00:00:00+24:00"),
    _wrong(36, "time without a zone", "timezone", timestamp=NOW.replace(tzinfo=None).isoformat()),
    _applied(36, "offset of 5 h 45 min", _SAYS, json_of(a_class(timestamp="2024-02-29T05:45:00+05:45"))),
    # Not in RFC 3339 but in ISO 8601, and it can mean but one time: msgspec takes it.
    _applied(36, "offset without a colon", _SAYS, json_of(a_class(timestamp="2024-02-29T05:45:00+0545"))),
    *(_applied(36, f"no seconds, as java.time writes {zone}", _SAYS,
               json_of(a_class(timestamp=f"2024-02-29T05:45{zone}"))) for zone in ("Z", "+07:00", "+0700")),
    *(_wrong(36, text, "RFC3339", timestamp=text) for text in ("2024-02-29T05+07:00", "2024-02-29T05:45:+07:00")),
    _wrong(36, "neither seconds nor zone", "RFC3339", timestamp="2024-02-29T05:45"),
    _wrong(37, "time -1", "got `int`", timestamp=-1),
    _wrong(37, "year 2100", "ahead", timestamp="2100-01-01T00:00:00Z"),
    _wrong(37, "tomorrow", "ahead", timestamp=(NOW + timedelta(days=1)).isoformat()),
    _refused(37, "record without a time", "ahead", _is(a_class(), timestamp_ms=-1)),
    _applied(37, "record of the year 2100", _SAYS, _is(a_class(), timestamp_ms=4_102_444_800_000)),
]  # fmt: skip

_TYPES = [
    _wrong(38, "unknown event type", "eventType", eventType="emis.class.merged"),
    _wrong(39, "the type of another topic", "eventType", eventType=UPDATED),
    _refused(39, "an event of another subject", "value: ",
             json_of({"eventId": OTHER_ID, "eventType": "emis.teacher.created", "timestamp": NOW.isoformat(),
                      "teacherId": CLASS_ID, "fullName": "Lan"})),
    _applied(40, "unknown schema version", _SAYS, json_of(a_class(schemaVersion=99)), unknown_fields=1),
    _refused(41, "pickle", "malformed", pickle.dumps(a_class())),
    _refused(41, "pickle as text", "malformed", pickle.dumps(a_class(), 0)),
    _applied(42, "Faust's class field", _SAYS,
             json_of(a_class(__faust={"ns": "os.system"})), unknown_fields=1),
]  # fmt: skip

_TEXTS = [
    _kept_as_it_is(43, "emoji", "10A1 \N{SMILING FACE WITH SUNGLASSES}"),
    _kept_as_it_is(43, "right-to-left override", "10\u202eA1"),
    _kept_as_it_is(43, "zero-width space", "10\u200bA1"),
    _applied(43, "decomposed accents become composed", {"className": "Lớp"}, _named("Lo\u031b\u0301p".encode())),
    _wrong(44, "name of 201 characters", "<= 200", className="x" * 201),
    _wrong(44, "no name", ">= 1", className=""),
    *(_wrong(44, f"name that nobody sees: {text!a}", "no character that can be seen", className=text)
      for text in (" ", "\t\n", "\u00a0\u3000", "\u200b", "\ufeff", "\u200e\u200f", "\u00ad", "\u2800", "\u3164\u115f",
                   "\u0301", "\x00", "\ue000", "\U000e0041", "\ufe0f", "\u2028")),
    *(_kept_as_it_is(44, f"short name {text!a}", text) for text in ("1", "?", "…", "\U0001f60e", " A")),
    _wrong(44, "grade of 51 characters", "grade", grade="x" * 51),
    _wrong(44, "year of 21 characters", "academicYear", academicYear="x" * 21),
    _wrong(44, "name too long once composed", "after normalising", className="\u0958" * 150),
    _kept_as_it_is(44, "name of 200 characters, 800 bytes", "\N{SMILING FACE WITH SUNGLASSES}" * 200),
    _applied(45, "four bytes by escapes", {"className": "\U0001f600"}, _named(b"\\ud83d\\ude00")),
    _kept_as_it_is(46, "SQL", "'; DROP TABLE ClassInfos; --"),
    *(_kept_as_it_is(47, text, text) for text in ("<script>alert(1)</script>", '"><img onerror=alert(1)>', "{{7*7}}")),
    _kept_as_it_is(48, "escaped line end and colour", "10A1\r\nINFO \x1b[31mred"),
    _refused(48, "raw line end", "invalid character", _named(b"10A1\r\nINFO")),
    _refused(48, "raw colour", "invalid character", _named(b"\x1b[31mred")),
    *(_kept_as_it_is(49, text, text) for text in ("../../etc/passwd", "file:///etc/passwd")),
    _kept_as_it_is(50, "formula", '=cmd("calc")!A1'),
]  # fmt: skip

_HEADERS = [
    _not_for_us(51, "reply-to naming another topic", "no header is read: agents send no replies",
                _KEPT_AS_THEY_CAME),
    _not_for_us(52, "correlation id twice", "no header is read; headers of one name are all kept", _KEPT_AS_THEY_CAME),
    _not_for_us(53, "10,000 headers, header of 1 MiB",
                "no header is read; all are kept, if the record was below the limit unpacked",
                _KEPT_AS_THEY_CAME),
    _not_for_us(54, "header that is not UTF-8", "no header is read; its bytes are kept", _KEPT_AS_THEY_CAME),
    _not_for_us(54, "header name that is not UTF-8", "no header is read; the wrong bytes are kept as text",
                "tests/integration/test_header_names.py::"
                "test_records_with_such_names_come_with_the_bytes_escaped_and_those_around_them_come_once"),
    _not_for_us(55, "record of an aborted transaction", "the consumer reads what was committed",
                "tests/integration/test_engine.py::"
                "test_aborted_records_are_not_read_and_their_markers_do_not_hold_up_the_commit"),
]  # fmt: skip

_CREATE = _is(a_class(30, className="created", totalStudents=1))
_UPDATE = _is(a_class(20, eventType=UPDATED, className="updated"))
_CREATE_AGAIN = _is(a_class(5, className="again"))
_SAME_AT_ONCE = [_is(a_class(className=name)) for name in ("one", "other")]
_TWIN = CLASS_ID.upper()

_OVER_TIME = [
    # The content of the row breaks the tie, so that all orders agree; CRC-32 says which of two that is.
    _story(27, "equal version, other payload", {"className": "other"}, *_SAME_AT_ONCE),
    _story(56, "delete of what was never known", None, _deleted()),
    _story(57, "update before create", {"className": "updated"}, _UPDATE, _CREATE),
    _story(57, "update that is never created", {"className": "updated"}, _UPDATE),
    _story(58, "create after delete", {"className": "again"}, _CREATE, _deleted(10), _CREATE_AGAIN),
    _story(58, "create that comes after the delete but is older", None, _deleted(10), _CREATE),
    _story(59, "same event id, other payload, later", {"className": "later"},
           _is(a_class(9, className="earlier")), _is(a_class(3, className="later"))),
    _story(59, "same event twice", {"className": "created", "totalStudents": 1}, _CREATE, _CREATE),
    _story(60, "twin in capitals", {"className": "created"}, _CREATE,
           _is(a_class(classId=_TWIN, className="twin"), _TWIN.encode()), refused=_TWIN_REASON),
    _story(60, "twin with a space behind", {"className": "created"}, _CREATE,
           _is(a_class(classId=CLASS_ID + " ", className="twin"), KEY + b" "), refused="<= 36"),
    _story(60, "key with a space behind", {"className": "created"}, _CREATE,
           _is(a_class(className="twin"), KEY + b" "), refused="is not the classId"),
    *(_wrong(60, f"{name} in capitals", _TWIN_REASON, **{name: OTHER_ID.upper()})
      for name in ("eventId", "schoolId", "homeroomTeacherId")),
    _wrong(60, "event id that is none", _TWIN_REASON, eventId="x" * 36),
]  # fmt: skip

KINDS: list[Kind] = [*_BYTES, *_FIELDS, *_TRANSPORT, *_TIMES, *_TYPES, *_TEXTS, *_HEADERS, *_OVER_TIME]
REACHING_US = [kind for kind in KINDS if kind.records]
