"""How many entries a teacher's list of classes has: counted when somebody asks, and kept exact while classes change.

Almost every list fits on one page, whose length is the count. So nothing is counted when rows are written, but for the
teachers that were asked about: their counts move with the batch that moves their index entries.
"""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from emis_streams.read_model.keys import CLASSES_OF_TEACHER, ID_BYTES, PAIR_BYTES
from emis_streams.read_model.local_copy import LocalCopy, MovedIndexKey, range_of

MOST_COUNTED_AT_ONCE = 10_000
"""Entries that one question may count, at one or two µs each; the rest is counted in the background."""
MOST_REMEMBERED = 1_000
"""Teachers; the one that was asked about longest ago is forgotten."""
MOST_WANTED = 16
"""Teachers whose count waits for the background; others are taken up when they are asked about again."""
_STEP_ENTRIES = 2_000
_REST = 9.0
"""The background rests this many times as long as it counts: it takes a tenth of a processor at most."""
_HOMEROOM_KEY_BYTES = 1 + PAIR_BYTES


class Count(NamedTuple):
    """Of entries; `is_all`: there are no others."""

    n: int
    is_all: bool


def positions_of(keys: Iterable[bytes]) -> Iterator[bytes]:
    """Index keys of the entries of a list: all but homeroom classes that have an assignment."""
    homeroom: bytes | None = None
    for key in keys:
        if homeroom is not None and not key.startswith(homeroom):
            yield homeroom
        if len(key) == _HOMEROOM_KEY_BYTES:
            homeroom = key
        else:
            homeroom = None
            yield key
    if homeroom is not None:
        yield homeroom


class EntryCounts:
    """Of one local copy; `run` counts in the background until cancelled."""

    def __init__(self, copy: LocalCopy, most_at_once: int = MOST_COUNTED_AT_ONCE) -> None:
        self._copy = copy
        self._most_at_once = most_at_once
        self._exact: OrderedDict[bytes, int] = OrderedDict()
        self._at_least: OrderedDict[bytes, int] = OrderedDict()
        """Of teachers whose count is not known yet."""
        self._moved_meanwhile: dict[bytes, int] = {}
        """By teacher that is being counted: how its count has changed since that began."""
        self._followed = (self._exact, self._at_least, self._moved_meanwhile)
        self._wanted: deque[bytes] = deque()
        self._has_wanted = asyncio.Event()

    def __len__(self) -> int:
        """Teachers that are remembered."""
        return len(self._exact) + len(self._at_least)

    def of(self, teacher_id: bytes) -> Count:
        """The count, or as much of it as one question may cost."""
        if teacher_id in self._exact:
            self._exact.move_to_end(teacher_id)
            return Count(self._exact[teacher_id], True)
        if teacher_id not in self._at_least:
            n = _length(islice(self._positions(teacher_id), self._most_at_once + 1))
            if n <= self._most_at_once:
                _remember(self._exact, teacher_id, n)
                return Count(n, True)
            _remember(self._at_least, teacher_id, self._most_at_once)
        self._want(teacher_id)
        return Count(self._at_least[teacher_id], False)

    async def run(self, clock: Callable[[], float] = time.thread_time) -> None:
        """Counts what is wanted, one teacher after the other."""
        while True:
            await self._has_wanted.wait()
            while self._wanted:
                await self._count(self._wanted[0], clock)
                self._wanted.popleft()
            self._has_wanted.clear()

    async def _count(self, teacher_id: bytes, clock: Callable[[], float]) -> None:
        self._moved_meanwhile[teacher_id] = 0
        positions, n = self._positions(teacher_id), 0  # As of now: an iterator does not see later writes.
        while True:
            began = clock()
            counted = _length(islice(positions, _STEP_ENTRIES))
            n += counted
            if counted < _STEP_ENTRIES:
                break
            await asyncio.sleep(_REST * (clock() - began))
        self._at_least.pop(teacher_id, None)
        _remember(self._exact, teacher_id, n + self._moved_meanwhile.pop(teacher_id))

    def _want(self, teacher_id: bytes) -> None:
        if teacher_id not in self._wanted and len(self._wanted) < MOST_WANTED:
            self._wanted.append(teacher_id)
            self._has_wanted.set()

    @contextmanager
    def moving(self, moved: Sequence[MovedIndexKey]) -> Iterator[None]:
        """Around the write that moves these index entries. Costs something only for teachers that are remembered."""
        pairs = self._assignments_moved(moved)
        before = {pair: self._is_only_homeroom(pair) for pair in pairs}
        yield
        for pair, n_assignments in pairs.items():
            change = n_assignments + self._is_only_homeroom(pair) - before[pair]
            teacher_id = _teacher_of(pair)
            if teacher_id in self._exact:
                self._exact[teacher_id] += change
            if teacher_id in self._moved_meanwhile:
                self._moved_meanwhile[teacher_id] += change
            if teacher_id in self._at_least:
                self._at_least[teacher_id] = max(0, self._at_least[teacher_id] + min(0, change))

    def _assignments_moved(self, moved: Sequence[MovedIndexKey]) -> Counter[bytes]:
        """Of every teacher and class that is followed: how many assignments more it has."""
        pairs: Counter[bytes] = Counter()
        if not any(self._followed):
            return pairs
        for before, after in moved:
            for key, change in ((before, -1), (after, 1)):
                if key is not None and self._follows(key):
                    pairs[key[:_HOMEROOM_KEY_BYTES]] += change if len(key) > _HOMEROOM_KEY_BYTES else 0
        return pairs

    def _follows(self, key: bytes) -> bool:
        teacher_id = _teacher_of(key)
        return key.startswith(CLASSES_OF_TEACHER) and any(teacher_id in of for of in self._followed)

    def _is_only_homeroom(self, pair: bytes) -> bool:
        """Whether the class is an entry of its own for being the teacher's homeroom class."""
        first = next(positions_of(islice(self._copy.scan_keys(pair, pair + b"}"), 2)), None)
        return first == pair

    def _positions(self, teacher_id: bytes) -> Iterator[bytes]:
        return positions_of(self._copy.scan_keys(*range_of(CLASSES_OF_TEACHER + teacher_id)))


def _teacher_of(key: bytes) -> bytes:
    return key[1 : 1 + ID_BYTES]


def _length(found: Iterable[object]) -> int:
    return sum(1 for _ in found)


def _remember(of: OrderedDict[bytes, int], teacher_id: bytes, n: int) -> None:
    of[teacher_id] = n
    of.move_to_end(teacher_id)
    if len(of) > MOST_REMEMBERED:
        of.popitem(last=False)
