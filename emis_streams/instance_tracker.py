"""Which instances of workers and services there are, as two sources tell, and since when one is missing. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from emis_streams.lag_report import Camel

InstanceHealth = Literal["healthy", "degraded", "unhealthy"]
Source = Literal["self", "registry", "groups"]

FORGET_AFTER = timedelta(hours=24)
"""What is missing for so long is shown no longer."""
MOST_INSTANCES = 1_000
"""That are remembered: whoever may join a group or write the registry can make names up."""


class Instance(Camel, frozen=True, kw_only=True):
    """A process of a worker or a service."""

    name: str
    """host:port, or INSTANCE_NAME."""
    service: str
    address: str | None
    """host:port of its pages, if that is known."""
    sources: tuple[Source, ...]
    """Who tells of it: this process of itself, the registry, the brokers of the members of groups."""
    groups: tuple[str, ...] = ()
    """Consumer groups that it is a member of."""
    partitions: int = 0
    """That are assigned to it in these groups."""
    health: InstanceHealth | None = None
    """By its own checks, as this process makes them or the registry has them; null if neither is known."""
    health_since: datetime | None = None
    """Since when it is degraded, unhealthy or shutting down; null while it is well, or if that is not known."""
    is_draining: bool = False
    version: str | None = None
    started_at: datetime | None = None
    missing_since: datetime | None = None
    """When it was last there; null while it is."""


class InstanceTracker:
    """Remembers who was there: an instance that goes without leaving the registry is missing."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Instance, datetime]] = {}

    def note(self, now: datetime, there: Iterable[Instance], lapsed: Iterable[Instance], known: set[Source]) -> None:
        """What the sources that are `known` now tell; of the others, what they told last stands.

        `lapsed` are instances that the registry has not heard of for too long, with `missing_since`.
        """
        present = {one.name: one for one in there}
        for name, (last, at) in list(self._seen.items()):
            if name not in present and last.missing_since is None and set(last.sources) <= known:
                if "registry" in last.sources:
                    del self._seen[name]  # It left; one that did not is among the lapsed.
                else:
                    self._seen[name] = (msgspec.structs.replace(last, missing_since=at), at)
        for one in lapsed:
            if one.name not in present and one.missing_since is not None:
                self._seen[one.name] = (one, one.missing_since)
        for name, one in present.items():
            self._seen[name] = (one, now)
        self._forget(now)

    def _forget(self, now: datetime) -> None:
        kept = {name: one for name, one in self._seen.items() if now - one[1] < FORGET_AFTER}
        newest = sorted(kept.items(), key=lambda item: (item[1][0].missing_since is not None, -item[1][1].timestamp()))
        self._seen = dict(newest[:MOST_INSTANCES])

    def all(self) -> list[Instance]:
        """Missing ones first, then by service and name."""
        found = [one for one, _ in self._seen.values()]
        return sorted(found, key=lambda one: (one.missing_since is None, one.service, one.name))
