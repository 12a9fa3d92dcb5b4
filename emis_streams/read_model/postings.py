"""Lists of index entries in the order of their suffixes, and what they have in common: by seeks, within a bound."""

import heapq
from collections.abc import Sequence
from typing import Protocol

from emis_streams.read_model.local_copy import LocalCopy

_SEEK_COST = 10
"""A seek takes about as long as this many steps to the next entry."""
_STEPS_BEFORE_SEEK = 4
"""The entry that is sought is often one of the next."""


class Work:
    """What a search has cost so far, in steps of an iterator (some µs each)."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.done = 0

    @property
    def is_done(self) -> bool:
        return self.done >= self.most


class Sorted(Protocol):
    """Suffixes in their order."""

    def seek(self, suffix: bytes) -> bytes | None:
        """The first one that is not less; None if there is none. Never goes back."""


class Postings:
    """The suffixes of all entries that begin with a prefix, as of now."""

    def __init__(self, copy: LocalCopy, prefix: bytes, work: Work) -> None:
        self._copy = copy
        self._prefix = prefix
        self._work = work
        self._end = prefix + b"\xff"
        self._it = copy.iterator(self._end)
        self._current: bytes | None = b""
        self._has_begun = False

    def seek(self, suffix: bytes) -> bytes | None:
        if self._has_begun and (self._current is None or self._current >= suffix):
            return self._current
        if self._has_begun:
            for _ in range(_STEPS_BEFORE_SEEK):
                self._it.next()
                self._work.done += 1
                if self._read() is None or self._current >= suffix:  # type: ignore[operator]
                    return self._current
        self._has_begun = True
        self._it.seek(self._prefix + suffix)
        self._work.done += _SEEK_COST
        return self._read()

    def _read(self) -> bytes | None:
        if self._it.valid():
            self._current = self._it.key()[len(self._prefix) :]
        else:
            self._copy.check_end(self._it)
            self._current = None
        return self._current


class Union:
    """The suffixes of any of some lists."""

    def __init__(self, lists: Sequence[Sorted]) -> None:
        self._lists = lists
        self._firsts: list[tuple[bytes, int]] | None = None

    def seek(self, suffix: bytes) -> bytes | None:
        if self._firsts is None:
            found = ((one.seek(suffix), place) for place, one in enumerate(self._lists))
            self._firsts = [(first, place) for first, place in found if first is not None]
            heapq.heapify(self._firsts)
        firsts = self._firsts
        while firsts and firsts[0][0] < suffix:
            place = firsts[0][1]
            first = self._lists[place].seek(suffix)
            if first is None:
                heapq.heappop(firsts)
            else:
                heapq.heapreplace(firsts, (first, place))
        return firsts[0][0] if firsts else None


def next_common(lists: Sequence[Sorted], suffix: bytes, work: Work) -> tuple[bytes | None, bool]:
    """The first suffix, not less than this, that all lists have; None if there is none.

    False: the work was done before; the suffix is the last one that was looked at, and not in all lists.
    """
    while True:
        candidate = lists[0].seek(suffix)
        if candidate is None:
            return None, True
        for other in lists[1:]:
            found = other.seek(candidate)
            if found is None:
                return None, True
            if found != candidate:
                suffix = found
                break
        else:
            return candidate, True
        if work.is_done:
            return candidate, False
