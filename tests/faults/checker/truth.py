"""What has to be everywhere, worked out from the source topics alone.

Nothing of the application is imported: topics are read by librdkafka, events are JSON, and the rule is
written down here once more: of a key's events the highest (time, rank, event id) counts, a row was
created when its earliest event says, a delete leaves nothing but its version.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tests.integration.independent import SOURCES, Kept, Key, records

Version = tuple[int, int, str]
"""Time in µs, rank, event id."""

_FIELDS = {
    "classes": ("className", "grade", "academicYear", "totalStudents", "schoolId", "homeroomTeacherId"),
    "teachers": ("fullName", "email", "schoolId"),
    "assignments": ("classId", "role", "subject"),
}
_ID = {"classes": "classId", "teachers": "teacherId"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """Where a record is."""

    topic: str
    partition: int
    offset: int


@dataclass
class Truth:
    """The fold of a district's source records."""

    expected: dict[Key, Kept] = field(default_factory=dict)
    versions: dict[Key, set[Version]] = field(default_factory=dict)
    """Of all events of a key."""
    names: dict[str, set[str]] = field(default_factory=dict)
    """Class names that events gave to a class."""
    places: dict[Place, str] = field(default_factory=dict)
    """Event id by place."""
    bad: dict[Place, bytes] = field(default_factory=dict)
    """Records that their producer marked as useless, as they were sent."""

    @property
    def n_events(self) -> int:
        return len(self.places) + len(self.bad)

    def add(self, place: Place, key: bytes | None, value: bytes, is_bad: bool) -> None:
        """Takes a record of the log into account, in any order."""
        if is_bad:
            self.bad[place] = value
            return
        event = json.loads(value)
        kind, rank = SOURCES[place.topic]
        us = _us(datetime.fromisoformat(event["timestamp"]))
        row_key = _row_key(kind, event)
        own = (kind, row_key)
        self.places[place] = event["eventId"]
        self.versions.setdefault(own, set()).add((us, rank, event["eventId"]))
        if kind == "classes" and "className" in event:
            self.names.setdefault(row_key, set()).add(event["className"])
        is_deleted = place.topic.endswith(".deleted")
        fields = None if is_deleted else tuple(event.get(name) for name in _FIELDS[kind])
        new = Kept(us, rank, event["eventId"], us, fields)
        old = self.expected.get(own, new)
        self.expected[own] = max(old, new, key=lambda k: k[:3])._replace(created_us=min(old.created_us, us))


def of_sources(brokers: str, own_ids: Collection[str], topics: Iterable[str] = tuple(SOURCES)) -> Truth:
    """Reads the source topics from their first records to their ends."""
    wanted = {own.encode() for own in own_ids}
    truth = Truth()
    for message in records(brokers, list(topics)):
        if message.key() in wanted:
            place = Place(message.topic(), message.partition(), message.offset())
            truth.add(place, message.key(), message.value(), _is_bad(message))
    return truth


def _is_bad(message: Any) -> bool:
    return ("bad", b"1") in (message.headers() or ())


def _row_key(kind: str, event: dict[str, Any]) -> str:
    return f"{event['teacherId']}|{event['assignmentId']}" if kind == "assignments" else str(event[_ID[kind]])


def _us(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
