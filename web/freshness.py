"""How old an answer can be, at most: asked of the lag monitor, remembered for a moment.

Thousands of requests a second need the same figure, which changes once a second.
"""

import time

from aiohttp import web

from emis_streams.answers import ClassDetail, Source, TeacherDetail
from emis_streams.node import Node

REMEMBERED_SECONDS = 0.1


class Freshness:
    """The age of this node's answers by where they come from; None where it is not known."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stale_after_seconds = node.settings.stale_after_seconds
        self._asked_at = float("-inf")
        self._ages: dict[Source, float | None] = {}

    def age_seconds(self, source: Source) -> float | None:
        """Upper bound on how old a copy is against the source topics."""
        now = time.monotonic()
        if now - self._asked_at >= REMEMBERED_SECONDS:
            self._ages.clear()
            self._asked_at = now
        if source not in self._ages:
            lag = self._node.lag
            self._ages[source] = None if lag is None else lag.age_seconds(time.time(), source)
        return self._ages[source]

    def mark(self, answer: TeacherDetail | ClassDetail) -> None:
        """Write into an answer how old it can be, and whether that is too old."""
        age = self.age_seconds(answer.source)
        answer.age_seconds = age
        answer.stale = age is None or age > self._stale_after_seconds


FRESHNESS: web.AppKey[Freshness] = web.AppKey("freshness", Freshness)
