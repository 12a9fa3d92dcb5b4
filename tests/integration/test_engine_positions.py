"""Where a worker goes on after strange things happened to its log, its commits, or in the middle of its watching."""

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete

from emis_streams.engine import catch_up, fatal
from emis_streams.engine.catch_up import CatchUp
from emis_streams.engine.consumer_thread import SliceConsumerThread
from emis_streams.engine.database_errors import Unusable
from emis_streams.engine.table import TableSink
from tests.integration.engine_rig import PARTITIONS, Rig, admin, reader, row
from tests.services import until


@pytest.fixture(autouse=True)
def no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def end_process(_app: Any, reason: str, error: BaseException | None = None, code: int = 70) -> None:
        raise AssertionError(f"{reason}: {error!r}")

    monkeypatch.setattr(fatal, "end_process", end_process)


@pytest.fixture
async def rig(broker: str, tmp_path: Path) -> Rig:
    rig = Rig(broker, tmp_path / "one")
    await rig.make_topics()
    return rig


def events(n_keys: int) -> dict[str, bytes]:
    return {f"key-{k}": row(1) for k in range(n_keys)}


async def commit(rig: Rig, offset: int, metadata: str = "", partitions: Collection[int] = range(PARTITIONS)) -> None:
    async with reader(rig.broker, group_id=rig.name, enable_auto_commit=False) as client:
        tps = [TopicPartition(rig.topic, n) for n in partitions]
        client.assign(tps)
        await client.commit(dict.fromkeys(tps, (offset, metadata)))


async def test_a_commit_beyond_the_end_is_replaced_by_what_was_read(rig: Rig) -> None:
    """So it is where a topic was made anew, or its brokers lost what was acknowledged."""
    await rig.produce(events(40))
    await commit(rig, 1_000_000)
    async with rig.running():
        await until(rig.all_committed)
        assert rig.kept_in_table() == events(40)


async def test_records_that_retention_took_are_an_alarm_only_once(rig: Rig) -> None:
    await rig.produce(events(40))
    await commit(rig, 0)
    ends = await rig.ends()
    async with admin(rig.broker) as client:
        await client.delete_records(
            {TopicPartition(rig.topic, n): RecordsToDelete(before_offset=end) for n, end in ends.items()}
        )
    async with rig.running():
        assert sum(rig.app.slice_consumer.lost_to_retention.values()) == 40
        await until(rig.all_committed)
    again = rig.other(rig.folder)
    async with again.running():
        assert again.app.slice_consumer.lost_to_retention == {}


async def test_a_fetch_that_outlives_its_generation_takes_nothing(rig: Rig) -> None:
    """It waits through a rebalance; what it took then would be missing until the partition's next record comes."""
    async with rig.running():
        consumer = rig.app.slice_consumer
        late = asyncio.create_task(consumer._thread.fetch(consumer.assignment(), 10.0, lambda: False))
        await rig.produce(events(40))
        assert await late == []
        await until(rig.all_committed)
        assert rig.kept_in_table() == events(40)
        assert consumer.chains_broken_total == 0


async def make_anew(rig: Rig) -> None:
    async with admin(rig.broker) as client:
        await client.delete_topics([rig.topic])

        async def made() -> bool:
            answer = await client.create_topics([NewTopic(rig.topic, PARTITIONS, 1)])
            return all(code == 0 for _, code, *_ in answer.topic_errors)

        await until(made)


def others(n_keys: int) -> dict[str, bytes]:
    return {f"other-{k}": row(1) for k in range(n_keys)}


async def assert_made_anew_is_read_from_its_start(rig: Rig) -> None:
    await make_anew(rig)
    await rig.produce(others(400))
    assert sum((await rig.ends()).values()) == 400, "the broker still had the old topic, and lost them with it"
    await until(lambda: rig.kept_in_table() == {**events(40), **others(400)}, 60)
    await until(rig.all_committed)


async def test_a_topic_made_anew_while_nobody_read_it_is_read_from_its_start(rig: Rig) -> None:
    """The old offset lies within the new log: by the offset alone its beginning would be passed over."""
    await rig.produce(events(40))
    async with rig.running():
        await until(rig.all_committed)
    async with admin(rig.broker) as client:
        read = await client.list_consumer_group_offsets(rig.name)
    await make_anew(rig)
    await rig.produce(others(400))
    at = max(read.values())
    await commit(rig, at.offset, at.metadata)  # The brokers forgot it with the topic; an answer late by then brings it.
    again = rig.other(rig.folder)
    async with again.running():
        await until(again.all_committed)
        assert again.kept_in_table() == {**events(40), **others(400)}


async def test_a_topic_made_anew_under_a_worker_is_read_from_its_start(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "_TOPICS_CHECK_SECONDS", 1.0)
    await rig.produce(events(40))
    async with rig.running():
        await until(rig.all_committed)
        await assert_made_anew_is_read_from_its_start(rig)


