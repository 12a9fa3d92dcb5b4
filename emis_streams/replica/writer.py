"""The one writer of the replica: slices of changelogs into rows, with the positions beside them."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from aiokafka import TopicPartition
from sqlalchemy import ColumnElement, Table, and_, exists, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emis_streams import database, topics
from emis_streams.database_faults import Fault, fault_of, reason_of, waited_for
from emis_streams.engine.follower import ChangelogSlice, Position, PositionsChanged
from emis_streams.errors import Unavailable
from emis_streams.replica import migrate, statements
from emis_streams.replica.positions import forget, is_at, kept_positions, take_back
from emis_streams.replica.schema import BY_CHANGELOG, TABLES, replica_positions
from emis_streams.replica.upserts import STATEMENT_ROWS, OnRefused, Upserts

WRITERS = 3
"""Transactions side by side: while the server works on one, the next is made here."""
TIMEOUT_SECONDS = 60.0
"""A transaction that takes longer is given up: a server that hangs answers nothing, not even an error."""


_Key = tuple[str, ...]
"""A row's primary key."""


class _RowsGone(PositionsChanged):
    """Rows that were there are not there any more."""

    def __init__(self, of: Sequence[topics.Subject]) -> None:
        super().__init__(f"{' and '.join(TABLES[s].name for s in of)} in the database was emptied")
        self.of = of


@dataclass
class _Share:
    """The slices of one transaction, all slices of a partition among them."""

    slices: list[ChangelogSlice] = field(default_factory=list)
    n_rows: int = 0

    def positions(self) -> dict[TopicPartition, Position]:
        return {part.tp: part.position for part in self.slices}


class ReplicaSink:
    """Sink of a follower (`engine.follower.Sink`): the rows of a partition and its position in one transaction.

    Writing is idempotent: a row replaces a stored one unless that has a higher version. So whatever
    the outcome of a commit that was cut off, the same slices can be applied again.
    """

    def __init__(self, engine: AsyncEngine, database_url: str, on_refused: OnRefused) -> None:
        self._engine = engine
        self._database_url = database_url
        dialect = database.dialect_of(engine.url)
        self._writers = WRITERS if dialect == "mysql" else 1
        self._upserts = Upserts(dialect, on_refused)
        self._upsert_positions = statements.upsert(replica_positions, dialect)
        self._kept: dict[TopicPartition, Position] = {}
        """What was last asked for, and kept since."""
        self._witnesses: dict[topics.Subject, list[_Key]] = {}
        """Rows of each table that were there: rows are never deleted, so if one is gone, others may be, too.

        Whether there are any rows would not do: a transaction that was on its way when a table was emptied leaves
        its rows there (row `emptied` of the faults).
        """
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    def open(cls, database_url: str, on_refused: OnRefused) -> Self:
        """A sink with connections of its own, made when needed; raises InvalidSetting."""
        return cls(database.writer_engine(database_url, WRITERS), database_url, on_refused)

    async def close(self) -> None:
        await self._engine.dispose()

    async def positions(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        """Positions that are kept, of partitions whose table has rows; makes the tables if they are missing.

        A position beside an empty table says nothing: the rows were removed, and are to be filled in again. By
        every worker: one that comes later sees rows again, but not the position it left.
        """
        tps = list(tps)
        async with self._one_at_a_time:
            await asyncio.to_thread(migrate.upgrade, self._database_url)
            async with self._connected("reading the replica's positions") as connection:
                await take_back(connection, tps)
                kept = await kept_positions(connection, tps)
                self._witnesses |= await _witnesses(connection, {BY_CHANGELOG[tp.topic] for tp in tps})
                emptied = {tp.topic for tp in kept if not self._witnesses[BY_CHANGELOG[tp.topic]]}
                await forget(connection, replica_positions.c.Topic.in_(sorted(emptied)))
            self._kept = {tp: at for tp, at in kept.items() if tp.topic not in emptied}
            return dict(self._kept)

    async def reset(self, tp: TopicPartition) -> None:
        """Forgets the position, unless another worker has moved it since it was asked for.

        Rows stay: they may be all that is left of a lost log (see `replica verify`).
        """
        async with self._one_at_a_time:
            kept = self._kept.get(tp)
            if kept is None:
                return
            async with self._connected("resetting the replica's position") as connection:
                await forget(connection, is_at(tp, kept))
            del self._kept[tp]

    @asynccontextmanager
    async def _connected(self, what: str) -> AsyncIterator[AsyncConnection]:
        async with waited_for(what), asyncio.timeout(TIMEOUT_SECONDS), self._engine.begin() as connection:
            yield connection

    async def apply(self, slices: Sequence[ChangelogSlice]) -> None:
        """Rows and positions of each partition, in one transaction or not at all.

        Without slices it only looks. Raises Unavailable (nothing is lost: apply the same again), or
        PositionsChanged if the database is not as this sink left it: emptied, restored, or written by
        another one.
        """
        shares = share_out(slices, self._writers) or [_Share()]
        async with self._one_at_a_time:
            outcomes = await asyncio.gather(*map(self._apply_share, shares), return_exceptions=True)
            failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            await self._begin_anew({s for failure in failures if isinstance(failure, _RowsGone) for s in failure.of})
        if failures:
            raise max(failures, key=_gravity)

    async def _begin_anew(self, gone: Collection[topics.Subject]) -> None:
        """Forgets all positions of these subjects, those of other workers too: each fills its own part again."""
        if gone:
            async with self._connected("forgetting positions whose rows are gone") as connection:
                await forget(connection, replica_positions.c.Topic.in_(sorted(s.changelog for s in gone)))

    async def _apply_share(self, share: _Share) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), self._engine.begin() as connection:
                await self._check(connection, share.positions() or self._kept)
                written = [part for part in share.slices if await self._upserts.write(connection, part)]
                unseen = {BY_CHANGELOG[part.tp.topic] for part in written} - _known(self._witnesses)
                witnesses = await _witnesses(connection, unseen)
                await self._keep_positions(connection, share)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise _as_told(error) from error
        self._kept.update(share.positions())
        self._witnesses.update(witnesses)

    async def _check(self, connection: AsyncConnection, wanted: Mapping[TopicPartition, Position]) -> None:
        """Raises PositionsChanged.

        A position may also be the wanted one already: the commit before was cut off after it was done.
        """
        kept = await kept_positions(connection, wanted, for_update=True)
        for tp, new in wanted.items():
            if kept.get(tp) not in (self._kept.get(tp), new):
                raise PositionsChanged(f"position of {tp} in the database is {kept.get(tp)}, not {self._kept.get(tp)}")
        subjects = {BY_CHANGELOG[tp.topic] for tp in wanted} & _known(self._witnesses)
        gone = await _gone(connection, {subject: self._witnesses[subject] for subject in subjects})
        if gone:
            raise _RowsGone(gone)

    async def _keep_positions(self, connection: AsyncConnection, share: _Share) -> None:
        positions = share.positions().items()
        values = [(tp.topic, tp.partition, at.next_offset, at.topic_id, at.next_offset) for tp, at in positions]
        if values:
            await connection.exec_driver_sql(self._upsert_positions, values)


