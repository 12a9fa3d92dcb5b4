"""A Faust table that is written slice by slice: rows to RocksDB, changelog to the brokers, then done."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import faust
from aiokafka import TopicPartition

from emis_streams.engine.follower import ChangelogSlice, Position, Wins
from emis_streams.engine.slices import Slice
from emis_streams.engine.store import PartitionStore, Store
from emis_streams.engine.writer import Writer

logger = logging.getLogger(__name__)

_WINDOW_ROWS = 50_000
"""About 16 MB of each partition that is being read."""
_CHUNK_ROWS = 2_000
"""Written at once while others use the event loop."""


class Table(faust.Table):
    """Bytes to bytes, partitioned as its source topics, with a changelog that is the whole truth.

    `wins(row, stored)` says which of two rows of a key is kept. `topics` are the source topics: the
    worker that owns partition n of them owns partition n of the table.
    """

    mundane_level = "debug"

    def __init__(self, app: Any, *, topics: Sequence[str] = (), wins: Wins | None = None, **kwargs: Any) -> None:
        kwargs.update(key_type=bytes, value_type=bytes)
        super().__init__(app, **kwargs)
        self.source_topics = tuple(topics)
        self.wins: Wins = wins or _last_wins

    def info(self) -> Mapping[str, Any]:
        return {**super().info(), "topics": self.source_topics, "wins": self.wins}

    @property
    def store(self) -> Store:
        store = self.data
        assert isinstance(store, Store), f"table {self.name} needs store='slices://'"
        return store

    @property
    def changelog_name(self) -> str:
        return self.changelog_topic.get_topic_name()

    @property
    def writer(self) -> Writer:
        writer: Writer = self.app.tables.writer
        return writer

    async def on_start(self) -> None:
        # Faust's own would also declare the changelog topic: topics are made outside of workers.
        await self.add_runtime_dependency(self.data)

    def stored(self, batch: Slice, keys: Iterable[bytes]) -> dict[bytes, bytes | None]:
        """The row that is kept of each of these keys of the slice's partition, None where there is none."""
        return self.store.partition(batch.partition).get_many(keys)

    def write(self, batch: Slice, rows: Mapping[bytes, bytes]) -> "asyncio.Future[None]":
        """Keeps the rows; the future resolves when the brokers have acknowledged the changelog."""
        self.store.partition(batch.partition).write(rows)
        return self.writer.send_rows(TopicPartition(self.changelog_name, batch.partition), rows)


def _last_wins(_row: bytes, _stored: bytes | None) -> bool:
    return True


@dataclass
class _Window:
    """What was read of a partition and is not written yet: the highest version of each key."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    position: Position | None = None


class TableSink:
    """Takes a table's partitions over from their changelogs, and keeps an eye on them afterwards.

    Rows are gathered in a window before they are looked up and written: a changelog holds several
    versions of most keys, and only the highest costs a look-up (docs/decisions/0004-catching-up.md).

    Tells which keys have gone back in the log: a worker that had lost its partition without noticing
    wrote an older row after the newer one. Their rows are to be sent again (design, 2.8).
    """

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = {table.changelog_name: table for table in tables}
        self._windows: dict[TopicPartition, _Window] = {}
        self.regressed: dict[TopicPartition, set[bytes]] = {}

    def partition(self, tp: TopicPartition) -> PartitionStore:
        return self._tables[tp.topic].store.partition(tp.partition)

    async def positions(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        await self.flush()
        return {tp: position for tp in tps if (position := self.partition(tp).position) is not None}

    async def reset(self, tp: TopicPartition) -> None:
        self._windows.pop(tp, None)
        self.partition(tp).clear()

    async def apply(self, slices: Sequence[ChangelogSlice]) -> None:
        for part in slices:
            window = self._windows.setdefault(part.tp, _Window())
            self._gather(part, window)
            if len(window.rows) >= _WINDOW_ROWS:
                await self._flush(part.tp)
            await asyncio.sleep(0)

    def _gather(self, part: ChangelogSlice, window: _Window) -> None:
        wins = self._tables[part.tp.topic].wins
        gone_back = self.regressed.setdefault(part.tp, set())
        rows = window.rows
        for key, (row, _written_ms) in part.rows.items():
            if wins(row, rows.get(key)):
                rows[key] = row
                gone_back.discard(key)
            else:
                gone_back.add(key)
        gone_back |= part.regressed
        window.position = part.position

    async def flush(self) -> None:
        """Writes what was gathered. The position is kept with the last rows: it never leads them."""
        for tp in list(self._windows):
            await self._flush(tp)

    async def _flush(self, tp: TopicPartition) -> None:
        window = self._windows.pop(tp)
        store = self.partition(tp)
        gone_back = self.regressed[tp]
        is_empty = store.is_empty()
        keys = sorted(window.rows)
        for at in range(0, len(keys), _CHUNK_ROWS):
            chunk = keys[at : at + _CHUNK_ROWS]
            store.write(self._winning(tp, chunk, window.rows, {} if is_empty else store.get_many(chunk)))
            await asyncio.sleep(0)
        assert window.position is not None
        if not gone_back:
            # Else a crash before they are sent again would forget that they have gone back.
            store.advance(window.position)
        store.write({})

    def _winning(
        self,
        tp: TopicPartition,
        keys: Iterable[bytes],
        rows: Mapping[bytes, bytes],
        stored: Mapping[bytes, bytes | None],
    ) -> dict[bytes, bytes]:
        wins = self._tables[tp.topic].wins
        winning = {key: rows[key] for key in keys if wins(rows[key], stored.get(key))}
        self.regressed[tp].update(key for key in keys if key not in winning)
        return winning

    def rows_to_send_again(self) -> dict[TopicPartition, dict[bytes, bytes]]:
        """The rows of the keys that have gone back in the log; forgets them."""
        again: dict[TopicPartition, dict[bytes, bytes]] = {}
        for tp, keys in self.regressed.items():
            if keys:
                found = self.partition(tp).get_many(keys)
                again[tp] = {key: row for key, row in found.items() if row is not None}
        self.regressed.clear()
        return again
