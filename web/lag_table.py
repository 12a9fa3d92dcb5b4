"""Which rows the tables of the consumer-lag page show, in which order, and where their links lead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from emis_streams.lag_report import SEVERITIES, FollowerPartition, Owner, PartitionLag
from emis_streams.node import NODE
from web.addresses import page_of
from web.parameters import any_text, one_of

Direction = Literal["ascending", "descending"]

SORTS: dict[str, Callable[[PartitionLag], tuple[object, ...]]] = {
    "partition": lambda p: (p.topic, p.partition),
    "state": lambda p: (-SEVERITIES.index(p.severity), p.state, -(p.lag or 0), p.topic, p.partition),
    "lag": lambda p: (-(p.lag or 0), p.topic, p.partition),
    "seconds": lambda p: (-(p.lag_seconds or 0.0), p.topic, p.partition),
    "owner": lambda p: ("" if p.owner is None else p.owner.client_id, p.topic, p.partition),
}
DIRECTIONS: dict[str, Direction] = {
    "partition": "ascending",
    "state": "descending",
    "lag": "descending",
    "seconds": "descending",
    "owner": "ascending",
}
"""As screen readers are to name the order."""
ONLY = one_of("only", ("lag", "all"), "all")
SORT = one_of("sort", SORTS, "partition")
FILTER = any_text("filter")
OPEN = any_text("open")
"""Tables that are shown, by their ids with commas between: others are sent when somebody opens them."""
_MOST_FILTER_CHARACTERS = 100


@dataclass(frozen=True)
class LagTable:
    """What a reader asked for, by the address of the page: it stays so when the page is refreshed."""

    only_lag: bool
    sort: str
    filter: str
    """Words, in small letters: a row has all of them somewhere in its topic, partition, state or owner."""
    opened: frozenset[str] = frozenset()
    """Ids of the tables that the reader has opened."""

    @staticmethod
    def of(request: web.Request) -> "LagTable":
        text = FILTER.of(request)[:_MOST_FILTER_CHARACTERS].strip()
        opened = frozenset(OPEN.of(request).split(","))
        return LagTable(ONLY.of(request) == "lag", SORT.of(request), text.lower(), opened)

    @property
    def is_narrowed(self) -> bool:
        """Whether all tables are shown open: somebody looks for something in them."""
        return self.only_lag or bool(self.filter)

    @property
    def is_changed(self) -> bool:
        """Whether rows are not all there, or not in their usual order."""
        return self.is_narrowed or self.sort != "partition"

    def is_open(self, table_id: str) -> bool:
        """Whether a table is sent: a closed one has hundreds of rows that nobody sees, every two seconds.

        Sorting opens none: the table whose heading was clicked would move away.
        """
        return self.is_narrowed or table_id in self.opened

    def partitions(self, partitions: Sequence[PartitionLag]) -> list[PartitionLag]:
        """Of a group, sorted: all or only those that lag or need a look."""
        rows = [p for p in partitions if self._has(_words(p)) and (not self.only_lag or p.lag or p.severity != "ok")]
        return sorted(rows, key=SORTS[self.sort])

    def follower_partitions(self, partitions: Sequence[FollowerPartition]) -> list[FollowerPartition]:
        """Of a copy that is fed by changelogs."""
        return [p for p in partitions if self._has(f"{p.topic}-{p.partition}") and (not self.only_lag or p.lag)]

    def _has(self, text: str) -> bool:
        return all(word in text.lower() for word in self.filter.split())

    def direction(self, sort: str) -> Direction | None:
        """Of a column, if it is the one that is sorted by."""
        return DIRECTIONS[sort] if sort == self.sort else None


def _words(p: PartitionLag) -> str:
    owner = "" if p.owner is None else f"{p.owner.client_id} {p.owner.host}"
    return f"{p.topic}-{p.partition} {p.topic} {p.state} {owner}"


def with_query(request: web.Request, **changed: str | None) -> str:
    """The address of the page with other parameters. Without the path, as in `pages.render`."""
    query = {**request.query, **changed}
    url = request.rel_url.with_query({name: value for name, value in query.items() if value is not None})
    return f"?{url.raw_query_string}"


def owner_page(request: web.Request, owner: Owner) -> str | None:
    """Where the pages of a partition's owner are, if it goes by host:port."""
    return page_of(owner.client_id, request.app[NODE].settings)
