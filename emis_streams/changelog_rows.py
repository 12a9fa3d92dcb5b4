"""Whether a record of a changelog is a row: the one parser for everything that follows or reads changelogs.

Anybody with a producer can write to a topic. A row proves itself: its version holds the CRC-32 of its content. What
does not is no row, and changes nothing: not a table, not a local copy, not the replica. Pure; raises nothing, whatever
the bytes are. What is accepted must never become less: rows are kept for ever, and old ones are read on.

Speed matters: each record that is followed is checked (about 1 µs). So a run of records is looked at as a whole, and
record by record only if something in it is not as it should be.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from zlib import crc32

import msgspec

from emis_streams import rows, topics
from emis_streams.engine.row_filter import RowCheck, RowFilter
from emis_streams.quantities import counted
from emis_streams.topics import Subject

EARLIEST_US = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""No event is older."""
LATEST_US = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 1_000_000
"""Later times have no date. How far an event may be ahead was judged when it came in: clocks are set right later."""
MAX_ROW_BYTES = 16 * 1024
"""The contract's longest texts take an eighth of it."""
TOMBSTONE = "a null value: nothing of ours but `emis-streams changelogs check --repair` writes one"
_SHOWN_BYTES = 80

_SHAPE = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_ID_SHAPE = b"00000000-0000-0000-0000-000000000000"
_HEAD = struct.Struct(">QB16sLQ")
"""Event time, rank, what decides between equal ones, CRC-32, time of creation."""
_TRAILER_HEAD, _OF_FORMAT_2 = slice(-rows.TRAILER_BYTES, -rows.TRAILER_BYTES + 3), b"\xc4\x11" + rows.FORMAT_2
_CONTENT = slice(1, -rows.TRAILER_BYTES)
_HEADER_CRC = [crc32(bytes([header - 1 & 0xFF])) for header in range(256)]
"""By the header of an array with a trailer: the CRC-32 of the header that it has without.

For speed, `_content_hashes` says the same here as `rows.content_of` says of one row; a test holds them together.
"""


class Record(Protocol):
    """As much of a consumed record as is looked at."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True)
class _Form:
    """What the rows of a subject look like."""

    key_name: str
    key_shape: bytes
    decode: Callable[[Any], Any]
    ids: tuple[str, ...]
    """The fields that are ids."""
    kinds: frozenset[tuple[int, bool]]
    """Rank, and whether it is the rank of a delete, whose rows have no body."""


_BODIES: dict[Subject, tuple[type[Any], tuple[str, ...]]] = {
    topics.CLASSES: (rows.ClassRow, ("school_id", "homeroom_teacher_id")),
    topics.TEACHERS: (rows.TeacherRow, ("school_id",)),
    topics.ASSIGNMENTS: (rows.AssignmentRow, ("class_id",)),
    topics.PROGRESS: (rows.ProgressRow, ()),
    topics.ACTIVITY: (rows.ActivityRow, ("lesson_id",)),
}
"""What a body holds, and which of its fields are ids."""


def _form(subject: Subject) -> _Form:
    kind, ids = _BODIES[subject]
    key_name = topics.CHANGELOG_KEYS[subject.name]
    return _Form(
        key_name=key_name,
        key_shape=b"|".join([_ID_SHAPE] * len(key_name.split("|"))),
        decode=msgspec.msgpack.Decoder(kind).decode,
        ids=ids,
        kinds=frozenset((rank, topic.endswith(".deleted")) for rank, topic in enumerate(subject.events)),
    )


_FORMS = {subject.changelog: _form(subject) for subject in _BODIES}
CHANGELOGS = tuple(_FORMS)
"""Of all services."""


def refusals(changelog: str, records: Sequence[Record]) -> list[tuple[int, str]]:
    """Which of some records of this changelog are no rows: place and reason."""
    form = _FORMS[changelog]
    if not records or _are_alike(form, records):
        return []
    found = ((place, _refusal(form, record.key, record.value)) for place, record in enumerate(records))
    return [(place, reason) for place, reason in found if reason is not None]


def refusal(changelog: str, key: bytes | None, value: bytes | None) -> str | None:
    """Why this record of the changelog is no row; None if it is one."""
    return _refusal(_FORMS[changelog], key, value)


ROW_CHECK = RowCheck(refusals, "`emis-streams changelogs check` lists them and says what to do")


def row_filter() -> RowFilter:
    """For a follower of any of the changelogs; it has counts of its own."""
    return RowFilter(lambda _changelog: ROW_CHECK)


def _are_alike(form: _Form, records: Sequence[Record]) -> bool:
    """Whether all of them are rows, as nearly always; if not, each is looked at by itself."""
    try:
        return _are_rows(form, [r.key for r in records], [r.value for r in records])
    except Exception:  # noqa: BLE001 - whatever it is, it is one record's
        return False


def _are_rows(form: _Form, keys: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether all of them are; may also raise if one is not."""
    if b"\n".join(keys).translate(_SHAPE) != b"\n".join([form.key_shape] * len(keys)):
        return False
    heads = b"".join([value[: rows.BODY_AT] for value in values])
    if len(heads) != rows.BODY_AT * len(values) or max(map(len, values)) > MAX_ROW_BYTES:
        return False
    times_us, ranks, _deciders, hashes, created_us = zip(*_HEAD.iter_unpack(heads), strict=True)
    if min(times_us) < EARLIEST_US or min(created_us) < EARLIEST_US:
        return False
    if max(times_us) > LATEST_US or max(created_us) > LATEST_US:
        return False
    bodies = [value[rows.BODY_AT :] for value in values]
    if not form.kinds.issuperset(zip(ranks, [not body for body in bodies], strict=True)):
        return False
    if _content_hashes(bodies) != hashes:
        return False
    decode = form.decode
    decoded = [decode(body) for body in bodies if body]
    return _are_ids([i for name in form.ids for body in decoded if (i := getattr(body, name)) is not None])


