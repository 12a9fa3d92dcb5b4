"""The local copy of the country, and the questions that it answers without leaving the node.

One RocksDB. The first byte of a key says what it is:

    c<classId>                   class row            t<teacherId>                 teacher row
    a<teacherId>|<assignmentId>  assignment row       h<teacherId>|<classId>       homeroom index, empty
    p<topic>|<partition>         position in the changelog

Each row is kept behind the time (ms, 8 bytes) of its changelog record, which is `lastSyncedAt`.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, RdictIter, WriteBatch, WriteOptions

from emis_streams import rows
from emis_streams.answers import ClassDetail, Gone, TeacherDetail
from emis_streams.engine.database_errors import OnDisk, checked
from emis_streams.rows import AssignmentRow, ClassRow, TeacherRow
from emis_streams.teacher_detail import KnownClass, assemble
from emis_streams.topics import CLASSES

CLASS, TEACHER, ASSIGNMENT, HOMEROOM, POSITION = b"c", b"t", b"a", b"h", b"p"
TIME_BYTES = 8

_MEMTABLE_BYTES = 16 << 20
_BLOCK_CACHE_BYTES = 128 << 20
_BLOOM_BITS_PER_KEY = 10
_ID_BYTES = 36
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


class ReadModel(OnDisk):
    """Answers about teachers and classes. Reads and writes are synchronous: tens of µs each.

    All raise Damaged when a part that is needed cannot be read: half an answer is none.
    """

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

    # -- questions ----------------------------------------------------------------------------

    def teacher(self, teacher_id: str) -> TeacherDetail | Gone | None:
        """The teacher with every class; Gone if deleted, None if never heard of."""
        raw_id = teacher_id.encode()
        kept = self._get(TEACHER + raw_id)
        if kept is None:
            return None
        teacher = rows.body_of(kept[TIME_BYTES:], TeacherRow)
        if teacher is None:
            return _gone(kept)
        assignments = self._assignments(raw_id)
        homeroom = [key[-_ID_BYTES:].decode() for key, _ in self._scan(HOMEROOM + raw_id)]
        class_ids = {assigned.class_id for _, assigned in assignments}.union(homeroom)
        return assemble(teacher_id, teacher, assignments, self._classes(class_ids), homeroom, "local")

    def class_(self, class_id: str) -> ClassDetail | Gone | None:
        """The class; Gone if deleted, None if never heard of."""
        kept = self._get(CLASS + class_id.encode())
        if kept is None:
            return None
        row = kept[TIME_BYTES:]
        body = rows.body_of(row, ClassRow)
        if body is None:
            return _gone(kept)
        return ClassDetail(
            class_id=class_id,
            class_name=body.class_name,
            grade=body.grade,
            academic_year=body.academic_year,
            total_students=body.total_students,
            school_id=body.school_id,
            homeroom_teacher_id=body.homeroom_teacher_id,
            version=rows.version_of(row).hex(),
            event_id=rows.event_id(row),
            event_time=rows.event_time(row),
            sync_source=CLASSES.events[rows.event_rank(row)],
            created_at=rows.created_at(row),
            last_synced_at=_synced_at(kept),
            source="local",
        )

    def sample_teachers(self, n: int) -> list[TeacherDetail]:
        """The first n teachers that have known classes (looks at some hundreds at most)."""
        found: list[TeacherDetail] = []
        for at, (key, _) in enumerate(self._scan_from(TEACHER, TEACHER + b"\xff")):
            if len(found) == n or at == 50 * n:
                break
            teacher = self.teacher(key[1:].decode())
            if isinstance(teacher, TeacherDetail) and any(c.known for c in teacher.class_assignments):
                found.append(teacher)
        return found

    def counts(self) -> dict[str, int]:
        """About how many keys there are of all kinds together (RocksDB's estimate)."""
        return {"keys": self._db.property_int_value("rocksdb.estimate-num-keys") or 0}

    # -----------------------------------------------------------------------------------------

    @checked
    def _get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def _assignments(self, raw_teacher_id: bytes) -> list[tuple[str, AssignmentRow]]:
        found = []
        for key, kept in self._scan(ASSIGNMENT + raw_teacher_id):
            row = rows.body_of(kept[TIME_BYTES:], AssignmentRow)
            if row is not None:
                found.append((key[-_ID_BYTES:].decode(), row))
        return found

    def _classes(self, class_ids: Iterable[str]) -> dict[str, KnownClass]:
        ids = list(class_ids)
        values = self.get_many([CLASS + class_id.encode() for class_id in ids])
        return {
            class_id: KnownClass(rows.body_of(kept[TIME_BYTES:], ClassRow), _synced_at(kept))
            for class_id, kept in zip(ids, values, strict=True)
            if kept is not None
        }

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


def _synced_at(kept: bytes) -> datetime:
    return rows.from_ms(int.from_bytes(kept[:TIME_BYTES], "big"))


def _gone(kept: bytes) -> Gone:
    row = kept[TIME_BYTES:]
    return Gone(deleted_at=rows.event_time(row), version=rows.version_of(row).hex())
