"""A copy on this node of what changelogs say: one RocksDB, whose keys are laid out in `keys`.

Each row is kept behind the time (ms, 8 bytes) of its changelog record, which is `lastSyncedAt`.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from emis_streams import rows
from emis_streams.engine.database_errors import OnDisk, checked
from emis_streams.read_model.keys import TIME_BYTES

_MEMTABLE_BYTES = 16 << 20
_BLOCK_CACHE_BYTES = 128 << 20
_BLOOM_BITS_PER_KEY = 10
_AFTER_BAR = b"}"
"""The byte after `|`: ends the range of a prefix."""
_DELETES_WINDOW, _DELETES_IN_WINDOW = 1_024, 512
"""A file with as many deletes among so many entries is compacted: a scan reads over every delete that is left."""

MovedIndexKey = tuple[bytes | None, bytes | None]
"""The index entry of a row before and after a write; None: there is none."""


class IndexChanges:
    """What a write changes in the indexes."""

    def __init__(self) -> None:
        self.removed: list[bytes] = []
        self.added: list[bytes] = []
        self.moved: list[MovedIndexKey] = []
        """Of those, the entries of lists of classes."""

    def move(self, before: bytes | None, after: bytes | None) -> None:
        """One entry, which moves unless both are equal."""
        if before == after:
            return
        if before is not None:
            self.removed.append(before)
        if after is not None:
            self.added.append(after)

    def put_into(self, batch: WriteBatch) -> None:
        """In the order of the keys: RocksDB takes a third of the time for that."""
        for key in self.removed:
            batch.delete(key)
        for key in sorted(self.added):
            batch.put(key, b"")


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_max_write_buffer_number(3)
    options.set_max_open_files(512)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.add_compact_on_deletion_collector_factory(_DELETES_WINDOW, _DELETES_IN_WINDOW, 0.5)
    tables = BlockBasedOptions()
    tables.set_block_cache(Cache(_BLOCK_CACHE_BYTES))
    tables.set_bloom_filter(_BLOOM_BITS_PER_KEY, False)
    options.set_block_based_table_factory(tables)
    return options


class LocalCopy(OnDisk):
    """Reads and writes are synchronous: tens of µs each. All raise Damaged when what is needed cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.caught_up = False
        """Whether it may be asked: the ends of the changelogs were reached once."""
        self.changes = 0
        """Grows with every write: what was read at the same number is still so."""
        self._write_options = WriteOptions()
        self._write_options.disable_wal = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = Rdict(str(self.path), _options())
        self._db.set_write_options(self._write_options)

    @checked
    def close(self) -> None:
        """Flushes, so that the next start has little to follow."""
        self._db.flush()
        self._db.close()

    # -- for the follower and its sink ----------------------------------------------------------

    def note_caught_up(self) -> None:
        self.caught_up = True

    @checked
    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        values: list[bytes | None] = self._db.get(keys)
        return values

    @checked
    def write(self, batch: WriteBatch, moved: Sequence[MovedIndexKey] = ()) -> None:
        """`moved`: what the batch changes in the indexes."""
        self._db.write(batch, self._write_options)
        self.changes += 1

    # -- for questions -------------------------------------------------------------------------

    @checked
    def _get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys from `first` on and before `end`, with their values, as of the first step."""
        it = self.iterator(end)
        it.seek(first)
        while it.valid():
            yield it.key(), it.value()
            it.next()
        self.check_end(it)

    def scan_keys(self, first: bytes, end: bytes) -> Iterator[bytes]:
        """Keys from `first` on and before `end`, as of the first step."""
        it = self.iterator(end)
        it.seek(first)
        is_valid, key_of, step = it.valid, it.key, it.next
        while is_valid():
            yield key_of()
            step()
        self.check_end(it)

    def scan_keys_backwards(self, first: bytes, end: bytes) -> Iterator[bytes]:
        """Keys before `end`, the last one first, down to `first`."""
        it = self.iterator(end)
        it.seek_to_last()
        while it.valid():
            key: bytes = it.key()
            if key < first:  # rocksdict's lower bound has no effect.
                return
            yield key
            it.prev()
        self.check_end(it)

    def iterator(self, end: bytes) -> RdictIter:
        """Over the keys before `end`, as of now; when it is not valid any more, `check_end` is to be called.

        RocksDB keeps only the address of `end`: the caller holds a reference for as long as the iterator is used.
        """
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        return self._db.iter(options)

    @checked
    def check_end(self, it: RdictIter) -> None:
        """Raises Damaged if the iterator has ended early: what cannot be read looks like the end."""
        it.status()


def range_of(prefix: bytes) -> tuple[bytes, bytes]:
    """First key and end of the keys of the form `prefix|…`."""
    return prefix + b"|", prefix + _AFTER_BAR


def synced_at(kept: bytes) -> datetime:
    """When the brokers stamped the row."""
    return rows.from_ms(int.from_bytes(kept[:TIME_BYTES], "big"))
