"""Records that can never be used, one of each kind, as producers that do not know the contract would send them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tests.integration.worker_rig import Event, a_class, new_id


class Bad(NamedTuple):
    """What is sent instead of a good class event, and a word of the reason that is told."""

    key: bytes | None
    value: bytes | None
    reason: str
    topic: str = "emis.class.created"


def _changed(reason: str, **changes: Any) -> Callable[[Event], Bad]:
    """An event with other fields; None leaves a field out."""

    def made(event: Event) -> Bad:
        fields = {name: value for name, value in {**event, **changes}.items() if value is not _MISSING}
        return Bad(event["classId"].encode(), json.dumps(fields).encode(), reason)

    return made


def _raw(value: bytes | None, reason: str) -> Callable[[Event], Bad]:
    return lambda event: Bad(event["classId"].encode(), value, reason)


def _good_value(key: Callable[[Event], bytes | None], reason: str) -> Callable[[Event], Bad]:
    return lambda event: Bad(key(event), json.dumps(event).encode(), reason)


_MISSING = object()
_NOW = datetime.now(UTC)

KINDS: dict[str, Callable[[Event], Bad]] = {
    "not JSON": _raw(b"class 10A1 was created", "malformed"),
    "cut off": _raw(b'{"eventId": "', "malformed|truncated"),
    "empty": _raw(b"", "truncated"),
    "null": _raw(None, "null"),
    "a list": _raw(b"[]", "Expected `object`"),
    "two events": lambda event: Bad(
        event["classId"].encode(), b",\n".join([json.dumps(event).encode()] * 2), "trailing"
    ),
    "not UTF-8": _raw(b'{"className": "\xff\xfe"}', "utf-8|UTF-8"),
    "nested without end": _raw(b'{"x":' * 100_000, "recursion|truncated"),
    "a text for a number": _changed("totalStudents", totalStudents="many"),
    "a number that no column holds": _changed("totalStudents", totalStudents=2**40),
    "a missing id": _changed("classId", classId=_MISSING),
    "an id in capitals": _changed("schoolId", schoolId="0A000000-0000-4000-8000-00000000000B"),
    "an id that is none": _changed("eventId", eventId="x" * 36),
    "a name that is too long": _changed("className", className="x" * 201),
    "no name": _changed("className", className=""),
    "half a surrogate pair": _raw(b'{"className": "\\ud800"}', "surrogate|malformed|truncated"),
    "the type of another topic": _changed("eventType", eventType="emis.class.updated"),
    "before there were computers": _changed("before 2000", timestamp="0001-01-01T00:00:00+14:00"),
    "a year that is far away": _changed("ahead", timestamp="9999-12-31T23:59:59-14:00"),
    "tomorrow": _changed("ahead", timestamp=(_NOW + timedelta(days=1)).isoformat()),
    "a time without a zone": _changed("timestamp", timestamp=_NOW.replace(tzinfo=None).isoformat()),
    "the key of another class": _good_value(lambda _event: new_id().encode(), "key"),
    "an empty key": _good_value(lambda _event: b"", "key"),
    "no key": _good_value(lambda _event: None, "key"),
    "a key that is no text": _good_value(lambda _event: b"\xff\x00", "key"),
}


def bad_event(kind: str) -> tuple[Bad, str]:
    """A record of the kind, and the class that it would have been about."""
    event = a_class(new_id(), "never to be seen")
    return KINDS[kind](event), event["classId"]
