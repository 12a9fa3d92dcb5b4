"""A transaction in a changelog that does not end: who is held by it says so, and nothing is left out behind it."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from emis_streams.engine import open_transactions
from emis_streams.lag_measurement import Watched
from emis_streams.lag_report import OpenTransactionLag
from tests.integration.engine_rig import PARTITIONS, Rig, row
from tests.integration.open_transaction import open_transaction
from tests.integration.test_follower import Log, MemorySink, rows_of, running
from tests.integration.test_lag import make_topic, monitor, send
from tests.services import unique, until


@pytest.fixture
def named_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_transactions, "NAMED_AFTER_SECONDS", 1.0)


@pytest.mark.usefixtures("named_soon")
async def test_a_follower_that_is_held_names_partition_offsets_and_time(broker: str) -> None:
    log, sink = Log(broker), MemorySink()
    await log.make()
    await log.write(rows_of(20))
    stable = (await log.ends())[log.tps[1]]
    async with running(log.follower(sink)) as follower:
        await until(lambda: follower.caught_up and sink.rows == rows_of(20))
        with open_transaction(broker, log.name, 1, 3):
            await log.write(rows_of(20, version=2))
            held = await until(lambda: follower.open_transaction)
            assert (held.tp, held.stable_offset) == (log.tps[1], stable)
            assert f"the last stable offset of {log.name}-1 at {stable}" in held.in_words()
        await until(lambda: sink.rows == rows_of(20, version=2))
        await until(lambda: follower.open_transaction is None)


@pytest.mark.usefixtures("named_soon")
async def test_a_worker_that_takes_over_waits_for_the_rows_behind_it_and_says_so(broker: str, tmp_path: Path) -> None:
    """Older rows would be gone on from: a late event of before would win."""
    rig = Rig(broker, tmp_path / "one")
    await rig.make_topics()
    old, new = ({f"key-{k}": row(version) for k in range(40)} for version in (1, 2))
    with ExitStack() as transactions:
        async with rig.running():
            await rig.produce(old)
            await until(rig.all_committed)
            for n in range(PARTITIONS):
                transactions.enter_context(open_transaction(broker, rig.changelog, n, 1, b"key"))
            await rig.produce(new)
            await until(rig.all_committed)
            recovery = rig.app.tables.recovery
            assert all(rig.app.tables.partition(tp).has_gap for tp in changelog(rig))
            seen = recovery._looked
            await until(lambda: recovery._looked > seen)
            assert recovery.foreign_records_total == 0  # Nothing can be read there yet.
        other = rig.other(tmp_path / "two")
        starting = asyncio.create_task(other.app.start())  # It is over once the tables are recovered.
        try:
            recovery = other.app.tables.recovery
            said = await until(lambda: recovery.waits_for, 40)
            assert f"an open transaction has held the last stable offset of {rig.changelog}-" in said
            assert not recovery.completed.is_set()
            transactions.close()
            await until(recovery.completed.is_set)
            assert other.kept_in_table() == new
            assert recovery.waits_for is None
        finally:
            await asyncio.wait([starting])
            await other.app.stop()


def changelog(rig: Rig) -> list[TopicPartition]:
    return [TopicPartition(rig.changelog, n) for n in range(PARTITIONS)]


async def test_the_lag_of_whoever_asks_names_it(broker: str, tmp_path: Path) -> None:
    """Also the command line, which has no followers."""
    name = unique("lag-changelog")
    watched = Watched("no-ingest", "no-replica", (), (name,), None, frozenset())
    await make_topic(broker, name, 2)
    await send(broker, name, 4, partition=1)
    async with monitor(broker, tmp_path, watched) as lag:
        with open_transaction(broker, name, 1, 3):
            await send(broker, name, 2, partition=1)

            async def named() -> OpenTransactionLag | None:
                return next(iter((await lag.measure()).open_transactions), None)

            found = await until(named, 40)
            assert (found.topic, found.partition, found.stable_offset, found.end_offset) == (name, 1, 4, 9)
            assert "An open transaction has held the last stable offset at 4 (high watermark 9)" in found.reason
            assert (await lag.measure()).severity == "error"

        async def gone() -> bool:
            return not (await lag.measure()).open_transactions

        await until(gone, 40)
