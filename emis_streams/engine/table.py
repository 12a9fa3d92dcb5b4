"""A Faust table that is written slice by slice: rows to RocksDB, changelog to the brokers, then done."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import faust
from aiokafka import TopicPartition

from emis_streams.engine.config_error import ConfigError
from emis_streams.engine.database_errors import DatabaseError
from emis_streams.engine.follower import ChangelogSlice, Merge, Position
from emis_streams.engine.row_filter import RowCheck
from emis_streams.engine.row_size import RowTooLarge, require_sizes
from emis_streams.engine.slices import Slice
from emis_streams.engine.store import PartitionStore, Store
from emis_streams.engine.topic_checks import TableTopics
from emis_streams.engine.writer import Writer

logger = logging.getLogger(__name__)

_SENT_AT_ONCE = 500
SendRows = Callable[[TopicPartition, Mapping[bytes, bytes]], Awaitable[None]]
"""Returns when the brokers have acknowledged the rows of that changelog partition."""


_OF_FAUST = (
    "default",
    "window",
    "schema",
    "on_recover",
    "recover_callbacks",
    "on_changelog_event",
    "on_window_close",
    "standby_buffer_size",
    "extra_topic_configs",
    "use_partitioner",
    "is_global",
    "synchronize_all_active_partitions",
)
"""Arguments of Faust's tables that would have no effect here."""


class Table(faust.Table):
    """Bytes to bytes, partitioned as its source topics, with a changelog that is the whole truth.

    `topics` are the source topics: the worker that owns partition n of them owns partition n of the
    table. `partitions` is how many they have; by default as many as they turn out to have.

    `merge(row, stored)` returns what is kept of two rows of a key, in whatever order they come: it has
    to give the same for (a, b) and (b, a), and change nothing where a row comes again. Without it the later
    one in the changelog is kept, also where that is one that an earlier owner of the partition wrote late.

    `check` says which records of the changelog are rows.

    Raises ConfigError.
    """

    mundane_level = "debug"

    def __init__(
        self,
        app: Any,
        *,
        topics: Sequence[str] = (),
        merge: Merge | None = None,
        check: RowCheck | None = None,
        **kwargs: Any,
    ) -> None:
        name = kwargs.get("name")
        if isinstance(topics, str) or not topics or not all(isinstance(topic, str) and topic for topic in topics):
            raise ConfigError(
                f"table {name}: topics={topics!r} has to be a list of the topics that its rows are made from: "
                "their partitions say which worker keeps which rows"
            )
        unknown = [argument for argument in _OF_FAUST if kwargs.get(argument)]
        unknown += [kind for kind in ("key_type", "value_type") if kwargs.get(kind) not in (None, bytes)]
        if unknown:
            raise ConfigError(
                f"table {name}: the engine has no {', '.join(unknown)}: keys and rows are bytes, kept by Table.write"
            )
        kwargs.update(key_type=bytes, value_type=bytes)
        super().__init__(app, **kwargs)
        self.source_topics = tuple(topics)
        self._sources = frozenset(topics)
        self.has_merge = merge is not None
        """Else an old row must not come into the changelog behind a newer one."""
        self.merge: Merge = merge or _last_wins
        self.check = check or RowCheck()

    def info(self) -> Mapping[str, Any]:
        merge = self.merge if self.has_merge else None
        return {**super().info(), "topics": self.source_topics, "merge": merge, "check": self.check}

    @property
    def table_topics(self) -> TableTopics:
        return TableTopics(self.name, self.source_topics, self.changelog_name, self.partitions)

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
        """The row that is kept of each of these keys of the slice's partition, None where there is none.

        Raises ConfigError if the slice is not of a source topic of this table.
        """
        self._check_source(batch)
        return self.store.partition(batch.partition).get_many(keys)

    def write(self, batch: Slice, rows: Mapping[bytes, bytes]) -> "asyncio.Future[None]":
        """Keeps the rows; the future resolves when the brokers have acknowledged the changelog.

        Raises ConfigError if the slice is not of a source topic of this table, TypeError for what is not bytes, and
        RowTooLarge: then nothing is kept.
        """
        self._check_source(batch)
        try:
            require_sizes(self.name, rows)
            self.store.partition(batch.partition).write(rows)
        except (DatabaseError, RowTooLarge):
            raise
        except Exception as error:
            self._check_rows(rows, error)
            raise
        return self.writer.send_rows(TopicPartition(self.changelog_name, batch.partition), rows)

    def _check_source(self, batch: Slice) -> None:
        """The same partition of another topic may be another worker's."""
        if batch.topic not in self._sources:
            raise ConfigError(
                f"table {self.name} is used with {batch!r}: its topics are {', '.join(self.source_topics)}; "
                "add the topic to topics=, if it is partitioned by the same keys"
            )

    def _check_rows(self, rows: Mapping[bytes, bytes], cause: Exception) -> None:
        for key, row in rows.items():
            if not isinstance(key, bytes) or not isinstance(row, bytes):
                raise TypeError(
                    f"table {self.name}: {type(row).__name__} by {type(key).__name__}: keys and rows are bytes; "
                    "what has no key cannot be kept, and a delete is a row of its own, which merge prefers"
                ) from cause

    # -- what Faust's tables can do and this one cannot -----------------------------------------

    def using_window(self, *_args: Any, **_kwargs: Any) -> Any:
        raise ConfigError(f"table {self.name}: the engine has no windows: put the window into the rows' keys")

    hopping = tumbling = using_window

    def on_key_set(self, key: Any, value: Any) -> None:
        raise TypeError(f"table {self.name}: rows are written by Table.write, with the slice that they come from")

    def on_key_del(self, key: Any) -> None:
        raise TypeError(f"table {self.name}: a delete is a row of its own, written by Table.write")

    def on_clear(self) -> None:
        raise TypeError(f"table {self.name}: a delete is a row of its own, written by Table.write")


