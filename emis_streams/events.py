"""The contract of the events: one struct per event, and how a slice of records becomes rows.

`decode` takes what was fetched of one partition and gives keys, versions and bodies for the table,
and says which records can never be used. A slice is decoded with one call of msgspec; whenever
anything in it is not as it should be, the whole slice is decoded again record by record, so that a
bad record never costs its neighbours (design, 7). `docs/asyncapi.yaml` says the same in the
language of AsyncAPI; a test holds the two together.
"""

import struct
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zlib import crc32

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

from emis_streams import names, rows, topics
from emis_streams.errors import InvalidEvent
from emis_streams.json_spellings import respelled

Id = Annotated[str, Meta(min_length=36, max_length=36)]
"""A canonical lower-case UUID; that it is one is checked for the slice as a whole."""
Time = Annotated[datetime, Meta(tz=True)]
"""RFC 3339 with a zone."""

EARLIEST_US = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
MAX_AHEAD_SECONDS = 600
"""How far an event's time may be ahead of the broker's, else it would block its key for ever."""


class Event(msgspec.Struct, rename="camel", gc=False, forbid_unknown_fields=True):
    """What all events have."""

    event_id: Id
    timestamp: Time


class ClassFields(Event):
    """What `emis.class.created` and `.updated` say of a class."""

    class_id: Id
    class_name: Annotated[str, Meta(min_length=1, max_length=200)]
    grade: Annotated[str, Meta(max_length=50)] | None = None
    academic_year: Annotated[str, Meta(max_length=20)] | None = None
    total_students: Annotated[int, Meta(ge=0, le=2_147_483_647)] | None = None
    school_id: Id | None = None
    homeroom_teacher_id: Id | None = None


class ClassCreated(ClassFields, kw_only=True):
    event_type: Literal["emis.class.created"]


class ClassUpdated(ClassFields, kw_only=True):
    event_type: Literal["emis.class.updated"]


class ClassDeleted(Event, kw_only=True, forbid_unknown_fields=False):
    """The id is enough: whatever else the event says is ignored."""

    event_type: Literal["emis.class.deleted"]
    class_id: Id


class TeacherFields(Event):
    """What `emis.teacher.created` and `.updated` say of a teacher."""

    teacher_id: Id
    full_name: Annotated[str, Meta(min_length=1, max_length=200)]
    email: Annotated[str, Meta(max_length=254)] | None = None
    school_id: Id | None = None


class TeacherCreated(TeacherFields, kw_only=True):
    event_type: Literal["emis.teacher.created"]


class TeacherUpdated(TeacherFields, kw_only=True):
    event_type: Literal["emis.teacher.updated"]


class TeacherDeleted(Event, kw_only=True, forbid_unknown_fields=False):
    event_type: Literal["emis.teacher.deleted"]
    teacher_id: Id


class AssignmentFields(Event):
    """A teacher teaches a class."""

    assignment_id: Id
    teacher_id: Id
    class_id: Id
    role: Annotated[str, Meta(min_length=1, max_length=50)]
    subject: Annotated[str, Meta(max_length=100)] | None = None


class AssignmentCreated(AssignmentFields, kw_only=True):
    event_type: Literal["emis.assignment.created"]


class AssignmentDeleted(Event, kw_only=True, forbid_unknown_fields=False):
    event_type: Literal["emis.assignment.deleted"]
    assignment_id: Id
    teacher_id: Id


class LessonFields(Event):
    """What the lesson service tells of a lesson that a user has now."""

    user_id: Id
    lesson_id: Id
    title: Annotated[str, Meta(min_length=1, max_length=200)]


class LessonAvailable(LessonFields, kw_only=True):
    event_type: Literal["emis.lesson-available"]


class UserActivity(LessonFields, kw_only=True):
    event_type: Literal["emis.user-activity"]


_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class Contract:
    """What the records of one topic must look like, and which row comes of them."""

    topic: str
    event: type[Event]
    rank: int
    key: str
    """The field that the record's key must equal."""
    ids: tuple[str, ...]
    optional_ids: tuple[str, ...]
    texts: tuple[str, ...]
    body: tuple[str, ...]
    """The fields that the row keeps, in this order; none: a delete leaves only its version."""
    names: tuple[str, ...] = ()
    """Of the texts, those in which a person must see something."""
    integers: tuple[str, ...] = ()
    row_key_suffix: str | None = None
    """The field that follows `key` and a bar in the row's key."""
    together: msgspec.json.Decoder[Any] = field(init=False, compare=False, repr=False)
    alone: msgspec.json.Decoder[Any] = field(init=False, compare=False, repr=False)
    lenient: msgspec.json.Decoder[Any] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        lenient = msgspec.defstruct(
            self.event.__name__, [], bases=(self.event,), forbid_unknown_fields=False, kw_only=True
        )
        object.__setattr__(self, "together", msgspec.json.Decoder(list[self.event]))  # type: ignore[name-defined]
        object.__setattr__(self, "alone", msgspec.json.Decoder(self.event))
        object.__setattr__(self, "lenient", msgspec.json.Decoder(lenient))


