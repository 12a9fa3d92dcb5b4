"""Records of changelogs that are no rows, by partition, as all readers of a process have met them."""

from collections.abc import Iterable
from datetime import UTC, datetime

from emis_streams.engine.row_filter import RowFilter
from emis_streams.lag_report import InvalidRecords

RECENT_SECONDS = 3600.0
"""So long health warns of the last one."""
WAY_OUT = "`emis-streams changelogs check --repair`"
_MOST_SHOWN = 5
"""Partitions that a line names."""


def of_filter(row_filter: RowFilter) -> tuple[InvalidRecords, ...]:
    """What one reader has met, sorted by partition."""
    return tuple(
        InvalidRecords(
            topic=topic,
            partition=partition,
            count=invalid.n,
            last_offset=invalid.last_offset,
            last_reason=invalid.last_reason,
            last_read_at=datetime.fromtimestamp(invalid.last_read_at, UTC),
        )
        for (topic, partition), invalid in sorted(row_filter.invalid.items())
    )


def merged(found: Iterable[InvalidRecords]) -> tuple[InvalidRecords, ...]:
    """Of each partition the entry with the highest count, sorted by partition."""
    most: dict[tuple[str, int], InvalidRecords] = {}
    for one in found:
        place = (one.topic, one.partition)
        if place not in most or one.count > most[place].count:
            most[place] = one
    return tuple(most[place] for place in sorted(most))


def is_recent(found: Iterable[InvalidRecords], now: datetime) -> bool:
    """Whether one was read within the last hour; `now` by this machine's clock, as the time of reading."""
    return any((now - one.last_read_at).total_seconds() < RECENT_SECONDS for one in found)


def in_words(found: Iterable[InvalidRecords]) -> str:
    """`topic-partition (count)` of the partitions with the most of them."""
    by_count = sorted(found, key=lambda one: -one.count)
    shown = [f"{one.topic}-{one.partition} ({one.count:,})" for one in by_count[:_MOST_SHOWN]]
    more = len(by_count) - _MOST_SHOWN
    return ", ".join([*shown, f"{more} more"] if more > 0 else shown)
