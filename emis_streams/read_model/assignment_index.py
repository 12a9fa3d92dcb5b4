"""The index entries of assignments: one for each assignment id, at the teacher who has it.

Whose rows an assignment has is kept under `o`, so that the entry can move to another teacher and back.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rocksdict import WriteBatch

from emis_streams.assignment_owner import owner
from emis_streams.read_model.keys import ASSIGNMENT, ID_BYTES, PAIR_BYTES, TEACHERS_OF_ASSIGNMENT, TIME_BYTES, index_key
from emis_streams.read_model.local_copy import LocalCopy, MovedIndexKey

_Rows = dict[bytes, bytes]
"""Of one assignment, by teacher id."""


class RowChange(NamedTuple):
    """A row before and after a write."""

    before: bytes | None
    after: bytes


def moved_entries(copy: LocalCopy, batch: WriteBatch, changes: Mapping[bytes, RowChange]) -> list[MovedIndexKey]:
    """How index entries move when rows change, by key; puts into the batch which teachers the assignments have.

    Reads once for all assignments, and once more if other teachers have rows of them.
    """
    by_assignment = _by_assignment(changes)
    teachers = _teachers(copy, by_assignment)
    others = [(id_, t) for id_, changed in by_assignment.items() for t in teachers[id_] if t not in changed]
    unchanged = _stored_rows(copy, others)
    moved: list[MovedIndexKey] = []
    for id_, changed in by_assignment.items():
        rest = unchanged.get(id_, {})
        before = _entry(id_, rest | {t: change.before for t, change in changed.items() if change.before is not None})
        after = _entry(id_, rest | {t: change.after for t, change in changed.items()})
        if before != after:
            moved.append((before, after))
        _put_teachers(batch, id_, teachers[id_], changed)
    return moved


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


def _by_assignment(changes: Mapping[bytes, RowChange]) -> dict[bytes, dict[bytes, RowChange]]:
    by_assignment: dict[bytes, dict[bytes, RowChange]] = defaultdict(dict)
    for key, change in changes.items():
        if len(key) == PAIR_BYTES:
            by_assignment[key[ID_BYTES + 1 :]][key[:ID_BYTES]] = change
    return by_assignment


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
