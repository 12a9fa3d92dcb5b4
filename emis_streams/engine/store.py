"""The rows of a table on this worker: one RocksDB (rocksdict) for each partition it owns.

Rows and the changelog position that they rest on are written in one batch. The write-ahead log is
off for everything: a crash goes back to the last flush, rows and position together, and what is
missing comes from the changelog.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from faust.stores.base import Store as FaustStore
from faust.types import TP
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from emis_streams.engine.database_errors import OnDisk, checked, is_unreadable, set_aside, told
from emis_streams.engine.follower import Position

_POSITION = b"\x00position"
"""Where the position is kept among the rows."""
_CHECKED = b"\x00checked"
"""The position, as it was written together with rows that were all checked; empty: without a position.

A release that checks no rows writes the position only: the two differ then, and the rows are checked again.
"""
_RESERVED = (_POSITION, _CHECKED)
_ESCAPE = b"\x00"
_FIRST_TEXT = b"\x01"
_MEMTABLE_BYTES = 16 << 20
_MEMTABLES_TOTAL_BYTES = 96 << 20
"""Of all databases of the process together (Faust's defaults would allow 192 MiB for each)."""
_BLOCK_CACHE_BYTES = 64 << 20
_BLOOM_BITS_PER_KEY = 10
_MEMTABLE_BLOOM_SHARE = 0.02
"""Of a memtable's bytes: about 30 bits for each of the 80,000 rows that fill it."""
_MAX_OPEN_FILES = 128

_shared_cache = Cache(_BLOCK_CACHE_BYTES)
_shared_memtables = WriteBufferManager(_MEMTABLES_TOTAL_BYTES, False)


def database_options() -> Options:
    """Options of one database; cache and memtables are shared by all databases of the process."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_write_buffer_manager(_shared_memtables)
    # Most keys that are looked for are in files only: a quarter less time for reads, a twentieth more for writes.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM_SHARE)
    options.set_max_open_files(_MAX_OPEN_FILES)
    # Rows are mostly random ids: packing them saves half the disk and costs a tenth of every read.
    options.set_compression_type(DBCompressionType.none())
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    tables = BlockBasedOptions()
    tables.set_block_cache(_shared_cache)
    tables.set_bloom_filter(_BLOOM_BITS_PER_KEY, False)
    tables.set_block_size(4 << 10)
    options.set_block_based_table_factory(tables)
    return options


def write_options() -> WriteOptions:
    options = WriteOptions()
    options.disable_wal = True
    return options


def encode_position(position: Position) -> bytes:
    return position.next_offset.to_bytes(8, "big") + position.topic_id.encode()


def decode_position(raw: bytes) -> Position:
    return Position(int.from_bytes(raw[:8], "big"), raw[8:].decode())


Opened = TypeVar("Opened")


def open_or_set_aside(path: Path, open_: Callable[[Path], Opened]) -> Opened:
    """Opens a database; one that cannot be read is set aside, and begun anew from its changelog.

    Raises InUse when another process has it open, Unusable when for one the disk is full.
    """
    try:
        return open_(path)
    except Exception as error:
        if not is_unreadable(error):
            raise told(path, error) from error
        set_aside(path, str(error))
    return open_(path)


def _are_text(in_order: list[bytes]) -> bool:
    """Whether none of the keys begins with a zero byte, as the position does."""
    return not in_order or in_order[0] >= _FIRST_TEXT


def _place_of(key: bytes) -> bytes:
    """Where a row is kept: any key may come from outside, also a reserved one."""
    return key + _ESCAPE if key.startswith(_RESERVED) else key


def _key_at(place: bytes) -> bytes:
    return place[: -len(_ESCAPE)] if place.startswith(_RESERVED) else place


class PartitionStore(OnDisk):
    """One partition's rows and how far its changelog is in them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._db = Rdict(str(path), database_options(), access_type=AccessType.read_write())
        self._options = write_options()
        self._db.set_write_options(self._options)
        raw = self._db.get(_POSITION)
        self.position: Position | None = None if raw is None else decode_position(raw)
        """Every changelog record before it is in the rows; the next batch writes it."""
        self.is_checked = self._db.get(_CHECKED) == (raw or b"")
        """Whether each row was found to be one when it was written (`table.remove_invalid_rows`)."""
        self._acknowledged_ahead: dict[int, int] = {}

    def acknowledged(self, base_offset: int, n_records: int) -> None:
        """Rows of ours stand in the changelog.

        The position never leads the data: it moves over acknowledged rows only, and not over a gap,
        where records of someone else may stand. An offset of -1 (the brokers did not say) leaves a gap.
        """
        if base_offset < 0:
            return
        if self.position is None or base_offset > self.position.next_offset:
            self._acknowledged_ahead[base_offset] = base_offset + n_records
        else:
            self.advance(Position(base_offset + n_records, self.position.topic_id))

    @property
    def has_gap(self) -> bool:
        """Whether records that are not ours stand before acknowledged ones of ours."""
        return bool(self._acknowledged_ahead)

    def advance(self, position: Position) -> None:
        """Moves the position on to `position`, and over what was acknowledged behind it; never back."""
        next_offset = position.next_offset
        if self.position is not None and self.position.topic_id == position.topic_id:
            next_offset = max(next_offset, self.position.next_offset)
        for base in sorted(self._acknowledged_ahead):
            if base <= next_offset:
                next_offset = max(next_offset, self._acknowledged_ahead.pop(base))
        self.position = Position(next_offset, position.topic_id)

    @checked
    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes | None]:
        """The row of each key, None where there is none."""
        in_order = sorted(set(keys))  # Neighbours share blocks: a fifth faster than in any order.
        places = in_order if _are_text(in_order) else [_place_of(key) for key in in_order]
        return dict(zip(in_order, self._db.get(places), strict=True))

    @checked
    def write(self, rows: Mapping[bytes, bytes]) -> None:
        """Rows and position, in one batch."""
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        in_order = sorted(rows)
        if _are_text(in_order):
            for key in in_order:
                put(key, rows[key])
        else:
            for key in in_order:
                put(_place_of(key), rows[key])
        position = b"" if self.position is None else encode_position(self.position)
        if position:
            put(_POSITION, position)
        if self.is_checked:
            put(_CHECKED, position)
        self._db.write(batch, self._options)

    @checked
    def delete(self, keys: Iterable[bytes]) -> None:
        """Removes rows that are none."""
        batch = WriteBatch(raw_mode=True)
        for key in keys:
            batch.delete(_place_of(key))
        self._db.write(batch, self._options)

    def rests_on_another(self, topic_id: str) -> bool:
        """Whether the rows were taken from, or sent to, another changelog than the topic with this id."""
        return self.position is not None and self.position.topic_id != topic_id

    @checked
    def forget_position(self) -> None:
        """The rows stay; the changelog is followed from its start."""
        batch = WriteBatch(raw_mode=True)
        batch.delete(_POSITION)
        if self.is_checked:
            batch.put(_CHECKED, b"")
        self._db.write(batch, self._options)
        self.position = None
        self._acknowledged_ahead.clear()

    def items(self, after: bytes | None = None) -> Iterable[tuple[bytes, bytes]]:
        """Keys and rows in the order of the keys, those behind `after`, as they are at the first."""
        rows = self._db.iter()
        skipped = None if after is None else _place_of(after)
        rows.seek(skipped or b"")
        while rows.valid():
            if rows.key() not in (_POSITION, _CHECKED, skipped):
                yield _key_at(rows.key()), rows.value()
            rows.next()
        rows.status()  # Raises: what cannot be read looks like the end.

    @checked
    def close(self) -> None:
        """Flushes, with the last acknowledgements: the next start has little to catch up."""
        self.write({})
        self._db.flush()
        self._db.close()


