"""Fills and repairs the classes from a snapshot of their source: what differs is sent as ordinary events.

The topics keep 7 days, most classes are older. A snapshot has one class per line: the fields of a
class event and `updatedAt`. It is compared with the table's changelog, so that a snapshot never undoes
what is newer here. Of two states of one time the snapshot's is the right one: events are sent with times
that win against the row here, by the rule that decides between events (decision 0017).
"""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from emis_streams import events, rows, topics
from emis_streams.changelog_rows import refusals
from emis_streams.errors import UNREADABLE_JSON
from emis_streams.events import ClassCreated, ClassDeleted, ClassUpdated, Event, Id, Time
from emis_streams.json_spellings import respelled
from emis_streams.read_topic import records_to_end
from emis_streams.settings import Settings

State = Literal["created", "updated", "unchanged", "newer here", "lacking"]
"""Sent as created or updated; nothing to send; here is what the snapshot does not have yet; only here."""

_EVENT_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "https://emis.example/sync")
_CONTRACT = events.CONTRACTS["emis.class.updated"]
_DELETED_RANK = topics.CLASSES.events.index("emis.class.deleted")


class SnapshotClass(msgspec.Struct, rename="camel", kw_only=True):
    """One line of a snapshot; whatever else it says is ignored."""

    class_id: Id
    class_name: str
    grade: str | None = None
    academic_year: str | None = None
    total_students: int | None = None
    school_id: str | None = None
    homeroom_teacher_id: str | None = None
    updated_at: Time


_decoder = msgspec.json.Decoder(SnapshotClass)


def _decode_line(line: bytes) -> SnapshotClass:
    """Raises one of UNREADABLE_JSON with what is wrong with it."""
    try:
        return _decoder.decode(line)
    except msgspec.ValidationError:
        if (other := respelled(line, ["totalStudents"], ["updatedAt"])) is None:
            raise
    return _decoder.decode(other)


Report = Callable[[State, str], None]
"""Told the state and the id of each class that is not unchanged."""

Numbered = tuple[int, bytes]
"""A line and its number."""


def precision_us(us: int) -> int:
    """The step of the clock that a time seems to come from: a second, a millisecond or a microsecond."""
    return next(step for step in (1_000_000, 1_000, 1) if us % step == 0)


def update_of(line: SnapshotClass) -> ClassUpdated:
    """The event that says what a line says; always the same id for the same line."""
    said = f"{line.class_id}|{msgspec.json.encode(line).decode()}"
    return ClassUpdated(
        event_id=str(uuid.uuid5(_EVENT_IDS, said)),
        event_type="emis.class.updated",
        timestamp=line.updated_at,
        class_id=line.class_id,
        class_name=line.class_name,
        grade=line.grade,
        academic_year=line.academic_year,
        total_students=line.total_students,
        school_id=line.school_id,
        homeroom_teacher_id=line.homeroom_teacher_id,
    )


def as_created(update: ClassUpdated) -> ClassCreated:
    """The same event for a class that is not known here."""
    said = {name: getattr(update, name) for name in update.__struct_fields__}
    return ClassCreated(**{**said, "event_type": "emis.class.created"})


def compare(here: bytes | None, version: bytes) -> tuple[State, int]:
    """What to do with a line whose event would have `version`, when the row here has the version `here`.

    The second is the time of the event to send (µs). It is the line's, unless the row here is of the same time by the
    precision of the line's `updatedAt`: a later event of that time then wins against a class that lives, and only a
    later time wins against one that was deleted.
    """
    us = _time_us(version)
    if here is None:
        return "created", us
    is_deleted = rows.event_rank(here) == _DELETED_RANK
    if not is_deleted and rows.content_hash(here) == rows.content_hash(version):
        return "unchanged", us
    here_us = _time_us(here)
    here_truncated_us = here_us - here_us % precision_us(us)
    if here_truncated_us > us:
        return "newer here", us
    state: State = "created" if is_deleted else "updated"
    return state, (here_us + is_deleted if here_truncated_us == us else us)


def _time_us(version: bytes) -> int:
    return int.from_bytes(version[:8], "big")


def at_time(update: ClassUpdated, us: int) -> ClassUpdated:
    """The event with another time, and with an id of its own for that time."""
    event_id = str(uuid.uuid5(_EVENT_IDS, f"{update.event_id}|{us}"))
    return msgspec.structs.replace(update, timestamp=rows.from_us(us), event_id=event_id)


