"""How old an answer can be, at most: asked of the lag monitor, remembered for a moment.

Thousands of requests a second need the same figure, which changes once a second.
"""

import math
import time
from typing import NamedTuple

import msgspec
from aiohttp import web

from emis_streams.answers import ClassDetail, Source, TeacherDetail
from emis_streams.node import Node

REMEMBERED_SECONDS = 0.1
_STEPS_SECONDS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0)
_DAY_SECONDS = 86_400.0


class Age(NamedTuple):
    """How old an answer can be that comes from there."""

    source: Source
    seconds: float | None
    stale: bool


class Freshness:
    """The age of this node's answers by where they come from; None where it is not known."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stale_after_seconds = node.settings.stale_after_seconds
        self._asked_at = float("-inf")
        self._ages: dict[Source, float | None] = {}
        self._endings: dict[Source, bytes] = {}

    def age_seconds(self, source: Source) -> float | None:
        """Upper bound on how old a copy is against the source topics."""
        now = time.monotonic()
        if now - self._asked_at >= REMEMBERED_SECONDS:
            self._ages.clear()
            self._endings.clear()
            self._asked_at = now
        if source not in self._ages:
            lag = self._node.lag
            self._ages[source] = None if lag is None else lag.age_seconds(now, source)
        return self._ages[source]

    def ending(self, source: Source) -> bytes:
        """How an encoded answer of now ends: its last two fields."""
        age = self.age_seconds(source)
        if source not in self._endings:
            said = msgspec.json.encode({"ageSeconds": age, "stale": self._is_stale(age)})
            self._endings[source] = b"," + said[1:]
        return self._endings[source]

    def _is_stale(self, age_seconds: float | None) -> bool:
        return age_seconds is None or age_seconds > self._stale_after_seconds

    def age(self, source: Source) -> Age:
        """How old an answer of now can be, and whether that is too old."""
        seconds = self.age_seconds(source)
        return Age(source, seconds, self._is_stale(seconds))

    def mark(self, answer: TeacherDetail | ClassDetail) -> None:
        """Writes its age into an answer."""
        _, answer.age_seconds, answer.stale = self.age(answer.source)

    def bound(self, source: Source) -> float | None:
        """As `age_seconds`, rounded up coarsely: a page that shows it stays the same while nothing happens.

        What is not stale is at most STALE_AFTER_SECONDS old; above that come 10 s, 30 s and so on.
        """
        seconds = self.age_seconds(source)
        if seconds is None or seconds <= self._stale_after_seconds:
            return None if seconds is None else self._stale_after_seconds
        days = math.ceil(seconds / _DAY_SECONDS) * _DAY_SECONDS
        return next((step for step in _STEPS_SECONDS if step >= seconds), days)


FRESHNESS: web.AppKey[Freshness] = web.AppKey("freshness", Freshness)