def _content_hashes(bodies: Sequence[bytes]) -> tuple[int, ...]:
    """CRC-32 of the fields of each body; something else for a body of an unknown format."""
    return tuple(
        [
            crc32(body[_CONTENT], _HEADER_CRC[body[0]]) if body[_TRAILER_HEAD] == _OF_FORMAT_2 else crc32(body)
            for body in bodies
        ]
    )


def _are_ids(ids: Sequence[str]) -> bool:
    return "\n".join(ids).encode().translate(_SHAPE) == b"\n".join([_ID_SHAPE] * len(ids))


def _refusal(form: _Form, key: bytes | None, value: bytes | None) -> str | None:
    if value is None:
        return TOMBSTONE
    if key is None or key.translate(_SHAPE) != form.key_shape:
        return f"key {_shown(key)} is not {form.key_name} in lower-case UUIDs"
    if len(value) < rows.BODY_AT:
        return f"{counted(len(value), 'byte')}, a row has at least {rows.BODY_AT}: {_shown(value)}"
    if len(value) > MAX_ROW_BYTES:
        return f"{len(value)} bytes, a row has at most {MAX_ROW_BYTES}"
    return _refusal_of_head(form, value) or _refusal_of_body(form, value)


def _refusal_of_head(form: _Form, value: bytes) -> str | None:
    time_us, rank, _decider, _hash, created_us = _HEAD.unpack_from(value)
    for name, us in (("event time", time_us), ("time of creation", created_us)):
        if not EARLIEST_US <= us <= LATEST_US:
            return f"{name} {us} µs since 1970 is not within the years 2000 to 9999"
    has_body = len(value) > rows.BODY_AT
    if (rank, not has_body) in form.kinds:
        return None
    ranks = ", ".join(str(rank) for rank, is_delete in sorted(form.kinds) if is_delete != has_body) or "none"
    return f"rank {rank}, rows {'with' if has_body else 'without'} a body have {ranks}"


def _refusal_of_body(form: _Form, value: bytes) -> str | None:
    body = value[rows.BODY_AT :]
    try:
        if crc32(rows.content_of(value)).to_bytes(4, "big") != rows.content_hash(value):
            return "the CRC-32 in its version is not that of its content"
        decoded = form.decode(body) if body else None
    except rows.UnknownRowFormat as error:
        return str(error)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return f"content: {error}"
    ids = [i for name in form.ids if decoded is not None and (i := getattr(decoded, name)) is not None]
    wrong = next((i for i in ids if not _are_ids([i])), None)
    return None if wrong is None else f"content: {wrong!r} is no lower-case UUID"


def _shown(raw: bytes | None) -> str:
    if raw is None:
        return "null"
    return repr(raw) if len(raw) <= _SHOWN_BYTES else f"{raw[:_SHOWN_BYTES]!r}… ({len(raw)} bytes)"
