"""Positions of the replica in the changelogs, as they are kept beside its rows."""

import logging
from collections.abc import Iterable

from aiokafka import TopicPartition
from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from emis_streams.engine.follower import Position
from emis_streams.replica.schema import replica_positions

logger = logging.getLogger(__name__)


async def kept_positions(
    connection: AsyncConnection, tps: Iterable[TopicPartition], *, for_update: bool = False
) -> dict[TopicPartition, Position]:
    """Those that are kept."""
    wanted = list(tps)
    if not wanted:
        return {}
    query = select(replica_positions).where(_is_one_of(wanted))
    found = await connection.execute(query.with_for_update() if for_update else query)
    return {TopicPartition(r.Topic, r.Partition): Position(r.NextOffset, r.TopicId) for r in found}


async def take_back(connection: AsyncConnection, tps: Iterable[TopicPartition]) -> None:
    """Positions that a writer of 0.1.0 moved go back to where it began: see `replica_positions`."""
    columns = replica_positions.c
    was_moved = or_(columns.WrittenOffset.is_(None), columns.WrittenOffset < columns.NextOffset)
    wanted = list(tps)
    query = select(replica_positions).where(_is_one_of(wanted), was_moved)
    moved = (await connection.execute(query)).all() if wanted else []
    for at in moved:
        tp = TopicPartition(at.Topic, at.Partition)
        begin = "the start" if at.WrittenOffset is None else at.WrittenOffset
        logger.info("%s: an earlier release wrote rows up to %d: written again from %s", tp, at.NextOffset, begin)
        if at.WrittenOffset is None:
            await forget(connection, _is_one_of([tp]))
        else:
            back = update(replica_positions).where(_is_one_of([tp]), was_moved)
            await connection.execute(back.values(NextOffset=columns.WrittenOffset))


async def forget(connection: AsyncConnection, which: ColumnElement[bool]) -> None:
    await connection.execute(delete(replica_positions).where(which))


def _is_one_of(tps: Iterable[TopicPartition]) -> ColumnElement[bool]:
    by_topic: dict[str, list[int]] = {}
    for tp in tps:
        by_topic.setdefault(tp.topic, []).append(tp.partition)
    columns = replica_positions.c
    return or_(*(and_(columns.Topic == t, columns.Partition.in_(sorted(ps))) for t, ps in sorted(by_topic.items())))


def is_at(tp: TopicPartition, position: Position) -> ColumnElement[bool]:
    columns = replica_positions.c
    at = and_(columns.NextOffset == position.next_offset, columns.TopicId == position.topic_id)
    return and_(_is_one_of([tp]), at)