class Store(FaustStore[bytes, bytes]):
    """Faust's store of a table (`store="slices://"`), by partition. Rows are bytes, as they are kept."""

    mundane_level = "debug"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._partitions: dict[int, PartitionStore] = {}

    def path_of(self, partition: int) -> Path:
        return Path(self.app.conf.tabledir) / self.table_name / str(partition)

    @property
    def open_partitions(self) -> list[int]:
        return sorted(self._partitions)

    @property
    def closed_partitions(self) -> list[int]:
        """Those that are on this disk and whose owner is another worker now."""
        on_disk = {int(path.name) for path in self.path_of(0).parent.glob("*") if path.name.isdigit()}
        return sorted(on_disk - self._partitions.keys())

    def partition(self, number: int) -> PartitionStore:
        """The partition's rows; opened at the first call."""
        if number not in self._partitions:
            self._partitions[number] = open_or_set_aside(self.path_of(number), PartitionStore)
        return self._partitions[number]

    def close_partition(self, number: int) -> None:
        store = self._partitions.pop(number, None)
        if store is not None:
            store.close()

    def persisted_offset(self, tp: TP) -> int | None:
        store = self._partitions.get(tp.partition)
        return None if store is None or store.position is None else store.position.next_offset

    async def on_stop(self) -> None:
        for number in self.open_partitions:
            self.close_partition(number)

    # What Faust calls a table's mapping: by key only, over the open partitions. For pages and shells;
    # agents know their partition and use `partition()`.

    def __getitem__(self, key: bytes) -> bytes:
        for store in self._partitions.values():
            row = store.get_many([key])[key]
            if row is not None:
                return row
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and any(s.get_many([key])[key] is not None for s in self._partitions.values())

    def __iter__(self) -> Any:
        return (key for store in self._partitions.values() for key, _ in store.items())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        raise TypeError("rows are written by Table.write, together with their changelog")

    def __delitem__(self, key: bytes) -> None:
        raise TypeError("deletes are rows too: write a marker with Table.write")

    # Faust's recovery and its backup command, which the follower stands in for.

    def apply_changelog_batch(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("tables are caught up by the follower (engine/catch_up.py)")

    def reset_state(self) -> None:
        """Forgets this worker's rows of the table (`faust reset`); the changelog brings them back."""
        for number in self.open_partitions:
            self.close_partition(number)
        shutil.rmtree(self.path_of(0).parent, ignore_errors=True)

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("the changelog is the backup")

    def restore_backup(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("the changelog is the backup")
