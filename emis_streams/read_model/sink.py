"""Writes the followed changelogs into the local copy: rows, indexes and position in one batch."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import TopicPartition
from rocksdict import WriteBatch

from emis_streams import rows
from emis_streams.engine.follower import ChangelogSlice, Position
from emis_streams.engine.store import decode_position, encode_position
from emis_streams.read_model import assignment_index, indexing, search_index
from emis_streams.read_model.assignment_index import RowChange
from emis_streams.read_model.keys import (
    ACTIVITY_ROW,
    ASSIGNMENT,
    CLASS,
    POSITION,
    PROGRESS_ROW,
    TEACHER,
    TIME_BYTES,
    index_key,
)
from emis_streams.read_model.local_copy import IndexChanges, LocalCopy
from emis_streams.topics import ACTIVITY, ASSIGNMENTS, CLASSES, PROGRESS, TEACHERS

_PREFIXES = {
    CLASSES.changelog: CLASS,
    TEACHERS.changelog: TEACHER,
    ASSIGNMENTS.changelog: ASSIGNMENT,
    PROGRESS.changelog: PROGRESS_ROW,
    ACTIVITY.changelog: ACTIVITY_ROW,
}


class ReadModelSink:
    """Implements `engine.follower.Sink`."""

    def __init__(self, model: LocalCopy) -> None:
        self._model = model

    async def positions(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        """Before the first answer, a copy of an older version gets the indexes that it lacks."""
        await indexing.add_missing_indexes(self._model)
        tps = list(tps)
        values = self._model.get_many([_position_key(tp) for tp in tps])
        return {tp: decode_position(value) for tp, value in zip(tps, values, strict=True) if value is not None}

    async def reset(self, tp: TopicPartition) -> None:
        """The rows stay and answer: versions decide about what the log still has."""
        batch = WriteBatch(raw_mode=True)
        batch.delete(_position_key(tp))
        self._model.write(batch)

    async def apply(self, slices: Sequence[ChangelogSlice]) -> None:
        for part in slices:
            self._apply(part)
            await asyncio.sleep(0)  # Requests are answered between two slices.

    def _apply(self, part: ChangelogSlice) -> None:
        prefix = _PREFIXES[part.tp.topic]
        keys = sorted(part.rows)
        stored = self._model.get_many([prefix + key for key in keys])
        batch = WriteBatch(raw_mode=True)
        changes: dict[bytes, RowChange] = {}
        for key, kept in zip(keys, stored, strict=True):
            row, written_ms = part.rows[key]
            new = _merged(row, written_ms, kept)
            if new is None:
                continue
            batch.put(prefix + key, new)
            stored_row, new_row = None if kept is None else kept[TIME_BYTES:], new[TIME_BYTES:]
            if stored_row != new_row:  # Else it is a replay: its index entry is there.
                changes[key] = RowChange(stored_row, new_row)
        index = self._index_changes(prefix, batch, changes)
        index.put_into(batch)
        batch.put(_position_key(part.tp), encode_position(part.position))
        self._model.write(batch, index.moved)

    def _index_changes(self, prefix: bytes, batch: WriteBatch, changes: Mapping[bytes, RowChange]) -> IndexChanges:
        found = IndexChanges()
        if prefix == ASSIGNMENT:
            assignment_index.add_changes(found, self._model, batch, changes)
        elif prefix in search_index.KINDS:
            search_index.add_changes(found, prefix, changes)
        else:
            for key, (before, after) in changes.items():
                found.move(None if before is None else index_key(prefix, key, before), index_key(prefix, key, after))
        return found


def _merged(row: bytes, written_ms: int, kept: bytes | None) -> bytes | None:
    """What is to be kept, behind the time of the record whose version it has; None if that is kept already."""
    written = written_ms.to_bytes(TIME_BYTES, "big")
    if kept is None:
        return written + row
    stored = kept[TIME_BYTES:]
    merged = rows.merged(row, stored)
    if rows.version_of(row) >= rows.version_of(stored):
        return written + merged
    return None if merged == stored else kept[:TIME_BYTES] + merged


def _position_key(tp: TopicPartition) -> bytes:
    return POSITION + f"{tp.topic}|{tp.partition}".encode()
