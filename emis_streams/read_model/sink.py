"""Writes the followed changelogs into the read model: rows, homeroom index and position in one batch."""

import asyncio
from collections.abc import Iterable, Sequence

from aiokafka import TopicPartition
from rocksdict import WriteBatch

from emis_streams import rows
from emis_streams.engine.follower import ChangelogSlice, Position
from emis_streams.engine.store import decode_position, encode_position
from emis_streams.read_model.local_copy import POSITION, TIME_BYTES, LocalCopy
from emis_streams.read_model.model import ASSIGNMENT, CLASS, HOMEROOM, TEACHER
from emis_streams.read_model.user_rows import ACTIVITY_ROW, PROGRESS_ROW
from emis_streams.rows import ClassRow
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
        for key, kept in zip(keys, stored, strict=True):
            row, written_ms = part.rows[key]
            if kept is not None and row[: rows.VERSION_BYTES] < kept[TIME_BYTES : TIME_BYTES + rows.VERSION_BYTES]:
                continue
            batch.put(prefix + key, written_ms.to_bytes(TIME_BYTES, "big") + row)
            if prefix == CLASS:
                _move_homeroom(batch, key, None if kept is None else kept[TIME_BYTES:], row)
        batch.put(_position_key(part.tp), encode_position(part.position))
        self._model.write(batch)


def _move_homeroom(batch: WriteBatch, class_id: bytes, kept: bytes | None, row: bytes) -> None:
    before = None if kept is None else _homeroom_teacher(kept)
    after = _homeroom_teacher(row)
    if before is not None and before != after:
        batch.delete(HOMEROOM + before.encode() + b"|" + class_id)
    if after is not None:
        batch.put(HOMEROOM + after.encode() + b"|" + class_id, b"")


def _homeroom_teacher(row: bytes) -> str | None:
    body = rows.body_of(row, ClassRow)
    return None if body is None else body.homeroom_teacher_id


def _position_key(tp: TopicPartition) -> bytes:
    return POSITION + f"{tp.topic}|{tp.partition}".encode()
