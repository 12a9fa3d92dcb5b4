"""Adds the indexes that a local copy of an older version lacks, in steps between which requests are answered."""

import asyncio
import logging
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from rocksdict import WriteBatch

from emis_streams.changelog_rows import refusals
from emis_streams.engine.follower import Position
from emis_streams.engine.store import encode_position
from emis_streams.read_model import assignment_index, search_index
from emis_streams.read_model.assignment_index import RowChange
from emis_streams.read_model.keys import (
    ACTIVITY_ROW,
    ASSIGNMENT,
    CLASS,
    INDEXES,
    POSITION,
    POSITIONS_WITHOUT_INDEXES,
    PROGRESS_ROW,
    TEACHER,
    TEACHERS_OF_ASSIGNMENT,
    TIME_BYTES,
    index_key,
)
from emis_streams.read_model.local_copy import IndexChanges, LocalCopy
from emis_streams.topics import ACTIVITY, ASSIGNMENTS, CLASSES, PROGRESS, TEACHERS

logger = logging.getLogger(__name__)

_ROWS_PER_STEP = 500


async def add_missing_indexes(copy: LocalCopy) -> None:
    """Makes all indexes again if an older version has written to the copy; its positions say so.

    The positions move to where this version looks for them in the last batch: a process that ends before makes the
    indexes again. An older version that is started later finds no position and follows from the start of the log.
    """
    positions = {key: at for prefix in POSITIONS_WITHOUT_INDEXES for key, at in _all(copy, prefix)}
    if not positions:
        return
    logger.info("%s is of an older version: making its indexes", copy.path)
    positions = await _remove_invalid_rows(copy, positions)
    begin = WriteBatch(raw_mode=True)
    for prefix in INDEXES:
        begin.delete_range(prefix, _end(prefix))
    copy.write(begin)
    n_rows = 0
    for prefix in (CLASS, TEACHER, ASSIGNMENT, TEACHERS_OF_ASSIGNMENT, PROGRESS_ROW, ACTIVITY_ROW):
        rows = _all(copy, prefix)
        while step := list(islice(rows, _ROWS_PER_STEP)):
            _index(copy, prefix, step)
            n_rows += 0 if prefix == TEACHERS_OF_ASSIGNMENT else len(step)
            await asyncio.sleep(0)
    _move_positions(copy, positions)
    logger.info("%s: indexes of %d rows were made", copy.path, n_rows)


_SUBJECTS = {CLASS: CLASSES, TEACHER: TEACHERS, ASSIGNMENT: ASSIGNMENTS, PROGRESS_ROW: PROGRESS, ACTIVITY_ROW: ACTIVITY}


_NOWHERE = encode_position(Position(0, ""))


class _Kept(NamedTuple):
    key: bytes
    value: bytes


async def _remove_invalid_rows(copy: LocalCopy, positions: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Removes what an older version, which checked nothing, has kept of records that are no rows.

    Their changelogs are followed from their starts, which may still have the rows: the positions become those of no
    topic, in the batch that removes. Returns the positions.
    """
    left = dict(positions)
    for prefix, subject in _SUBJECTS.items():
        rows = _all(copy, prefix)
        while step := list(islice(rows, _ROWS_PER_STEP)):
            kept = [_Kept(key[1:], value[TIME_BYTES:]) for key, value in step]
            if refused := refusals(subject.changelog, kept):
                of_changelog = f"{subject.changelog}|".encode()
                left |= {key: _NOWHERE for key in positions if key[1:].startswith(of_changelog)}
                _remove(copy, [step[place][0] for place, _ in refused], left)
                logger.warning("%s: removed %d records of %s that are no rows", copy.path, len(refused), subject.name)
            await asyncio.sleep(0)
    return left


def _remove(copy: LocalCopy, keys: list[bytes], positions: dict[bytes, bytes]) -> None:
    batch = WriteBatch(raw_mode=True)
    for key in keys:
        batch.delete(key)
    for key, position in positions.items():
        batch.put(key, position)
    copy.write(batch)


def _index(copy: LocalCopy, prefix: bytes, step: list[tuple[bytes, bytes]]) -> None:
    """Of assignments, all rows come first: their teachers are needed for the entries."""
    batch = WriteBatch(raw_mode=True)
    if prefix == ASSIGNMENT:
        assignment_index.add_teachers(copy, batch, (key[1:] for key, _ in step))
        copy.write(batch)
        return
    if prefix == TEACHERS_OF_ASSIGNMENT:
        assignment_index.put_entries(copy, batch, (key[1:] for key, _ in step))
        copy.write(batch)
        return
    index = IndexChanges()
    if prefix in search_index.KINDS:
        changes = {key[1:]: RowChange(None, kept[TIME_BYTES:]) for key, kept in step}
        search_index.add_changes(index, prefix, changes)
    else:
        for key, kept in step:
            index.move(None, index_key(prefix, key[1:], kept[TIME_BYTES:]))
    index.put_into(batch)
    copy.write(batch)


def _move_positions(copy: LocalCopy, positions: dict[bytes, bytes]) -> None:
    batch = WriteBatch(raw_mode=True)
    batch.delete_range(POSITION, _end(POSITION))
    for key, position in positions.items():
        batch.put(POSITION + key[1:], position)
        batch.delete(key)
    copy.write(batch)


def _all(copy: LocalCopy, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    return copy.scan(prefix, _end(prefix))


def _end(prefix: bytes) -> bytes:
    return bytes([prefix[0] + 1])
