"""The events that all contenders work on: the same bytes for the same seed and counts, on every machine."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import md5

CREATED, UPDATED, DELETED = SOURCES = ("emis.class.created", "emis.class.updated", "emis.class.deleted")
PARTITIONS = 10

_SHARES = (0.20, 0.95)
"""Up to the first: created, up to the second: updated, else deleted."""
_LATE_SHARE = 0.02
_LATE_MOST_US = 600_000_000
_TWICE_SHARE = 0.005
_STEP_US = 20_000
"""50 events a second of event time; 5,000,000 events are a little more than a day."""
_START_US = int(datetime(2025, 9, 5, 0, 0, tzinfo=UTC).timestamp()) * 1_000_000
_SCHOOLS = 25_000
_TEACHERS = 50_000

Record = tuple[str, str, str]
"""Topic, key, value."""


@dataclass(frozen=True)
class Load:
    """How many events over how many classes."""

    events: int
    classes: int
    seed: int = 3


def text_id(kind: str, number: int) -> str:
    """The id of the thing with this number: a canonical UUID text, the same in every run."""
    return _dashed(md5(f"{kind}-{number}".encode(), usedforsecurity=False).hexdigest())


def _dashed(h: str) -> str:
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def class_events(load: Load) -> Iterator[Record]:
    """Events in the order in which they are sent.

    20 % created, 75 % updated, 5 % deleted, over all classes evenly (the hardest for caches); 2 % are up to
    ten minutes older than their neighbours, 0.5 % are sent twice.
    """
    dice = random.Random(load.seed)
    chance, below = dice.random, dice.randrange
    class_ids = [text_id("class", n) for n in range(load.classes)]
    fields = _field_texts(dice)
    seconds_text = _SecondsText()
    created = 0
    for n in range(load.events):
        share = chance()
        if share < _SHARES[0]:
            topic, class_id = CREATED, class_ids[created % load.classes]
            created += 1
        else:
            topic, class_id = (UPDATED if share < _SHARES[1] else DELETED), class_ids[below(load.classes)]
        us = _START_US + n * _STEP_US
        if chance() < _LATE_SHARE:
            us -= below(_LATE_MOST_US)
        value = (
            f'{{"eventId":"{_dashed(dice.randbytes(16).hex())}","eventType":"{topic}",'
            f'"timestamp":"{seconds_text.of(us)}.{us % 1_000_000:06d}Z","classId":"{class_id}",{fields[below(4096)]}}}'
        )
        yield topic, class_id, value
        if chance() < _TWICE_SHARE:
            yield topic, class_id, value


class _SecondsText:
    """Formats the part of a time down to seconds, once per second."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def of(self, us: int) -> str:
        second = us // 1_000_000
        text = self._texts.get(second)
        if text is None:
            text = self._texts[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return text


def _field_texts(dice: random.Random) -> list[str]:
    """Some thousand ways to fill what describes a class, as pieces of JSON."""
    return [_fields(dice) for _ in range(4096)]


def _fields(dice: random.Random) -> str:
    grade = dice.randrange(1, 13)
    name = f"Lớp {grade}{dice.choice('ABCDEĐGH')}{dice.randrange(1, 15)}"
    school, teacher = text_id("school", dice.randrange(_SCHOOLS)), text_id("teacher", dice.randrange(_TEACHERS))
    return (
        f'"className":"{name}","grade":"Khối {grade}","academicYear":"2025-2026",'
        f'"totalStudents":{dice.randrange(18, 52)},"schoolId":"{school}","homeroomTeacherId":"{teacher}"'
    )