async def test_a_late_commit_of_the_old_topic_is_not_taken_for_one_of_the_new_topic(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever reads the new topic next would begin there, past records that nobody read."""

    async def look_not(_self: CatchUp) -> None:
        """The brokers know better."""

    monkeypatch.setattr(CatchUp, "_look_at_topics", look_not)
    held, go_on = asyncio.Event(), asyncio.Event()
    commit_now = SliceConsumerThread.commit

    async def late(thread: SliceConsumerThread, offsets: Any) -> bool:
        if held.is_set():
            return False
        held.set()
        await go_on.wait()
        return await commit_now(thread, offsets)

    async with rig.running():
        monkeypatch.setattr(SliceConsumerThread, "commit", late)
        consumer = rig.app.slice_consumer
        old = (await consumer.describe([rig.topic]))[rig.topic]
        await rig.produce(events(40))
        await until(lambda: held.is_set() and rig.kept_in_table() == events(40))
        n_slices = len(rig.slices)
        consumer.note_topics({rig.topic: replace(old, id="another")})
        await until(lambda: len(rig.slices) > n_slices)
        go_on.set()
        await until(rig.committed)
        async with admin(rig.broker) as client:
            assert {at.metadata for at in (await client.list_consumer_group_offsets(rig.name)).values()} == {old.id}


async def test_a_topic_with_more_partitions_than_its_table_is_not_read_until_it_is_as_it_was(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "_TOPICS_CHECK_SECONDS", 1.0)
    await rig.produce(events(40))
    async with rig.running():
        await until(rig.all_committed)
        async with admin(rig.broker) as client:
            await client.create_partitions({rig.topic: NewPartitions(PARTITIONS + 1)})
        recovery = rig.app.tables.recovery
        await until(lambda: f"{rig.topic} has another number of partitions" in (recovery.waiting.reason or ""), 60)
        await rig.produce(others(400))
        assert rig.kept_in_table() == events(40)
        await assert_made_anew_is_read_from_its_start(rig)


async def test_what_fails_while_changelogs_are_watched_ends_the_worker_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, for one: Faust would refuse requests for seconds before it ends (fault row 27)."""
    told: list[tuple[str, BaseException | None]] = []
    full = Unusable("the disk is full")

    def end_process(_app: Any, reason: str, error: BaseException | None = None, code: int = 70) -> None:
        told.append((reason, error))
        raise asyncio.CancelledError  # Nothing goes on after it.

    async def fail(_self: CatchUp) -> None:
        raise full

    monkeypatch.setattr(fatal, "end_process", end_process)
    async with rig.running():
        monkeypatch.setattr(CatchUp, "_look_at_topics", fail)
        await until(lambda: told == [("watching the changelogs failed", full)])


async def test_a_worker_more_than_there_are_partitions_stands_by(rig: Rig, tmp_path: Path) -> None:
    rigs = [rig, *(rig.other(tmp_path / str(n)) for n in range(PARTITIONS))]
    await rig.produce(events(40))
    async with AsyncExitStack() as running:
        for each in rigs:
            await running.enter_async_context(each.running())
        await until(lambda: sorted(len(r.app.consumer.assignment()) for r in rigs) == [0, 1, 1])
        await until(lambda: not any(r.app.rebalancing for r in rigs))


async def test_a_group_set_by_another_program_is_told(rig: Rig) -> None:
    """Once: what the group has committed is committed again, with the topic's id, though nothing new comes."""
    await rig.produce(events(40))
    for n, end in (await rig.ends()).items():
        await commit(rig, end, partitions=[n])

    async def is_committed_again() -> bool:
        async with admin(rig.broker) as client:
            return all(at.metadata for at in (await client.list_consumer_group_offsets(rig.name)).values())

    async with rig.running():
        assert rig.app.slice_consumer.set_by_others_total == PARTITIONS
        await until(is_committed_again)
    again = rig.other(rig.folder)
    async with again.running():
        assert again.app.slice_consumer.set_by_others_total == 0


async def test_a_rebalance_while_records_of_someone_else_are_read(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stores that are read into may be closed then; and the watching must go on afterwards."""
    held, go_on = asyncio.Event(), asyncio.Event()
    send_again = CatchUp._send_again

    async def held_up(self: CatchUp, sink: TableSink) -> None:
        if self is rig.app.tables.recovery and rig.app.tables.recovery.foreign_records_total:
            held.set()
            await go_on.wait()
        await send_again(self, sink)

    other = rig.other(tmp_path / "two")
    async with rig.running():
        await rig.produce(events(40))
        await until(rig.all_committed)
        monkeypatch.setattr(CatchUp, "_send_again", held_up)
        await rig.produce({"key-0": row(0, "zombie")}, topic=rig.changelog)
        await asyncio.wait_for(held.wait(), 20)
        async with other.running():
            monkeypatch.setattr(CatchUp, "_send_again", send_again)
            go_on.set()
            await until(lambda: not rig.app.rebalancing and len(rig.app.consumer.assignment()) < PARTITIONS)
            assert set(rig.table.store.open_partitions) == {tp.partition for tp in rig.app.consumer.assignment()}
            assert set(rig.kept_in_table()) | set(other.kept_in_table()) == set(events(40))
            seen = rig.app.tables.recovery.foreign_records_total
            await rig.produce({f"key-{k}": row(0, "zombie") for k in range(40)}, topic=rig.changelog)
            await until(lambda: rig.app.tables.recovery.foreign_records_total > seen)
