"""Rows of a slice into their table: many in one statement, and those that the database refuses set aside."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from aiokafka import TopicPartition
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from emis_streams.database import Dialect
from emis_streams.database_faults import Fault, fault_of, reason_of
from emis_streams.engine.follower import ChangelogSlice
from emis_streams.errors import InvalidEvent
from emis_streams.replica.schema import BY_CHANGELOG, TABLES
from emis_streams.replica.statements import Upsert
from emis_streams.replica.values import Values, values_of

logger = logging.getLogger(__name__)

OnRefused = Callable[[TopicPartition, bytes, bytes, str], Awaitable[None]]
"""Changelog partition, key, row, reason. Called before the commit, so perhaps more than once for a row."""

STATEMENT_ROWS = 500
"""Making a statement takes about 10 µs a row, in which nothing else runs."""

_Row = tuple[bytes, bytes, Values]
"""Key, row, and what becomes of it."""


class Upserts:
    """Writes slices; the transaction is the caller's."""

    def __init__(self, dialect: Dialect, on_refused: OnRefused) -> None:
        self._on_refused = on_refused
        self._of = {subject: Upsert(table, dialect) for subject, table in TABLES.items()}

    async def write(self, connection: AsyncConnection, part: ChangelogSlice) -> bool:
        """Writes what can be written, in the order of the keys; whether that was any row at all.

        Raises what the driver raises, except for rows that are to blame themselves.
        """
        is_any = False
        in_order = sorted(part.rows.items())
        for at in range(0, len(in_order), STATEMENT_ROWS):
            rows = await self._decoded(part.tp, in_order[at : at + STATEMENT_ROWS])
            is_any |= await self._upsert(connection, part.tp, rows)
        return is_any

    async def _decoded(self, tp: TopicPartition, items: Sequence[tuple[bytes, tuple[bytes, int]]]) -> list[_Row]:
        subject, partition = BY_CHANGELOG[tp.topic], tp.partition
        decoded: list[_Row] = []
        for key, (row, written_ms) in items:
            try:
                decoded.append((key, row, values_of(subject, partition, key, row, written_ms)))
            except InvalidEvent as reason:
                await self._refuse(tp, key, row, str(reason))
        return decoded

    async def _upsert(self, connection: AsyncConnection, tp: TopicPartition, rows: Sequence[_Row]) -> bool:
        """Halves what the database refuses, until the row that it means is alone."""
        if not rows:
            return False
        try:
            await self._of[BY_CHANGELOG[tp.topic]].execute(connection, [values for *_, values in rows])
        except (SQLAlchemyError, OverflowError, UnicodeEncodeError) as error:
            if fault_of(error) is not Fault.ROW:
                raise
            if len(rows) == 1:
                key, row, _ = rows[0]
                await self._refuse(tp, key, row, reason_of(error))
                return False
            middle = len(rows) // 2
            first = await self._upsert(connection, tp, rows[:middle])
            second = await self._upsert(connection, tp, rows[middle:])
            return first or second
        return True

    async def _refuse(self, tp: TopicPartition, key: bytes, row: bytes, reason: str) -> None:
        logger.error("the replica cannot keep %r of %s: %s", key, tp, reason)
        await self._on_refused(tp, key, row, reason)