def _last_wins(row: bytes, _stored: bytes | None) -> bytes:
    return row


class _Stored(NamedTuple):
    """A row of a store, as a check takes it."""

    key: bytes
    value: bytes


def _no_rows(check: RowCheck, changelog: str, stored: Mapping[bytes, bytes]) -> list[bytes]:
    """Keys of what is stored and is no row."""
    kept = [_Stored(*item) for item in stored.items()]
    return [kept[place].key for place, _ in check.refusals(changelog, kept)]


async def remove_invalid_rows(store: PartitionStore, changelog: str, check: RowCheck) -> None:
    """Removes what a release that did not check rows has kept of records that are none.

    The changelog is then followed from its start: it may still have the rows that they replaced. The position goes
    first, so that a crash in between leaves nothing out.
    """
    if store.is_checked:
        return
    last, n_removed = b"", 0
    while some := dict(islice(store.items(after=last), _SENT_AT_ONCE)):
        if invalid := _no_rows(check, changelog, some):
            store.forget_position()
            store.delete(invalid)
            n_removed += len(invalid)
        last = max(some)
        await asyncio.sleep(0)
    store.is_checked = True
    if n_removed:
        logger.warning("%s: removed %d stored records of %s that are no rows", store.path, n_removed, changelog)


async def send_all(store: PartitionStore, tp: TopicPartition, send_rows: SendRows, check: RowCheck) -> None:
    """All rows of the partition to its changelog; its position is forgotten once they are acknowledged.

    So a crash before that does it all again, and versions decide against what else is in the log. What is written
    meanwhile is queued behind what was read before: no iterator may outlive a send.
    """
    last: bytes | None = None
    n_rows = 0
    while some := dict(islice(store.items(after=last), _SENT_AT_ONCE)):
        last = max(some)
        for key in _no_rows(check, tp.topic, some):
            del some[key]
        await send_rows(tp, some)
        n_rows += len(some)
    store.forget_position()
    logger.warning("%s has lost records: sent again what this worker keeps of it, %d rows", tp, n_rows)


class TableSink:
    """Takes a table's partitions over from their changelogs, and keeps an eye on them afterwards.

    Tells of which keys the log ends with something else than the row that is kept: a worker that had lost its
    partition without noticing wrote an older row after the newer one, or somebody wrote what is no row. Compaction
    removes what was before. Their rows are to be sent again.
    """

    def __init__(self, tables: Iterable[Table], send_rows: SendRows) -> None:
        self._send_rows = send_rows
        self._tables = {table.changelog_name: table for table in tables}
        self.regressed: dict[TopicPartition, set[bytes]] = {}

    def partition(self, tp: TopicPartition) -> PartitionStore:
        return self._tables[tp.topic].store.partition(tp.partition)

    async def positions(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        return {tp: position for tp in tps if (position := self.partition(tp).position) is not None}

    async def reset(self, tp: TopicPartition) -> None:
        """The log no longer has what the table rests on (decision 0014): it gets the table's rows."""
        await send_all(self.partition(tp), tp, self._send_rows, self._tables[tp.topic].check)
        self.regressed.pop(tp, None)

    async def apply(self, slices: Sequence[ChangelogSlice]) -> None:
        for part in slices:
            self._apply(part)
            await asyncio.sleep(0)

    def _apply(self, part: ChangelogSlice) -> None:
        merge = self._tables[part.tp.topic].merge
        store = self.partition(part.tp)
        gone_back = self.regressed.setdefault(part.tp, set())
        rows: dict[bytes, bytes] = {}
        for key, stored in store.get_many(part.rows.keys() | part.regressed).items():
            if key not in part.rows:
                if stored is not None:
                    gone_back.add(key)
                continue
            row = part.rows[key][0]
            kept = merge(row, stored)
            if kept != stored:
                rows[key] = kept
            if kept == row and key not in part.regressed:
                gone_back.discard(key)
            else:
                gone_back.add(key)
        if not gone_back:
            # Else a crash before they are sent again would forget that they have gone back.
            store.advance(part.position)
        store.write(rows)

    def rows_to_send_again(self) -> dict[TopicPartition, dict[bytes, bytes]]:
        """The rows of the keys that have gone back in the log; forgets them."""
        again: dict[TopicPartition, dict[bytes, bytes]] = {}
        for tp, keys in self.regressed.items():
            if keys:
                found = self.partition(tp).get_many(keys)
                again[tp] = {key: row for key, row in found.items() if row is not None}
        self.regressed.clear()
        return again