_CLASS_TEXTS = ("class_name", "grade", "academic_year")
_CLASS = {
    "key": "class_id",
    "ids": ("event_id", "class_id"),
    "optional_ids": ("school_id", "homeroom_teacher_id"),
    "texts": _CLASS_TEXTS,
    "names": ("class_name",),
    "integers": ("total_students",),
    "body": ("class_name", "grade", "academic_year", "total_students", "school_id", "homeroom_teacher_id"),
}
_TEACHER = {
    "key": "teacher_id",
    "ids": ("event_id", "teacher_id"),
    "optional_ids": ("school_id",),
    "texts": ("full_name", "email"),
    "names": ("full_name",),
    "body": ("full_name", "email", "school_id"),
}
_ASSIGNMENT = {
    "key": "teacher_id",
    "ids": ("event_id", "assignment_id", "teacher_id", "class_id"),
    "optional_ids": (),
    "texts": ("role", "subject"),
    "names": ("role",),
    "body": ("class_id", "role", "subject"),
    "row_key_suffix": "assignment_id",
}

_PROGRESS = {
    "key": "user_id",
    "ids": ("event_id", "user_id", "lesson_id"),
    "optional_ids": (),
    "texts": ("title",),
    "names": ("title",),
    "body": ("title",),
    "row_key_suffix": "lesson_id",
}
_ACTIVITY = {**_PROGRESS, "body": ("lesson_id", "title"), "row_key_suffix": "event_id"}


def _contracts() -> dict[str, Contract]:
    deleted: dict[str, Any] = {"optional_ids": (), "texts": (), "names": (), "integers": (), "body": ()}
    assignment_ids = ("event_id", "assignment_id", "teacher_id")
    declared: list[tuple[topics.Subject, tuple[tuple[type[Event], dict[str, Any]], ...]]] = [
        (topics.CLASSES, ((ClassCreated, _CLASS), (ClassUpdated, _CLASS), (ClassDeleted, {**_CLASS, **deleted}))),
        (
            topics.TEACHERS,
            ((TeacherCreated, _TEACHER), (TeacherUpdated, _TEACHER), (TeacherDeleted, {**_TEACHER, **deleted})),
        ),
        (
            topics.ASSIGNMENTS,
            (
                (AssignmentCreated, _ASSIGNMENT),
                (AssignmentDeleted, {**_ASSIGNMENT, **deleted, "ids": assignment_ids}),
            ),
        ),
        (topics.PROGRESS, ((LessonAvailable, _PROGRESS),)),
        (topics.ACTIVITY, ((UserActivity, _ACTIVITY),)),
    ]
    return {
        topic: Contract(topic=topic, event=event, rank=rank, **how)
        for subject, events in declared
        for rank, (topic, (event, how)) in enumerate(zip(subject.events, events, strict=True))
    }


CONTRACTS = _contracts()
"""The contract of each source topic, by the topic's name."""


@dataclass
class Decoded:
    """What a slice of records says, in the order of the records that can be used.

    `keys` are row keys, `versions` 29 bytes each, `bodies` MessagePack with the trailer of format 2 (empty: deleted);
    `refused` has the place of each record that cannot be used, with the reason.
    """

    keys: list[bytes] = field(default_factory=list)
    versions: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    refused: list[tuple[int, InvalidEvent]] = field(default_factory=list)
    unknown_fields: int = 0
    """Records that had fields which the contract does not know; they were ignored."""


class _NotAlike(Exception):
    """Something in the slice is not as in most slices: look at each record by itself."""


def decode(
    contract: Contract,
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    timestamps_ms: Sequence[int],
    max_ahead_seconds: int = MAX_AHEAD_SECONDS,
    *,
    offsets: Sequence[int] | None = None,
) -> Decoded:
    """Rows-to-be of the records of one slice; `timestamps_ms` are the brokers' times of them.

    `offsets` on the topic decide between events of equal time. None: the records are not in a log yet, so that the
    versions hold offset 0; time, rank and CRC-32 are as they will be.
    """
    offsets = [0] * len(values) if offsets is None else offsets
    try:
        return _decode_together(contract, keys, values, timestamps_ms, offsets, max_ahead_seconds)
    except Exception:  # noqa: BLE001 - whatever it is, it is one record's: each is looked at by itself
        return _decode_one_by_one(contract, keys, values, timestamps_ms, offsets, max_ahead_seconds)


