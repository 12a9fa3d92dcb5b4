"""Adds the indexes that a local copy of an older version lacks, in steps between which requests are answered."""

import asyncio
import logging
from collections.abc import Iterator
from itertools import islice

from rocksdict import WriteBatch

from emis_streams.read_model.keys import (
    ACTIVITY_BY_TIME,
    ACTIVITY_ROW,
    ASSIGNMENT,
    CLASS,
    CLASSES_OF_TEACHER,
    POSITION,
    POSITION_WITHOUT_INDEXES,
    PROGRESS_BY_TIME,
    PROGRESS_ROW,
    TIME_BYTES,
    index_key,
)
from emis_streams.read_model.local_copy import LocalCopy

logger = logging.getLogger(__name__)

_ROWS_PER_STEP = 500


async def add_missing_indexes(copy: LocalCopy) -> None:
    """Makes all indexes again if an older version has written to the copy; its positions say so.

    The positions move to where this version looks for them in the last batch: a process that ends before makes the
    indexes again. An older version that is started later finds no position and follows from the start of the log.
    """
    positions = dict(_all(copy, POSITION_WITHOUT_INDEXES))
    if not positions:
        return
    logger.info("%s is of an older version: making its indexes", copy.path)
    begin = WriteBatch(raw_mode=True)
    for prefix in (CLASSES_OF_TEACHER, PROGRESS_BY_TIME, ACTIVITY_BY_TIME):
        begin.delete_range(prefix, _end(prefix))
    copy.write(begin)
    n_rows = 0
    for prefix in (CLASS, ASSIGNMENT, PROGRESS_ROW, ACTIVITY_ROW):
        rows = _all(copy, prefix)
        while step := list(islice(rows, _ROWS_PER_STEP)):
            _index(copy, prefix, step)
            n_rows += len(step)
            await asyncio.sleep(0)
    _move_positions(copy, positions)
    logger.info("%s: indexes of %d rows were made", copy.path, n_rows)


def _index(copy: LocalCopy, prefix: bytes, step: list[tuple[bytes, bytes]]) -> None:
    batch = WriteBatch(raw_mode=True)
    for key, kept in step:
        entry = index_key(prefix, key[1:], kept[TIME_BYTES:])
        if entry is not None:
            batch.put(entry, b"")
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
