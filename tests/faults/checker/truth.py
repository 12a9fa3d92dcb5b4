"""What has to be everywhere, worked out from the source topics alone.

Nothing of the application is imported: topics are read by librdkafka, events are JSON, and the rule is
written down here once more: of a key's events the highest (time, rank, offset on the topic) counts, a row was
created when its earliest event says, a delete leaves nothing but its version. An event of the future
(by more than ten minutes of the brokers' clock, which stamps the records) is refused.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tests.integration.independent import NO_ORDER, SOURCES, Kept, Key, later, records

Version = tuple[int, int, int, str]
"""Time in µs, rank, offset on the topic (NO_ORDER: of a delete, or of a row of format 1), event id."""

_FIELDS = {
    "classes": ("className", "grade", "academicYear", "totalStudents", "schoolId", "homeroomTeacherId"),
    "teachers": ("fullName", "email", "schoolId"),
    "assignments": ("classId", "role", "subject"),
}
_ID = {"classes": "classId", "teachers": "teacherId"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_AHEAD_US = 10 * 60 * 1_000_000


class Place(NamedTuple):
    """Where a record is."""

    topic: str
    partition: int
    offset: int


class Record(NamedTuple):
    """A record of a source topic."""

    place: Place
    key: bytes | None
    value: bytes
    is_bad: bool
    ms: int
    """When the brokers took it."""


@dataclass
class Truth:
    """The fold of a district's source records."""

    with_last_release: bool = False
    """Whether workers of the last release were at work: they write format 1, and decide ties by event id."""
    expected: dict[Key, Kept] = field(default_factory=dict)
    versions: dict[Key, set[Version]] = field(default_factory=dict)
    """Of all events of a key."""
    tied: dict[Key, list[Kept]] = field(default_factory=dict)
    """The events of the highest time and rank of each key."""
    named: dict[Key, dict[str, list[Version]]] = field(default_factory=dict)
    """Which event gave a class or a teacher that name, at each of its places in the log; no two give the same."""
    places: dict[Place, str] = field(default_factory=dict)
    """Event id by place."""
    bad: dict[Place, bytes] = field(default_factory=dict)
    """Records that their producer marked as useless, or that are of the future, as they were sent."""
    refused: dict[Place, str] = field(default_factory=dict)
    """Event ids of those that are of the future."""
    former: dict[Place, str] = field(default_factory=dict)
    """Event ids of records that were deleted from the log, or skipped, by a row ("": useless ones)."""

    @property
    def n_events(self) -> int:
        return len(self.places) + len(self.bad)

    def holds(self, place: Place, event_id: str) -> bool:
        """Whether the log has that event there ("": a useless record), or had it until a row deleted it."""
        there = "" if place in self.bad and place not in self.refused else None
        return event_id in (there, self.places.get(place), self.refused.get(place), self.former.get(place))

    def add(self, place: Place, key: bytes | None, value: bytes, is_bad: bool, ms: int | None = None) -> None:
        """Takes a record of the log, which the brokers took at `ms`, into account, in any order."""
        if is_bad:
            self.bad[place] = value
            return
        event = json.loads(value)
        kind, rank = SOURCES[place.topic]
        us = _us(datetime.fromisoformat(event["timestamp"]))
        if ms is not None and us > ms * 1000 + MOST_AHEAD_US:
            self.bad[place] = value
            self.refused[place] = event["eventId"]
            return
        own = (kind, _row_key(kind, event))
        self.places[place] = event["eventId"]
        is_deleted = place.topic.endswith(".deleted")
        fields = None if is_deleted else tuple(event.get(name) for name in _FIELDS[kind])
        new = Kept(us, rank, NO_ORDER if is_deleted else place.offset, event["eventId"], us, fields)
        self._note(own, new, event.get("className", event.get("fullName")))

    def _note(self, own: Key, new: Kept, name: str | None) -> None:
        forms = [new, new._replace(order=NO_ORDER)] if self.with_last_release else [new]
        self.versions.setdefault(own, set()).update(form[:4] for form in forms)
        if name is not None:
            self.named.setdefault(own, {}).setdefault(name, []).extend(form[:4] for form in forms)
        tied = self.tied.get(own, [])
        if not tied or new[:2] > tied[0][:2]:
            self.tied[own] = forms
        elif new[:2] == tied[0][:2]:
            self.tied[own] = [*tied, *forms]
        self.expected[own] = later(self.expected.get(own, new), new)

    def settle(self, found: Mapping[Key, Kept]) -> None:
        """Takes what the changelogs end with for right if it is one of the tied events of its key.

        For rows with workers of the last release only: no rule says which of these it has to be, but it has to be
        the same everywhere.
        """
        for key, kept in found.items():
            created_us = self.expected[key].created_us if key in self.expected else 0
            if kept in [one._replace(created_us=created_us) for one in self.tied.get(key, ())]:
                self.expected[key] = kept


def of_sources(
    brokers: str,
    own_ids: Collection[str],
    topics: Iterable[str] = tuple(SOURCES),
    *,
    gone: Iterable[Record] = (),
    skipped: Collection[Place] = (),
    with_last_release: bool = False,
) -> Truth:
    """Reads the source topics from their first records to their ends.

    `gone`: records that were deleted from the topics after they were there for the workers. `skipped`: what
    the workers could not read, as a row saw to it, and had to say so.
    """
    truth = Truth(with_last_release)
    for record in gone:
        truth.former[record.place] = "" if record.is_bad else json.loads(record.value)["eventId"]
    for record in [*gone, *records_of(brokers, own_ids, topics)]:
        if record.place in skipped:
            truth.former[record.place] = "" if record.is_bad else json.loads(record.value)["eventId"]
        else:
            truth.add(*record)
    return truth


def records_of(brokers: str, own_ids: Collection[str], topics: Iterable[str] = tuple(SOURCES)) -> list[Record]:
    """All records about these ids."""
    wanted = {own.encode() for own in own_ids}
    return [
        Record(
            Place(m.topic(), m.partition(), m.offset()), m.key(), m.value() or b"", _is_bad(m), int(m.timestamp()[1])
        )
        for m in records(brokers, list(topics))
        if m.key() in wanted
    ]


def _is_bad(message: Any) -> bool:
    return ("bad", b"1") in (message.headers() or ())


def _row_key(kind: str, event: dict[str, Any]) -> str:
    return f"{event['teacherId']}|{event['assignmentId']}" if kind == "assignments" else str(event[_ID[kind]])


def _us(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
