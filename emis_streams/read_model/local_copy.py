"""A copy on this node of what changelogs say: one RocksDB, whose keys begin with a byte that says what they are.

Each row is kept behind the time (ms, 8 bytes) of its changelog record, which is `lastSyncedAt`.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, RdictIter, WriteBatch, WriteOptions

from emis_streams import rows
from emis_streams.engine.database_errors import OnDisk, checked

POSITION = b"p"
"""And topic|partition: position in a changelog."""
TIME_BYTES = 8

_MEMTABLE_BYTES = 16 << 20
_BLOCK_CACHE_BYTES = 128 << 20
_BLOOM_BITS_PER_KEY = 10
_AFTER_BAR = b"}"
"""The byte after `|`: ends the range of a prefix."""


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_max_write_buffer_number(3)
    options.set_max_open_files(512)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
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
    def write(self, batch: WriteBatch) -> None:
        self._db.write(batch, self._write_options)
        self.changes += 1

    # -- for questions -------------------------------------------------------------------------

    @checked
    def _get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys of the form `prefix|…`."""
        return self._scan_from(prefix + b"|", prefix + _AFTER_BAR)

    def _scan_from(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        it = self._db.iter()
        it.seek(first)
        while it.valid():
            key: bytes = it.key()
            if key >= end:
                return
            yield key, it.value()
            it.next()
        self._check_end(it)

    @checked
    def _check_end(self, it: RdictIter) -> None:
        """What cannot be read looks like the end."""
        it.status()


def synced_at(kept: bytes) -> datetime:
    """When the brokers stamped the row."""
    return rows.from_ms(int.from_bytes(kept[:TIME_BYTES], "big"))
