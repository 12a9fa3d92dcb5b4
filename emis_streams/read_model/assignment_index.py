"""The index entries of assignments: one for each assignment id, at the teacher who has it.

Whose rows an assignment has is kept under `o`, so that the entry can move to another teacher and back.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rocksdict import WriteBatch

from emis_streams.assignment_owner import owner
from emis_streams.read_model.keys import (
    ASSIGNMENT,
    ID_BYTES,
    PAIR_BYTES,
    TEACHERS_OF_ASSIGNMENT,
    TIME_BYTES,
    class_key,
    index_key,
)
from emis_streams.read_model.local_copy import IndexChanges, LocalCopy

_Rows = dict[bytes, bytes]
"""Of one assignment, by teacher id."""


class RowChange(NamedTuple):
    """A row before and after a write."""

    before: bytes | None
    after: bytes


def add_changes(to: IndexChanges, copy: LocalCopy, batch: WriteBatch, changes: Mapping[bytes, RowChange]) -> None:
    """How index entries change with the rows; puts into the batch which teachers the assignments have.

    Reads once for all assignments, and once more if other teachers have rows of some of them.
    """
    keys = [key for key in changes if len(key) == PAIR_BYTES]
    ids = [key[ID_BYTES + 1 :] for key in keys]
    known = copy.get_many([TEACHERS_OF_ASSIGNMENT + id_ for id_ in ids])
    n_changes = Counter(ids)
    first_teachers: list[tuple[bytes, bytes]] = []
    shared: dict[bytes, dict[bytes, RowChange]] = defaultdict(dict)
    for key, id_, teachers in zip(keys, ids, known, strict=True):
        teacher, change = key[:ID_BYTES], changes[key]
        if n_changes[id_] > 1 or teachers not in (None, teacher):
            shared[id_][teacher] = change
            continue
        if teachers is None:
            first_teachers.append((TEACHERS_OF_ASSIGNMENT + id_, teacher))
        before = None if change.before is None else index_key(ASSIGNMENT, key, change.before)
        _move(to, before, index_key(ASSIGNMENT, key, change.after))
    for key, teacher in sorted(first_teachers):  # Which RocksDB takes faster.
        batch.put(key, teacher)
    if shared:
        _add_shared(to, copy, batch, shared)


def _add_shared(
    to: IndexChanges, copy: LocalCopy, batch: WriteBatch, by_assignment: Mapping[bytes, Mapping[bytes, RowChange]]
) -> None:
    """Of assignments of which several teachers have rows."""
    teachers = _teachers(copy, by_assignment)
    others = [(id_, t) for id_, changed in by_assignment.items() for t in teachers[id_] if t not in changed]
    unchanged = _stored_rows(copy, others)
    for id_, changed in by_assignment.items():
        rest = unchanged.get(id_, {})
        before = _entry(id_, rest | {t: change.before for t, change in changed.items() if change.before is not None})
        _move(to, before, _entry(id_, rest | {t: change.after for t, change in changed.items()}))
        _put_teachers(batch, id_, teachers[id_], changed)


def _move(to: IndexChanges, before: bytes | None, after: bytes | None) -> None:
    """The entry in the list of the teacher's classes, and the one by class: that stays if only the teacher changes."""
    if before == after:
        return
    to.moved.append((before, after))
    if before is None and after is not None:  # Nearly all, while a copy is filled.
        to.added += (after, class_key(after))
    else:
        to.move(before, after)
        to.move(before and class_key(before), after and class_key(after))


def add_teachers(copy: LocalCopy, batch: WriteBatch, keys: Iterable[bytes]) -> None:
    """Puts the teachers of these rows into the batch, with those that the copy has already."""
    by_assignment: dict[bytes, list[bytes]] = defaultdict(list)
    for key in keys:
        if len(key) == PAIR_BYTES:
            by_assignment[key[ID_BYTES + 1 :]].append(key[:ID_BYTES])
    teachers = _teachers(copy, by_assignment)
    for id_, added in by_assignment.items():
        _put_teachers(batch, id_, teachers[id_], added)


def put_entries(copy: LocalCopy, batch: WriteBatch, assignment_ids: Iterable[bytes]) -> None:
    """Puts the index entries of these assignments into the batch, after the teachers of all rows were added."""
    ids = list(assignment_ids)
    teachers = _teachers(copy, ids)
    stored = _stored_rows(copy, [(id_, teacher) for id_ in ids for teacher in teachers[id_]])
    for id_, rows_by_teacher in stored.items():
        entry = _entry(id_, rows_by_teacher)
        if entry is not None:
            batch.put(entry, b"")
            batch.put(class_key(entry), b"")


def held_rows(copy: LocalCopy, assignment_ids: Iterable[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
    """Who has each of these assignments, and that teacher's row of it; assignments that nobody has are left out."""
    ids = list(assignment_ids)
    teachers = _teachers(copy, ids)
    stored = _stored_rows(copy, [(id_, teacher) for id_ in ids for teacher in teachers[id_]])
    owners = {id_: owner(rows_by_teacher) for id_, rows_by_teacher in stored.items()}
    return {id_: (teacher, stored[id_][teacher]) for id_, teacher in owners.items() if teacher is not None}


def _teachers(copy: LocalCopy, assignment_ids: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Ids of the teachers that have a row of the assignment, live or deleted."""
    ids = list(assignment_ids)
    values = copy.get_many([TEACHERS_OF_ASSIGNMENT + id_ for id_ in ids])
    return {id_: _split(value or b"") for id_, value in zip(ids, values, strict=True)}


def _split(teachers: bytes) -> list[bytes]:
    return [teachers[at : at + ID_BYTES] for at in range(0, len(teachers), ID_BYTES)]


def _put_teachers(batch: WriteBatch, assignment_id: bytes, known: list[bytes], added: Iterable[bytes]) -> None:
    new = set(added).difference(known)
    if new:
        batch.put(TEACHERS_OF_ASSIGNMENT + assignment_id, b"".join([*known, *sorted(new)]))


def _stored_rows(copy: LocalCopy, pairs: list[tuple[bytes, bytes]]) -> dict[bytes, _Rows]:
    """Rows by assignment id, of pairs of assignment and teacher."""
    found: dict[bytes, _Rows] = defaultdict(dict)
    if not pairs:
        return found
    values = copy.get_many([ASSIGNMENT + teacher + b"|" + id_ for id_, teacher in pairs])
    for (id_, teacher), kept in zip(pairs, values, strict=True):
        if kept is not None:
            found[id_][teacher] = kept[TIME_BYTES:]
    return found


def _entry(assignment_id: bytes, rows_by_teacher: _Rows) -> bytes | None:
    teacher = owner(rows_by_teacher)
    if teacher is None:
        return None
    return index_key(ASSIGNMENT, teacher + b"|" + assignment_id, rows_by_teacher[teacher])