def share_out(slices: Sequence[ChangelogSlice], n_most: int) -> list[_Share]:
    """Slices in up to `n_most` shares of about as many rows; a partition is never in two of them."""
    by_partition: dict[TopicPartition, _Share] = {}
    for part in slices:
        own = by_partition.setdefault(part.tp, _Share())
        own.slices.append(part)
        own.n_rows += len(part.rows)
    n_rows = sum(own.n_rows for own in by_partition.values())
    n_shares = min(n_most, len(by_partition), 1 + n_rows // STATEMENT_ROWS)
    shares = [_Share() for _ in range(n_shares)]
    for own in sorted(by_partition.values(), key=lambda s: s.n_rows, reverse=True):
        least = min(shares, key=lambda s: s.n_rows)
        least.slices += own.slices
        least.n_rows += own.n_rows
    return shares


async def _witnesses(
    connection: AsyncConnection, subjects: Iterable[topics.Subject]
) -> dict[topics.Subject, list[_Key]]:
    """The first and the last row of each table; none of an empty one."""
    found = {}
    for subject in subjects:
        keys = TABLES[subject].primary_key.columns
        ends = (select(*keys).order_by(*order).limit(1) for order in ([*keys], [key.desc() for key in keys]))
        found[subject] = [tuple(row) for end in ends for row in await connection.execute(end)]
    return found


def _known(witnesses: Mapping[topics.Subject, list[_Key]]) -> set[topics.Subject]:
    return {subject for subject, rows in witnesses.items() if rows}


async def _gone(connection: AsyncConnection, witnesses: Mapping[topics.Subject, list[_Key]]) -> list[topics.Subject]:
    """The subjects of which a witness is not there any more."""
    if not witnesses:
        return []
    there = (await connection.execute(select(*(_all_there(TABLES[s], rows) for s, rows in witnesses.items())))).one()
    return [subject for subject, is_there in zip(witnesses, there, strict=True) if not is_there]


def _all_there(table: Table, rows: Iterable[_Key]) -> ColumnElement[bool]:
    keys = table.primary_key.columns
    return and_(
        *(
            exists().where(*(key == value for key, value in zip(keys, row, strict=True))).select_from(table)
            for row in rows
        )
    )


def _as_told(error: Exception) -> Exception:
    """What the follower is told of an error of the database."""
    match fault_of(error):
        case Fault.OURS:
            return error
        case Fault.SCHEMA:
            return PositionsChanged(f"the replica's tables are gone: {reason_of(error)}")
        case _:
            return Unavailable(f"the replica's database: {reason_of(error)}")


def _gravity(error: BaseException) -> int:
    """What is told first of several failures: what ends the process, then what changes where to go on."""
    return 0 if isinstance(error, Unavailable) else 1 if isinstance(error, PositionsChanged) else 2
