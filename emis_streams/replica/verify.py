"""Compares the replica with the tables, by partition of their changelogs, while both go on changing.

For a partition that the replica has followed to position P:

1. everything before P must be in the replica: no row missing, none with a lower version;
2. everything in the replica must be in the changelog as it is after the replica was read: no row
   extra, none with a higher version, none with other data.

So nothing that happens meanwhile is taken for a difference.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, cast

import msgspec
from aiokafka import TopicPartition
from sqlalchemy import ColumnElement, Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emis_streams import database, topics
from emis_streams.database_faults import waited_for
from emis_streams.errors import InvalidEvent
from emis_streams.replica.changelogs import Changelogs, open_changelogs
from emis_streams.replica.comparison import Difference, Found, difference, is_readable, key_of
from emis_streams.replica.schema import BY_CHANGELOG, TABLES, replica_positions
from emis_streams.settings import Settings

LISTED = 1_000
"""Differences that are listed of a partition; all are counted."""
_CHUNK_ROWS = 2_000
_LOOKED_UP_ROWS = 500
_POLL_SECONDS = 0.5

Progress = Callable[[int], None]
Rows = dict[bytes, bytes]


class PartitionResult(msgspec.Struct, rename="camel"):
    """One partition of a changelog, compared."""

    topic: str
    partition: int
    position: int | None
    """Next offset that the replica follows; None: never followed."""
    end: int
    """Where the log ended when the comparison began."""
    rows: int
    """Rows compared."""
    unreadable: int
    """Rows of the changelog that no replica can have (dead-lettered)."""
    no_rows: int
    """Records of the changelog that are no rows and the last ones of their keys: `emis-streams changelogs check`."""
    outside_log: bool
    """Whether the position is after the end of the log, which has lost records then."""
    differences: list[Difference] = []
    n_differences: int = 0

    @property
    def behind(self) -> int:
        return max(0, self.end - (self.position or 0))

    @property
    def is_equal(self) -> bool:
        return not (self.behind or self.outside_log or self.n_differences or self.no_rows)


class Result(msgspec.Struct, rename="camel"):
    """The whole comparison."""

    equal: bool
    partitions: list[PartitionResult]


async def verify(config: Settings, wait_seconds: float, note_total: Progress, advance: Progress) -> Result:
    """Compares all partitions, after waiting for the replica to reach the ends that the logs have now.

    `note_total` is told how many records are to be read, `advance` how many were. Raises Unavailable.
    """
    engine = database.statement_engine(config.database_url, 1)
    try:
        async with open_changelogs(config) as logs, waited_for("comparing the replica"):
            ends, begins = await logs.ends(), await logs.begins()
            note_total(sum(ends.values()) - sum(begins.values()))
            positions = await reached(engine, ends, wait_seconds)
            results = []
            for tp in logs.partitions:
                results.append(await _compare(engine, logs, tp, begins[tp], positions.get(tp), ends[tp], advance))
            return Result(all(result.is_equal for result in results), results)
    finally:
        await engine.dispose()


async def reached(
    engine: AsyncEngine, ends: dict[TopicPartition, int], wait_seconds: float
) -> dict[TopicPartition, int]:
    """Positions of the replica, when all have reached `ends` or the time is over."""
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        positions = await positions_in(engine)
        level = all(positions.get(tp, 0) >= end for tp, end in ends.items())
        if level or asyncio.get_running_loop().time() >= deadline:
            return positions
        await asyncio.sleep(_POLL_SECONDS)


async def positions_in(engine: AsyncEngine) -> dict[TopicPartition, int]:
    """Next offsets that the replica has kept."""
    async with engine.connect() as connection:
        found = await connection.execute(select(replica_positions))
        return {TopicPartition(r.Topic, r.Partition): r.NextOffset for r in found}


async def _compare(
    engine: AsyncEngine,
    logs: Changelogs,
    tp: TopicPartition,
    begin: int,
    position: int | None,
    end: int,
    advance: Progress,
) -> PartitionResult:
    subject = BY_CHANGELOG[tp.topic]
    log_end = (await logs.ends())[tp]
    followed = min(max(begin, position or 0), log_end)
    expected: Rows = {}
    await _read(logs, tp, begin, followed, expected, advance)
    comparison = _Comparison(subject, expected)
    async with engine.connect() as connection:
        async for found in _rows_of(connection, TABLES[subject], tp.partition):
            comparison.meet(found)
        for keys in _chunks(comparison.unmet, _LOOKED_UP_ROWS):
            comparison.look_up(keys, await _rows_by_key(connection, subject, keys))
    if comparison.suspects:
        # They may come of what was written since.
        await _read(logs, tp, followed, (await logs.ends())[tp], expected, lambda _: None)
        comparison.decide()
    differences = comparison.differences
    return PartitionResult(
        tp.topic,
        tp.partition,
        position,
        end,
        len(expected),
        comparison.unreadable,
        len(logs.no_rows.get(tp, ())),
        position is not None and position > log_end,
        differences[:LISTED],
        len(differences),
    )


class _Comparison:
    """Of one partition: rows of the replica are met, those not met are looked up, the suspects decided last."""

    def __init__(self, subject: topics.Subject, expected: Rows) -> None:
        self._subject = subject
        self._expected = expected
        readable = {key for key, row in expected.items() if is_readable(subject, key, row)}
        self.unreadable = len(expected) - len(readable)
        self.unmet = readable
        self.differences: list[Difference] = []
        self.suspects: list[Found] = []

    def meet(self, found: Found) -> None:
        """A row that the replica has from this partition."""
        key = key_of(self._subject, found)
        self.unmet.discard(key)
        self._judge(key, found)

    def look_up(self, keys: list[bytes], found: dict[bytes, Found]) -> None:
        """Rows that the replica may have from another partition: there it may be newer."""
        for key in keys:
            differs = difference(self._subject, key, self._expected[key], found.get(key))
            if differs is not None and differs.kind != "newer":
                self.differences.append(differs)

    def decide(self) -> None:
        """Judges the suspects again, with everything that the changelog has."""
        suspects, self.suspects = self.suspects, []
        for found in suspects:
            key = key_of(self._subject, found)
            differs = self._difference(key, found)
            if differs is not None and differs.kind != "older":
                self.differences.append(differs)

    def _judge(self, key: bytes, found: Found) -> None:
        differs = self._difference(key, found)
        if differs is None:
            return
        if differs.kind == "older":
            self.differences.append(differs)
        else:
            self.suspects.append(found)

    def _difference(self, key: bytes, found: Found) -> Difference | None:
        row = self._expected.get(key)
        try:
            return difference(self._subject, key, row, found)
        except InvalidEvent:
            return None  # dead-lettered: the replica keeps what it had


async def _read(logs: Changelogs, tp: TopicPartition, start: int, end: int, into: Rows, advance: Progress) -> None:
    at = start
    async for reached_offset in logs.read(tp, start, end, into):
        advance(reached_offset - at)
        at = reached_offset


async def _rows_of(connection: AsyncConnection, table: Table, partition: int) -> AsyncIterator[Found]:
    query = select(table).where(table.c.ChangelogPartition == partition)
    streamed = await connection.stream(query, execution_options={"yield_per": _CHUNK_ROWS})
    async for found in streamed.mappings():
        yield cast(Found, found)


async def _rows_by_key(connection: AsyncConnection, subject: topics.Subject, keys: list[bytes]) -> dict[bytes, Found]:
    found = await connection.execute(select(TABLES[subject]).where(_has_key(TABLES[subject], keys)))
    return {key_of(subject, row): row for row in cast(Iterable[Found], found.mappings())}


def _has_key(table: Table, keys: list[bytes]) -> ColumnElement[bool]:
    columns: list[Any] = list(table.primary_key)
    if len(columns) == 1:
        return columns[0].in_([key.decode() for key in keys])  # type: ignore[no-any-return]
    return tuple_(*columns).in_([tuple(key.decode().split("|")) for key in keys])


def _chunks(keys: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    left = iter(sorted(keys))
    while chunk := list(islice(left, size)):
        yield chunk
