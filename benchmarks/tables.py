"""Whether a contender's table is right: its changelog, compacted by key, against the fold of the source topics."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from struct import Struct

import msgspec
from confluent_kafka import Message, TopicPartition

from benchmarks.data import SOURCES
from benchmarks.offsets import Brokers, Place, reader
from emis_streams import rows

TIME_AND_RANK_BYTES = 9
_EVENT_ID_BYTES = 16

Versions = dict[bytes, bytes]
"""The version kept by key: event time (8 bytes, µs since 1970), rank of the topic, event id."""

_SILENCE_SECONDS = 60.0
_BATCH = 10_000


class _Event(msgspec.Struct, rename="camel", gc=False):
    event_id: str
    timestamp: datetime


_decode = msgspec.json.Decoder(_Event).decode
_pack = Struct(">QB16s").pack


Record = tuple[str, bytes, bytes]
"""Topic, key, value."""


def records(bootstrap: str, start: Mapping[Place, int], end: Mapping[Place, int]) -> Iterator[Record]:
    """All records from start (0 where not named) to end, in the order of each partition."""
    left = {place: offset for place, offset in end.items() if offset > start.get(place, 0)}
    consumer = reader(bootstrap)
    try:
        consumer.assign([TopicPartition(*place, start.get(place, 0)) for place in left])
        heard = time.monotonic()
        while left:
            messages = consumer.consume(_BATCH, timeout=1.0)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                raise TimeoutError(f"no records for {_SILENCE_SECONDS:.0f} s; still to be read: {left}")
            for message in messages:
                place, offset = _origin(message)
                if offset < left.get(place, 0):
                    yield place[0], message.key() or b"", message.value() or b""
                if offset == left.get(place, 0) - 1:
                    del left[place]
    finally:
        consumer.close()


def version_of(row: bytes) -> bytes:
    """The version of a row of any contender: all of them begin with it, but this project's rows of format 2.

    Those have the event id at their end (`emis_streams/rows.py`). No event has the time of another one of its class
    here, so that it does not matter what decides between equal ones.
    """
    version = row[: TIME_AND_RANK_BYTES + _EVENT_ID_BYTES]
    return version[:TIME_AND_RANK_BYTES] + row[-_EVENT_ID_BYTES:] if rows.has_trailer(row) else version


def _origin(message: Message) -> tuple[Place, int]:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if message.error() is not None or topic is None or partition is None or offset is None:
        raise RuntimeError(f"reading {topic} {partition}: {message.error()}")
    return (topic, partition), offset


@dataclass
class SourceFold:
    """The highest version of each class, from the source topics themselves; goes on where it stopped."""

    brokers: Brokers
    versions: Versions = field(default_factory=dict)
    _next: dict[Place, int] = field(default_factory=dict)

    def catch_up(self, end: Mapping[Place, int] | None = None) -> Versions:
        """Read on to the end of the topics, or to the given offsets."""
        ends = dict(end) if end is not None else self.brokers.ends(self.brokers.places(SOURCES))
        ranks = {topic: rank for rank, topic in enumerate(SOURCES)}
        versions = self.versions
        for topic, key, value in records(self.brokers.bootstrap, self._next, ends):
            event = _decode(value)
            event_id = bytes.fromhex(event.event_id.replace("-", ""))
            version = _pack(round(event.timestamp.timestamp() * 1_000_000), ranks[topic], event_id)
            known = versions.get(key)
            if known is None or version > known:
                versions[key] = version
        self._next.update(ends)
        return versions


def read_changelog(brokers: Brokers, topic: str, class_id_of: Callable[[bytes], bytes]) -> tuple[Versions, int]:
    """What a new owner of the table would find: the last record of each key; and how many records there are."""
    ends = brokers.ends(brokers.places([topic]))
    versions = {class_id_of(key): version_of(value) for _, key, value in records(brokers.bootstrap, {}, ends)}
    return versions, sum(ends.values())


@dataclass(frozen=True)
class Verdict:
    """Whether the table is right, and how much of it there is."""

    equal: bool
    classes: int
    said: str


def compare(kept: Versions, lower: Versions, upper: Versions) -> Verdict:
    """`kept` must lie between the fold of what was committed and the fold of everything.

    When everything was committed the two are the same, and so `kept` must equal them.
    """
    too_low = sum(1 for key, version in lower.items() if kept.get(key, b"") < version)
    too_high = sum(1 for key, version in kept.items() if version > upper.get(key, b""))
    equal = not too_low and not too_high
    if equal:
        said = "equal" if lower is upper else "equal as far as it went"
    else:
        said = f"DIFFERS: {too_low} classes lost or too old, {too_high} never sent"
    return Verdict(equal, len(kept), said)
