"""The rows that tables keep, and the version that decides between two of them.

A row is `version (29 bytes) + created (8 bytes) + body`. The version comes first and has a fixed
width, so that "which of two rows wins" is one comparison of bytes. A body is a MessagePack array of
the fields below; a row without a body is the marker of a delete, and is kept for ever: purged
markers would let old copies come back to life (design, 2.2).

Two formats exist, and changelogs hold rows of both for ever (docs/decisions/0017-ties.md):

    format 1  version: time 8, rank 1, event id 16, CRC-32 4             body: the fields
    format 2  version: time 8, rank 1, FF × 8, source offset 8, CRC-32 4  body: the fields, and a trailer

The trailer is one more element of the array: a MessagePack `bin` of the format byte and the event id, so that
releases that know format 1 only read the fields and ignore it. The CRC-32 is that of the fields alone in both
formats: equal content has an equal CRC. Markers of deletes are rows of format 1.

Nothing in here knows Kafka, Faust or RocksDB.
"""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

VERSION_BYTES = 29
"""Event time (8, µs since 1970), rank of the topic (1), what decides between equal ones (16), CRC-32 (4)."""

CREATED_BYTES = 8
BODY_AT = VERSION_BYTES + CREATED_BYTES

_EVENT_ID_AT = 9
_HASH_AT = 25

_TRAILER_BEGINS = b"\xc4\x11"
"""MessagePack: binary data of 17 bytes. No body of format 1 ends with it: it is no UTF-8, and no number."""
_EVENT_ID_BYTES = 16
TRAILER_BYTES = len(_TRAILER_BEGINS) + 1 + _EVENT_ID_BYTES
FORMAT_2 = b"\x02"
"""The format byte, first of the trailer's data."""


class UnknownRowFormat(Exception):
    """A newer release wrote this row; the text says its format."""


_Id = Annotated[str, Meta(min_length=36, max_length=36)]
"""The limits here are those of the contract (`events.py`), and must not become narrower: rows are kept for ever."""


class ClassRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is known of a class."""

    class_name: Annotated[str, Meta(min_length=1, max_length=200)]
    grade: Annotated[str, Meta(max_length=50)] | None
    academic_year: Annotated[str, Meta(max_length=20)] | None
    total_students: Annotated[int, Meta(ge=0, le=2_147_483_647)] | None
    school_id: _Id | None
    homeroom_teacher_id: _Id | None


class TeacherRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is known of a teacher."""

    full_name: Annotated[str, Meta(min_length=1, max_length=200)]
    email: Annotated[str, Meta(max_length=254)] | None
    school_id: _Id | None


class AssignmentRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A teacher teaching a class; the keys are in the row's key (teacherId|assignmentId)."""

    class_id: _Id
    role: Annotated[str, Meta(min_length=1, max_length=50)]
    subject: Annotated[str, Meta(max_length=100)] | None


class ProgressRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A lesson that a user has; the keys are in the row's key (userId|lessonId)."""

    title: Annotated[str, Meta(min_length=1, max_length=200)]


class ActivityRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Something that a user did; the keys are in the row's key (userId|eventId)."""

    lesson_id: _Id
    title: Annotated[str, Meta(min_length=1, max_length=200)]


Body = TypeVar("Body", ClassRow, TeacherRow, AssignmentRow, ProgressRow, ActivityRow)

_decoders = {t: msgspec.msgpack.Decoder(t) for t in (ClassRow, TeacherRow, AssignmentRow, ProgressRow, ActivityRow)}


def pack(version: bytes, created: bytes, body: bytes) -> bytes:
    """A row, ready to be kept."""
    return version + created + body


def merged(row: bytes, stored: bytes | None) -> bytes:
    """The one of the higher version, with the earlier `created` of the two.

    `row`, which came later, if the versions are equal: a replay must repair what a crash cut short. Each row may come
    from a writer that had seen some events only, so each may know the earlier `created`. This is the one rule wherever
    two rows of a key meet: whatever the order in which they come, the same row stays.
    """
    if stored is None:
        return row
    kept, other = (row, stored) if row[:VERSION_BYTES] >= stored[:VERSION_BYTES] else (stored, row)
    created = other[VERSION_BYTES:BODY_AT]
    return kept if kept[VERSION_BYTES:BODY_AT] <= created else kept[:VERSION_BYTES] + created + kept[BODY_AT:]


def version_of(row: bytes) -> bytes:
    return row[:VERSION_BYTES]


def content_hash(version: bytes) -> bytes:
    """CRC-32 of the content that came with the version."""
    return version[_HASH_AT:VERSION_BYTES]


def has_trailer(row: bytes) -> bool:
    """Whether the row is of format 2; raises UnknownRowFormat."""
    if len(row) < BODY_AT + TRAILER_BYTES or row[-TRAILER_BYTES : -TRAILER_BYTES + 2] != _TRAILER_BEGINS:
        return False
    row_format = row[-_EVENT_ID_BYTES - 1 : -_EVENT_ID_BYTES]
    if row_format != FORMAT_2:
        raise UnknownRowFormat(f"row of format {row_format[0]}: written by a newer release, this one reads 1 and 2")
    return True


def content_of(row: bytes) -> bytes:
    """The bytes that the version's CRC-32 is of: the MessagePack array of the fields, empty if deleted.

    Raises UnknownRowFormat.
    """
    if not has_trailer(row):
        return row[BODY_AT:]
    return bytes([row[BODY_AT] - 1 & 0xFF]) + row[BODY_AT + 1 : -TRAILER_BYTES]


def is_deleted(row: bytes) -> bool:
    """Whether the row is only the marker of a delete."""
    return len(row) <= BODY_AT


def body_of(row: bytes, kind: type[Body]) -> Body | None:
    """The row's fields, or None if it was deleted; raises UnknownRowFormat, and msgspec's errors."""
    if is_deleted(row):
        return None
    has_trailer(row)  # An unknown format may mean anything.
    return _decoders[kind].decode(memoryview(row)[BODY_AT:])  # type: ignore[return-value]


def event_time(row: bytes) -> datetime:
    """Time of the event that the row comes from (UTC)."""
    return from_us(int.from_bytes(row[:8], "big"))


def event_rank(row: bytes) -> int:
    """Place of the row's source topic among its subject's topics: created < updated < deleted."""
    return row[8]


def event_id(row: bytes) -> str:
    """Id of the event that the row comes from; raises UnknownRowFormat."""
    return uuid_text(row[-_EVENT_ID_BYTES:] if has_trailer(row) else row[_EVENT_ID_AT:_HASH_AT])


def created_at(row: bytes) -> datetime:
    """Time of the earliest event that was seen of this key (UTC)."""
    return from_us(int.from_bytes(row[VERSION_BYTES:BODY_AT], "big"))


def uuid_text(raw: bytes) -> str:
    """Canonical text of a UUID's 16 bytes."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(time: datetime) -> int:
    """µs since 1970, exactly."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_us(us: int) -> datetime:
    """Time from µs since 1970 (UTC)."""
    seconds, rest = divmod(us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def from_ms(ms: int) -> datetime:
    """Time from ms since 1970, as Kafka stamps its records (UTC)."""
    return from_us(ms * 1000)
