"""The local copy of the country, and the questions that it answers without leaving the node."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from rocksdict import WriteBatch

from emis_streams import rows
from emis_streams.answers import ClassDetail, ClassTeachers, FoundClass, FoundTeacher, Gone, SearchPage, TeacherDetail
from emis_streams.class_list import DEFAULT_LIMIT, Cursor
from emis_streams.read_model import class_teachers, found_names
from emis_streams.read_model.entry_counts import Count, EntryCounts, positions_of
from emis_streams.read_model.keys import (
    ASSIGNMENT,
    CLASS,
    CLASSES_OF_TEACHER,
    HOMEROOM,
    ID_BYTES,
    PAIR_BYTES,
    TEACHER,
    TIME_BYTES,
)
from emis_streams.read_model.local_copy import LocalCopy, MovedIndexKey, range_of, synced_at
from emis_streams.read_model.name_search import SearchCursor
from emis_streams.rows import AssignmentRow, ClassRow, TeacherRow
from emis_streams.search_query import Query
from emis_streams.teacher_detail import ClassPage, KnownClass, assemble
from emis_streams.topics import CLASSES

__all__ = ["ASSIGNMENT", "CLASS", "HOMEROOM", "TEACHER", "ReadModel"]

_SAMPLE_CLASSES = 50
"""A sample has no more classes: it shows what a teacher's page is like."""
_SAMPLE_TEACHERS_READ = 200
_SAMPLE_ENTRIES_READ = 2_000


class ReadModel(LocalCopy):
    """Answers about teachers and classes. Reads and writes are synchronous: tens of µs each.

    All raise Damaged when a part that is needed cannot be read: half an answer is none.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.entry_counts = EntryCounts(self)

    def write(self, batch: WriteBatch, moved: Sequence[MovedIndexKey] = ()) -> None:
        with self.entry_counts.moving(moved):
            super().write(batch, moved)

    def teacher(
        self, teacher_id: str, limit: int = DEFAULT_LIMIT, after: Cursor | None = None, *, counted: bool = True
    ) -> TeacherDetail | Gone | None:
        """The teacher with the first `limit` entries of the list of classes that come after the cursor.

        Gone if deleted, None if no event of the teacher has come. The cost is bounded by `limit`, and by
        `entry_counts.MOST_COUNTED_AT_ONCE` unless `counted` is false.
        """
        raw_id = teacher_id.encode()
        kept = self._get(TEACHER + raw_id)
        if kept is None:
            return None
        teacher = rows.body_of(kept[TIME_BYTES:], TeacherRow)
        if teacher is None:
            return _gone(kept)
        entries = self._entries(raw_id, limit + 1, after)
        is_whole = after is None and len(entries) <= limit
        count = self.entry_counts.of(raw_id) if counted and not is_whole else Count(len(entries), is_whole)
        next_after = _cursor(entries[limit - 1]) if len(entries) > limit else None
        return self._page(teacher_id, teacher, entries[:limit], ClassPage(next_after, *count))

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
            last_synced_at=synced_at(kept),
            source="local",
        )

    def class_teachers(
        self, class_: ClassDetail, limit: int = class_teachers.DEFAULT_LIMIT, after: str | None = None
    ) -> ClassTeachers:
        """The teachers of a class, of the first `limit` assignments that come after this one by their ids."""
        return class_teachers.of_class(self, class_.class_id, class_.homeroom_teacher_id, limit, after)

    def search(self, query: Query, kinds: Sequence[bytes], limit: int, after: SearchCursor | None = None) -> SearchPage:
        """The first `limit` teachers and classes that match and come after the cursor; all, if the query is empty."""
        return found_names.search(self, query, kinds, limit, after)

    def of_id(self, id_: str) -> list[FoundTeacher | FoundClass]:
        """The teacher and the class that have this id, as a search shows them."""
        return found_names.of_id(self, id_)

    def teacher_name(self, teacher_id: str) -> str | None:
        """The full name; None if the teacher is deleted or not known."""
        kept = self._get(TEACHER + teacher_id.encode())
        teacher = None if kept is None else rows.body_of(kept[TIME_BYTES:], TeacherRow)
        return None if teacher is None else teacher.full_name

    def sample_teachers(self, n: int) -> list[TeacherDetail]:
        """The first n teachers that have known classes, and not too many for a sample. Reads a bounded number of rows.

        Placeholders are left out: teachers with far more classes than anybody teaches.
        """
        found: list[TeacherDetail] = []
        n_entries = 0
        for key, _ in islice(self.scan(TEACHER, TEACHER + b"\xff"), _SAMPLE_TEACHERS_READ):
            if len(found) == n or n_entries >= _SAMPLE_ENTRIES_READ:
                break
            teacher = self.teacher(key[1:].decode(), _SAMPLE_CLASSES, counted=False)
            if not isinstance(teacher, TeacherDetail):
                continue
            n_entries += len(teacher.class_assignments)
            if teacher.next_after is None and any(c.known for c in teacher.class_assignments):
                found.append(teacher)
        return found

    def counts(self) -> dict[str, int]:
        """About how many keys there are of all kinds together (RocksDB's estimate)."""
        return {"keys": self._db.property_int_value("rocksdb.estimate-num-keys") or 0}

    def _entries(self, raw_teacher_id: bytes, limit: int, after: Cursor | None) -> list[bytes]:
        """Index keys of at most `limit` entries after the cursor, in their order."""
        first, end = range_of(CLASSES_OF_TEACHER + raw_teacher_id)
        if after is not None:
            first = b"|".join((first[:-1], *(part.encode() for part in after if part))) + b"\0"
        return list(islice(positions_of(self.scan_keys(first, end)), limit))

    def _page(self, teacher_id: str, teacher: TeacherRow, entries: list[bytes], page: ClassPage) -> TeacherDetail:
        cursors = [_cursor(entry) for entry in entries]
        assignments = self._assignments(teacher_id, [c.assignment_id for c in cursors if c.assignment_id])
        homeroom = [c.class_id for c in cursors if not c.assignment_id]
        classes = self._classes({c.class_id for c in cursors})
        return assemble(teacher_id, teacher, assignments, classes, homeroom, "local", page)

    def _assignments(self, teacher_id: str, assignment_ids: list[str]) -> list[tuple[str, AssignmentRow]]:
        values = self.get_many([ASSIGNMENT + f"{teacher_id}|{id_}".encode() for id_ in assignment_ids])
        bodies = [None if kept is None else rows.body_of(kept[TIME_BYTES:], AssignmentRow) for kept in values]
        return [(id_, body) for id_, body in zip(assignment_ids, bodies, strict=True) if body is not None]

    def _classes(self, class_ids: Iterable[str]) -> dict[str, KnownClass]:
        ids = list(class_ids)
        values = self.get_many([CLASS + class_id.encode() for class_id in ids])
        return {
            class_id: KnownClass(rows.body_of(kept[TIME_BYTES:], ClassRow), synced_at(kept))
            for class_id, kept in zip(ids, values, strict=True)
            if kept is not None
        }


def _cursor(entry: bytes) -> Cursor:
    text = entry[1:].decode()
    return Cursor(text[ID_BYTES + 1 : PAIR_BYTES], text[PAIR_BYTES + 1 :])


def _gone(kept: bytes) -> Gone:
    row = kept[TIME_BYTES:]
    return Gone(deleted_at=rows.event_time(row), version=rows.version_of(row).hex())