def _decode_together(
    contract: Contract,
    keys: Sequence[Any],
    values: Sequence[Any],
    timestamps_ms: Sequence[int],
    offsets: Sequence[int],
    max_ahead_seconds: int,
) -> Decoded:
    columns = _columns(contract, _parse_list(contract.together, values))
    if "|".join(columns[contract.key]).encode() != b"|".join(keys):
        raise _NotAlike
    if not _are_canonical(_known(columns, (*contract.ids, *contract.optional_ids))):
        raise _NotAlike
    if not unicodedata.is_normalized("NFC", "|".join(_known(columns, contract.texts))):
        raise _NotAlike
    if names.may_have_invisible(_known(columns, contract.names)):
        raise _NotAlike
    times_us = [rows.to_us(time) for time in columns["timestamp"]]
    if min(times_us) < EARLIEST_US or max(times_us) > (min(timestamps_ms) + max_ahead_seconds * 1000) * 1000:
        raise _NotAlike
    return _decoded(contract, columns, times_us, offsets, keys)


Columns = dict[str, tuple[Any, ...]]
"""Of some events: the values of each field. A third less time than asking each event for each field."""


def _columns(contract: Contract, events: Sequence[Any]) -> Columns:
    return dict(zip(contract.event.__struct_fields__, zip(*map(astuple, events), strict=True), strict=True))


def _known(columns: Columns, fields: Iterable[str]) -> list[Any]:
    """All values of these fields that are not null."""
    found: list[Any] = []
    for field_name in fields:
        found += [value for value in columns[field_name] if value is not None]
    return found


def _parse_list(decoder: msgspec.json.Decoder[Any], values: Sequence[Any]) -> list[Any]:
    """All values with one call.

    The values are joined with a raw line break, which no JSON string may hold; where there is no
    bracket there is no list; then as many `},\\n{` as there are joints prove that every value is
    exactly one object, and nothing has shifted from one into the next.
    """
    joined = b",\n".join(values)
    if b"[" in joined or joined.count(b"},\n{") != len(values) - 1:
        raise _NotAlike
    events: list[Any] = decoder.decode(b"[" + joined + b"]")
    if len(events) != len(values) or joined[:1] != b"{" or joined[-1:] != b"}":
        raise _NotAlike
    return events


_SHAPE = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_UUID_SHAPE = b"00000000-0000-0000-0000-000000000000|"


def _are_canonical(ids: Sequence[str]) -> bool:
    """Whether all of them are lower-case UUIDs of 36 characters: one comparison for the slice."""
    return "|".join(ids).encode().translate(_SHAPE) == (_UUID_SHAPE * len(ids))[:-1]


def is_canonical_id(text: str) -> bool:
    """Whether a text is a lower-case UUID of 36 characters, as all ids here are."""
    return len(text) == 36 and text.isascii() and _are_canonical([text])


_pack_version = struct.Struct(">QB16sL").pack
_pack_version_2 = struct.Struct(">QBQQL").pack
_ABOVE_FORMAT_1 = 2**64 - 1
_CONTENT = slice(1, -rows.TRAILER_BYTES)
"""Of a body: the fields, without the array's header and the trailer."""


def _decoded(
    contract: Contract, columns: Columns, times_us: Sequence[int], offsets: Sequence[int], keys: Sequence[bytes]
) -> Decoded:
    row_keys = _row_keys(contract, columns, keys)
    trailers = _trailers(columns["event_id"])
    if not contract.body:
        return Decoded(row_keys, _marker_versions(contract.rank, times_us, trailers), [b""] * len(trailers))
    fields = [columns[name] for name in contract.body]
    bodies = list(map(_encode, zip(*fields, trailers, strict=True)))
    return Decoded(row_keys, _versions(contract.rank, times_us, offsets, bodies), bodies)


def _trailers(event_ids: Sequence[str]) -> list[bytes]:
    """The format byte and the event id, of each event."""
    mark = rows.FORMAT_2.hex()
    together = bytes.fromhex((mark + mark.join(event_ids)).replace("-", ""))
    return [together[at : at + 17] for at in range(0, len(together), 17)]


def _marker_versions(rank: int, times_us: Sequence[int], trailers: Sequence[bytes]) -> list[bytes]:
    no_content = crc32(b"")
    return [_pack_version(us, rank, t[1:], no_content) for us, t in zip(times_us, trailers, strict=True)]


def _versions(rank: int, times_us: Sequence[int], offsets: Sequence[int], bodies: Sequence[bytes]) -> list[bytes]:
    """The CRC-32 begins with the header of the array as it is without the trailer: the same for all of a topic."""
    header = crc32(bytes([bodies[0][0] - 1])) if bodies else 0
    return [
        _pack_version_2(us, rank, _ABOVE_FORMAT_1, offset, crc32(body[_CONTENT], header))
        for us, offset, body in zip(times_us, offsets, bodies, strict=True)
    ]