class Comparison:
    """A snapshot against the versions of all classes here, kept small: 16 bytes of id, 29 of version."""

    def __init__(self, versions: dict[bytes, bytes], report: Report) -> None:
        self._versions = versions
        self._report = report
        self._in_snapshot: set[bytes] = set()
        self.counts: Counter[State] = Counter()
        self.newest: datetime | None = None
        """The snapshot's newest `updatedAt`: it was taken then or later."""

    def take(self, lines: Sequence[Numbered], now_ms: int) -> tuple[list[Event], list[tuple[int, str]]]:
        """Events to send for these lines; and which lines are no class (number and reason)."""
        refused: list[tuple[int, str]] = []
        updates: list[tuple[int, ClassUpdated]] = []
        for number, line in lines:
            try:
                updates.append((number, update_of(_decode_line(line))))
            except UNREADABLE_JSON as error:
                refused.append((number, str(error)))
        keys = [update.class_id.encode() for _number, update in updates]
        values = [msgspec.json.encode(update) for _number, update in updates]
        decoded = events.decode(_CONTRACT, keys, values, [now_ms] * len(updates))
        refused += [(updates[place][0], str(reason)) for place, reason in decoded.refused]
        bad_places = {place for place, _reason in decoded.refused}
        good = [update for place, (_number, update) in enumerate(updates) if place not in bad_places]
        taken = [self._take(update, version) for update, version in zip(good, decoded.versions, strict=True)]
        return [event for event in taken if event is not None], sorted(refused)

    def _take(self, update: ClassUpdated, version: bytes) -> Event | None:
        key = uuid.UUID(update.class_id).bytes
        self._in_snapshot.add(key)
        self.newest = max(self.newest or update.timestamp, update.timestamp)
        state, us = compare(self._versions.get(key), version)
        self._count(state, update.class_id)
        if state not in ("created", "updated"):
            return None
        self._versions[key] = us.to_bytes(8, "big") + version[8:]
        if us != _time_us(version):
            update = at_time(update, us)
        return as_created(update) if state == "created" else update

    def _count(self, state: State, class_id: str) -> None:
        self.counts[state] += 1
        if state != "unchanged":
            self._report(state, class_id)

    @property
    def n_known(self) -> int:
        """Classes here that are not deleted."""
        return sum(rows.event_rank(version) != _DELETED_RANK for version in self._versions.values())

    def lacking(self, taken_at: datetime) -> list[tuple[str, datetime]]:
        """Ids of the classes here that the snapshot lacks, and the time of a delete that wins against each.

        What is newer than the snapshot does not count; what is of its time by the precision of `taken_at` does.
        """
        taken_us = rows.to_us(taken_at)
        lacking: list[tuple[str, datetime]] = []
        for key, version in self._versions.items():
            if key in self._in_snapshot or rows.event_rank(version) == _DELETED_RANK:
                continue
            class_id, here_us = rows.uuid_text(key), _time_us(version)
            if here_us - here_us % precision_us(taken_us) > taken_us:
                self._count("newer here", class_id)
            else:
                lacking.append((class_id, rows.from_us(max(here_us, taken_us))))
                self._count("lacking", class_id)
        return lacking


def delete_of(class_id: str, at: datetime) -> ClassDeleted:
    """The delete of a class that a snapshot lacks; always the same id for the same time."""
    return ClassDeleted(
        event_id=str(uuid.uuid5(_EVENT_IDS, f"{class_id}|deleted|{at.isoformat()}")),
        event_type="emis.class.deleted",
        timestamp=at,
        class_id=class_id,
    )


async def versions_here(settings: Settings, advance: Callable[[int], None]) -> dict[bytes, bytes]:
    """The version of each class, by the 16 bytes of its id, read from the table's changelog."""
    versions: dict[bytes, bytes] = {}
    async for records in records_to_end(settings, topics.CLASSES.changelog, "read_committed"):
        no_rows = {place for place, _ in refusals(topics.CLASSES.changelog, records)}
        for place, record in enumerate(records):
            if place in no_rows:
                continue
            key = uuid.UUID(record.key.decode()).bytes
            version = rows.version_of(record.value)
            if version > versions.get(key, b""):
                versions[key] = version
        advance(len(records))
    return versions
