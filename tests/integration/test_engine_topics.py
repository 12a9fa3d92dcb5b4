"""Topics that are missing, or not as the tables need them: nothing is read, it is told at once, and work goes on once
they are corrected.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from emis_streams.engine import Options, Slice
from tests.integration.engine_rig import PARTITIONS, Rig, admin, app_of, newer, row
from tests.services import unique, until

COMPACT = {"cleanup.policy": "compact"}


@pytest.fixture
def rig(broker: str, tmp_path: Path) -> Rig:
    """Its topics are not made yet."""
    return Rig(broker, tmp_path / "one")


async def make(rig: Rig, name: str, n_partitions: int = PARTITIONS, config: dict[str, str] | None = None) -> None:
    async with admin(rig.broker) as client:
        await client.create_topics([NewTopic(name, n_partitions, 1, topic_configs=config or {})])


async def delete(rig: Rig, name: str) -> None:
    async with admin(rig.broker) as client:
        await client.delete_topics([name])


@asynccontextmanager
async def started(rig: Rig) -> AsyncIterator[None]:
    starting = asyncio.create_task(rig.app.start())  # Ends when partitions are taken over.
    try:
        yield
    finally:
        await rig.app.stop()
        starting.cancel()
        await asyncio.wait([starting])


async def says(rig: Rig, text: str) -> None:
    await until(lambda: text in (rig.app.tables.recovery.waits_for or ""), 30)
    assert rig.slices == []
    assert not rig.app.tables.recovery.completed.is_set()


async def goes_on(rig: Rig) -> None:
    await until(lambda: rig.kept_in_table() == {"k": row(1)}, 40)
    await until(lambda: rig.app.tables.recovery.waits_for is None)


async def test_a_missing_changelog_is_told_and_waited_for(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await make(rig, rig.topic)
    await rig.produce({"k": row(1)})
    async with started(rig):
        await says(rig, f"{rig.changelog}, the changelog of table kept, is missing")
        assert "is missing: nothing is read" in caplog.text
        await make(rig, rig.changelog, config=COMPACT)
        await goes_on(rig)


@pytest.mark.parametrize("n_partitions", [1, 3])
async def test_a_changelog_with_another_number_of_partitions(rig: Rig, n_partitions: int) -> None:
    await make(rig, rig.topic)
    await make(rig, rig.changelog, n_partitions, COMPACT)
    await rig.produce({"k": row(1)})
    async with started(rig):
        await says(rig, f"{rig.changelog} has another number of partitions than its table kept: {n_partitions}, not 2")
        await delete(rig, rig.changelog)
        await says(rig, "is missing")
        await make(rig, rig.changelog, config=COMPACT)
        await goes_on(rig)


async def correct(rig: Rig) -> None:
    """The changelog gets the configuration that it has to have."""
    async with admin(rig.broker) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, rig.changelog, COMPACT)])


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
async def test_a_changelog_that_deletes_rows(rig: Rig, policy: str) -> None:
    await make(rig, rig.topic)
    await make(rig, rig.changelog, config={"cleanup.policy": policy})
    await rig.produce({"k": row(1)})
    async with started(rig):
        await says(rig, f"cleanup.policy={policy}, which deletes rows of table kept: it has to be compact")
        await correct(rig)
        await goes_on(rig)


async def test_a_changelog_with_fewer_replicas_than_have_to_be_in_sync(rig: Rig) -> None:
    await make(rig, rig.topic)
    await make(rig, rig.changelog, config={**COMPACT, "min.insync.replicas": "2"})
    async with started(rig):
        await says(rig, "has fewer replicas (1) than min.insync.replicas=2: nothing can be written to it")


async def test_a_changelog_that_is_too_small_for_batches_of_rows(rig: Rig) -> None:
    await make(rig, rig.topic)
    await make(rig, rig.changelog, config={**COMPACT, "max.message.bytes": "100000"})
    await rig.produce({"k": row(1)})
    async with started(rig):
        await says(rig, f"{rig.changelog} has max.message.bytes=100000: batches of rows of table kept have up to")
        await correct(rig)
        await goes_on(rig)


@pytest.mark.parametrize("config", [{"min.compaction.lag.ms": "0"}, {"message.timestamp.type": "LogAppendTime"}])
async def test_a_changelog_that_works_otherwise_is_worked_on(rig: Rig, config: dict[str, str]) -> None:
    await make(rig, rig.topic)
    await make(rig, rig.changelog, config={**COMPACT, **config})
    await rig.produce({"k": row(1)})
    async with started(rig):
        await goes_on(rig)


async def test_a_missing_source_is_told_and_read_once_it_is_there(rig: Rig) -> None:
    await make(rig, rig.changelog, config=COMPACT)
    async with started(rig):
        await until(lambda: f"{rig.topic}, a source of table kept" in (rig.app.tables.recovery.waits_for or ""), 40)
        await make(rig, rig.topic)
        await rig.produce({"k": row(1)})
        await goes_on(rig)


async def test_a_changelog_that_is_changed_under_a_worker_is_told(rig: Rig) -> None:
    await rig.make_topics()
    async with rig.running():
        deleting = ConfigResource(ConfigResourceType.TOPIC, rig.changelog, {"cleanup.policy": "delete"})
        async with admin(rig.broker) as client:
            await client.alter_configs([deleting])
            await client.create_partitions({rig.changelog: NewPartitions(3)})
        await until(lambda: "which deletes rows" in (rig.app.tables.recovery.waits_for or ""), 30)
        reason = str(rig.app.tables.recovery.waits_for)
        assert f"{rig.changelog} has another number of partitions than its table kept: 3, not 2" in reason


async def test_each_table_merges_by_its_own_rule_and_has_its_own_number_of_partitions(
    broker: str, tmp_path: Path
) -> None:
    """One keeps the higher row, the other the lower one; both are rebuilt from changelogs that hold both."""
    name = unique("two")

    def lower(row: bytes, stored: bytes | None) -> bytes:
        return row if stored is None else min(row, stored)

    app = app_of(name, broker, tmp_path, Options())
    highs = app.Table("highs", topics=[f"{name}-a"], merge=newer)
    lows = app.Table("lows", topics=[f"{name}-b"], merge=lower)

    @app.agent(app.slices(f"{name}-a", f"{name}-b"))
    async def read(slices: AsyncIterable[Slice]) -> None:
        async for batch in slices:
            batch.done_when()

    async with admin(broker) as client:
        await client.create_topics(
            [
                *[NewTopic(topic, n, 1) for topic, n in ((f"{name}-a", 2), (f"{name}-b", 3))],
                *[
                    NewTopic(f"{name}-{table}-changelog", n, 1, topic_configs=COMPACT)
                    for table, n in (("highs", 2), ("lows", 3))
                ],
            ]
        )
    writer = Rig(broker, tmp_path / "writes only")
    for table in ("highs", "lows"):
        rows = [(key, row(version)) for key in "abcdefgh" for version in (2, 3, 1)]
        await writer.produce(rows, f"{name}-{table}-changelog")
    await app.start()
    try:
        await until(lambda: app.tables.recovery.completed.is_set(), 60)
        kept = [
            {key: value for _, store in table.store._partitions.items() for key, value in store.items()}
            for table in (highs, lows)
        ]
    finally:
        await app.stop()
    keys = [key.encode() for key in "abcdefgh"]
    assert kept == [dict.fromkeys(keys, row(3)), dict.fromkeys(keys, row(1))]
