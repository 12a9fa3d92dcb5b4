"""What a chart shows of a history: the highest figure of each fixed stretch of time, so that no peak gets lost."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from emis_streams.lag_report import HistoryPoint

BUCKET_SECONDS = 10
"""Buckets begin at whole multiples of it: a point belongs to the same bucket at every refresh."""
BUCKETS = 60
"""The last ten minutes. The history has as many seconds, so the oldest bucket never loses points while it is shown."""

Rows = list[tuple[datetime, tuple[float | None, ...]]]


def bucketed(points: Sequence[HistoryPoint], values: Callable[[HistoryPoint], tuple[float | None, ...]]) -> Rows:
    """The highest values of each bucket, the newest bucket first; None where nothing was measured in it."""
    found: dict[int, list[tuple[float | None, ...]]] = {}
    for point in points:
        found.setdefault(_bucket(point), []).append(values(point))
    if not found:
        return []
    newest, width = max(found), len(next(iter(found.values()))[0])
    oldest = max(min(found), newest - BUCKETS + 1)
    return [(_begin(bucket), _highest(found.get(bucket, ()), width)) for bucket in range(newest, oldest - 1, -1)]


def _bucket(point: HistoryPoint) -> int:
    return int(point.time.timestamp() // BUCKET_SECONDS)


def _begin(bucket: int) -> datetime:
    return datetime.fromtimestamp(bucket * BUCKET_SECONDS, UTC)


def _highest(rows: Iterable[tuple[float | None, ...]], width: int) -> tuple[float | None, ...]:
    columns = zip(*rows, strict=True)
    highest = tuple(max((value for value in column if value is not None), default=None) for column in columns)
    return highest or (None,) * width