def _row_keys(contract: Contract, columns: Columns, keys: Sequence[bytes]) -> list[bytes]:
    """The records' own keys, which are the events' (checked before), with the suffix if there is one."""
    if contract.row_key_suffix is None:
        return list(keys)
    suffixes: tuple[str, ...] = columns[contract.row_key_suffix]
    return [key + b"|" + suffix.encode() for key, suffix in zip(keys, suffixes, strict=True)]


def _decode_one_by_one(
    contract: Contract,
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    timestamps_ms: Sequence[int],
    offsets: Sequence[int],
    max_ahead_seconds: int,
) -> Decoded:
    result = Decoded()
    records = zip(keys, values, timestamps_ms, offsets, strict=True)
    for place, (key, value, timestamp_ms, offset) in enumerate(records):
        try:
            event, has_unknown_fields = _parse(contract, value)
            one = _decode_event(contract, key, event, timestamp_ms, offset, max_ahead_seconds)
        except InvalidEvent as reason:
            result.refused.append((place, reason))
            continue
        except Exception:  # noqa: BLE001 - a fault of ours that only this record shows must not stop its partition
            result.refused.append((place, InvalidEvent(traceback.format_exc())))
            continue
        result.unknown_fields += has_unknown_fields
        result.keys += one.keys
        result.versions += one.versions
        result.bodies += one.bodies
    return result


def _parse(contract: Contract, value: bytes | None) -> tuple[Any, bool]:
    """The event, and whether it has fields that the contract does not know."""
    if value is None:
        raise InvalidEvent("value is null: a delete is an event of its own topic")
    try:
        return _parse_as_spelled(contract, value)
    except InvalidEvent:
        if (other := _respelled(contract, value)) is None:
            raise
    return _parse_as_spelled(contract, other)


def _respelled(contract: Contract, value: bytes) -> bytes | None:
    """The event with integers and time as the decoders read them; None if that is no help."""
    try:
        return respelled(value, [camel(name) for name in contract.integers], ["timestamp"])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None  # The first refusal says what is wrong with it.


def _parse_as_spelled(contract: Contract, value: bytes) -> tuple[Any, bool]:
    try:
        return contract.alone.decode(value), False
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as strict_error:
        if "unknown field" not in str(strict_error):
            raise InvalidEvent(f"value: {strict_error}") from None
    try:
        return contract.lenient.decode(value), True
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidEvent(f"value: {error}") from None


def _decode_event(
    contract: Contract, key: bytes | None, event: Any, timestamp_ms: int, offset: int, max_ahead_seconds: int
) -> Decoded:
    for name in (*contract.ids, *contract.optional_ids):
        text = getattr(event, name)
        if text is not None and not is_canonical_id(text):
            raise InvalidEvent(f"{camel(name)}: {text!r} is not a lower-case UUID of 36 characters")
    if key is None or key != getattr(event, contract.key).encode():
        raise InvalidEvent(f"key {key!r} is not the {camel(contract.key)} of the event")
    _normalise(contract, event)
    for name in contract.names:
        if not names.is_visible(getattr(event, name)):
            raise InvalidEvent(f"{camel(name)}: {getattr(event, name)!a} has no character that can be seen")
    us = rows.to_us(event.timestamp)
    if us < EARLIEST_US:
        raise InvalidEvent(f"timestamp {event.timestamp.isoformat()} is before 2000-01-01")
    if us > (timestamp_ms + max_ahead_seconds * 1000) * 1000:
        ahead = us // 1_000_000 - timestamp_ms // 1000
        raise InvalidEvent(f"timestamp is {ahead} s ahead of the broker's, allowed are {max_ahead_seconds}")
    return _decoded(contract, _columns(contract, [event]), [us], [offset], [key])


def _normalise(contract: Contract, event: Any) -> None:
    """Texts to NFC, so that the same name is the same bytes; lengths are checked again."""
    for name in contract.texts:
        text = getattr(event, name)
        if text is None or unicodedata.is_normalized("NFC", text):
            continue
        setattr(event, name, unicodedata.normalize("NFC", text))
        try:
            contract.lenient.decode(msgspec.json.encode(event))
        except msgspec.ValidationError as error:
            raise InvalidEvent(f"value after normalising to NFC: {error}") from None


def camel(name: str) -> str:
    """A field name of the structs as it is in the JSON."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def created_of(version: bytes) -> bytes:
    """The `created` of a row that is the first of its key: the event's time."""
    return version[: rows.CREATED_BYTES]
