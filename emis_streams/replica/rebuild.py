"""Fills the replica again from the start of the changelogs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from aiokafka import TopicPartition
from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncEngine

from emis_streams import database, rows
from emis_streams.changelog_rows import row_filter
from emis_streams.database_faults import waited_for
from emis_streams.engine.follower import Follower
from emis_streams.errors import Unavailable
from emis_streams.replica import migrate
from emis_streams.replica.schema import TABLES, replica_positions
from emis_streams.replica.upserts import OnRefused
from emis_streams.replica.verify import Progress, positions_in
from emis_streams.replica.writer import ReplicaSink
from emis_streams.settings import Settings

_POLL_SECONDS = 0.2
STALLED_SECONDS = 60.0

Offsets = Mapping[TopicPartition, int]


async def empty(config: Settings, truncate: bool) -> None:
    """Forgets the positions, and with `truncate` removes the rows; raises Unavailable.

    Rows first: what a running worker writes in between comes again, since it then finds its positions gone.
    """
    await asyncio.to_thread(migrate.upgrade, config.database_url)
    engine = database.writer_engine(config.database_url, 1)
    try:
        async with waited_for("emptying the replica"):
            if truncate:
                await _remove_rows(engine)
            async with engine.begin() as connection:
                await connection.execute(delete(replica_positions))
    finally:
        await engine.dispose()


async def _remove_rows(engine: AsyncEngine) -> None:
    """(SQLite's DELETE of everything is what TRUNCATE is elsewhere.)"""
    verb = "TRUNCATE TABLE" if engine.dialect.name == "mysql" else "DELETE FROM"
    async with engine.begin() as connection:
        for table in TABLES.values():
            await connection.execute(text(f"{verb} {table.name}"))


async def fill(config: Settings, ends: Offsets, begins: Offsets, on_refused: OnRefused, advance: Progress) -> None:
    """Follows the changelogs from where the replica is to their ends."""
    sink = ReplicaSink.open(config.database_url, on_refused)
    follower = Follower(
        name="emis-streams-replica-rebuild",
        client=config.kafka_client(),
        sink=sink,
        merge=rows.merged,
        row_filter=row_filter(),
        partitions=sorted(ends),
        wait_for=(Unavailable,),
        slice_records=config.replica_batch_rows,
    )
    filling = asyncio.create_task(follower.catch_up(), name="fill the replica")
    shown = _Shown(ends, begins, advance)
    try:
        while not filling.done():
            await asyncio.wait([filling], timeout=_POLL_SECONDS)
            shown.show(follower.next_offsets)
        await filling
    finally:
        filling.cancel()
        with suppress(asyncio.CancelledError):
            await filling
        await sink.close()


async def watch(
    config: Settings, ends: Offsets, begins: Offsets, advance: Progress, is_worked_on: Callable[[], Awaitable[bool]]
) -> None:
    """Waits until running workers have filled the replica; raises Unavailable if they do not go on."""
    engine = database.statement_engine(config.database_url, 1)
    shown = _Shown(ends, begins, advance)
    clock = asyncio.get_running_loop().time
    moved_at = clock()
    try:
        while not shown.is_complete:
            await asyncio.sleep(_POLL_SECONDS)
            async with waited_for("reading the replica's positions"):
                if shown.show(await positions_in(engine)):
                    moved_at = clock()
            if clock() - moved_at > STALLED_SECONDS:
                at_work = "the workers of the replica" if await is_worked_on() else "no worker"
                raise Unavailable(
                    f"{at_work} went on for {STALLED_SECONDS:.0f} s: see `emis-streams lag`, then try again"
                )
    finally:
        await engine.dispose()


class _Shown:
    """How far the partitions are, as the progress bar has been told."""

    def __init__(self, ends: Offsets, begins: Offsets, advance: Progress) -> None:
        self._ends = ends
        self._done = dict(begins)
        self._advance = advance

    @property
    def is_complete(self) -> bool:
        return all(self._done[tp] >= end for tp, end in self._ends.items())

    def show(self, positions: Offsets) -> bool:
        """Tells the bar what is new; whether anything was."""
        before = sum(self._done.values())
        for tp, end in self._ends.items():
            self._done[tp] = max(self._done[tp], min(positions.get(tp, 0), end))
        moved = sum(self._done.values()) - before
        if moved:
            self._advance(moved)
        return moved > 0
