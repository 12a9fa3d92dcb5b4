"""The local copy of the country, and the questions that it answers without leaving the node.

One RocksDB. The first byte of a key says what it is:

    c<classId>                   class row            t<teacherId>                 teacher row
    a<teacherId>|<assignmentId>  assignment row       h<teacherId>|<classId>       homeroom index, empty
    p<topic>|<partition>         position in the changelog

Each row is kept behind the time (ms, 8 bytes) of its changelog record, which is `lastSyncedAt`.
"""

from collections.abc import Iterable

from emis_streams import rows
from emis_streams.answers import ClassDetail, Gone, TeacherDetail
from emis_streams.read_model.local_copy import TIME_BYTES, LocalCopy, synced_at
from emis_streams.rows import AssignmentRow, ClassRow, TeacherRow
from emis_streams.teacher_detail import KnownClass, assemble
from emis_streams.topics import CLASSES

CLASS, TEACHER, ASSIGNMENT, HOMEROOM = b"c", b"t", b"a", b"h"

_ID_BYTES = 36


class ReadModel(LocalCopy):
    """Answers about teachers and classes. Reads and writes are synchronous: tens of µs each.

    All raise Damaged when a part that is needed cannot be read: half an answer is none.
    """

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
            last_synced_at=synced_at(kept),
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
            class_id: KnownClass(rows.body_of(kept[TIME_BYTES:], ClassRow), synced_at(kept))
            for class_id, kept in zip(ids, values, strict=True)
            if kept is not None
        }


def _gone(kept: bytes) -> Gone:
    row = kept[TIME_BYTES:]
    return Gone(deleted_at=rows.event_time(row), version=rows.version_of(row).hex())
