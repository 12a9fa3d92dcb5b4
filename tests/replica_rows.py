"""Rows as changelogs hold them, made of few words, for tests of the replica."""

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import TopicPartition

from emis_streams import rows, topics
from emis_streams.engine.follower import ChangelogSlice

CREATED, UPDATED = 0, 1
DELETED = {topics.CLASSES: 2, topics.TEACHERS: 2, topics.ASSIGNMENTS: 1}

CLASSES = TopicPartition(topics.CLASSES.changelog, 0)
TEACHERS = TopicPartition(topics.TEACHERS.changelog, 0)
ASSIGNMENTS = TopicPartition(topics.ASSIGNMENTS.changelog, 0)
TOPIC_ID = "f" * 32
WRITTEN_MS = 1_757_000_000_123

_encode = msgspec.msgpack.Encoder().encode


def id_of(number: int) -> str:
    return str(UUID(int=number))


def at(second: int) -> datetime:
    """A time of day of an event."""
    return datetime(2025, 9, 5, 7, 0, second % 60, 250_000 + second, tzinfo=UTC)


def row_of(second: int, rank: int, body: tuple[object, ...] | None, created: int | None = None) -> bytes:
    """A row of an event at a second; `body` None is a delete."""
    packed = b"" if body is None else _encode(body)
    us, created_us = (
        round(at(s).timestamp() * 1_000_000).to_bytes(8, "big")
        for s in (second, second if created is None else created)
    )
    version = us + bytes([rank]) + UUID(int=1000 + second).bytes + zlib.crc32(packed).to_bytes(4, "big")
    return rows.pack(version, created_us, packed)


def class_row(
    second: int, name: str = "10A1", rank: int = CREATED, created: int | None = None, **changes: Any
) -> bytes:
    fields = {"grade": "10", "year": "2025-2026", "students": 41, "school": id_of(9), "homeroom": None} | changes
    return row_of(second, rank, (name, *fields.values()), created)


def slice_of(
    tp: TopicPartition, rows_by_key: Mapping[str, bytes], next_offset: int, written_ms: int = WRITTEN_MS
) -> ChangelogSlice:
    return ChangelogSlice(
        tp,
        TOPIC_ID,
        {key.encode(): (row, written_ms) for key, row in rows_by_key.items()},
        next_offset,
        len(rows_by_key),
    )
