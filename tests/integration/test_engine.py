"""The engine on a real broker: nothing is committed that is not durable, and nothing gets lost on the way."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from emis_streams.engine import catch_up, fatal
from tests.integration.engine_rig import PARTITIONS, Rig, admin, producer, row
from tests.services import until


class Ended(Exception):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why the engine would have ended the process; a test that expects no end checks that it is empty."""
    reasons: list[str] = []

    def end_process(_app: Any, reason: str, error: BaseException | None = None, code: int = 70) -> None:
        reasons.append(f"{reason}: {error!r}")

    monkeypatch.setattr(fatal, "end_process", end_process)
    return reasons


@pytest.fixture
async def rig(broker: str, tmp_path: Path) -> Rig:
    rig = Rig(broker, tmp_path / "one")
    await rig.make_topics()
    return rig


def events(n_keys: int, n_versions: int = 1) -> list[tuple[str, bytes]]:
    return [(f"key-{k}", row(v)) for v in range(1, n_versions + 1) for k in range(n_keys)]


async def test_every_record_is_kept_in_table_and_changelog_then_committed(rig: Rig, ends: list[str]) -> None:
    sent = events(300, n_versions=3)
    async with rig.running():
        await rig.produce(sent)
        await until(rig.all_committed)
        assert rig.kept_in_table() == dict(sent)
    assert await rig.kept_in_changelog() == dict(sent)
    assert ends == []


async def test_a_partition_with_nothing_committed_is_read_from_its_start(rig: Rig) -> None:
    await rig.produce(events(100))
    async with rig.running():
        await until(lambda: len(rig.kept_in_table()) == 100)


async def test_nothing_is_committed_between_write_and_acknowledgement(rig: Rig) -> None:
    rig.may_finish.clear()
    async with rig.running():
        await rig.produce(events(10))
        await until(lambda: len(rig.kept_in_table()) > 0)
        await until(lambda: rig.app.slice_consumer.slices_under_way())
        await rig.app.consumer.commit()
        assert await rig.committed() == {}
        rig.may_finish.set()
        await until(rig.all_committed)


async def test_a_slice_dropped_between_fetch_and_agent_is_fetched_again(rig: Rig, ends: list[str]) -> None:
    dropped = []
    async with rig.running():
        thread = rig.app.consumer._thread
        fetch = thread.fetch

        async def lossy_fetch(*args: Any) -> Any:
            runs = await fetch(*args)
            if runs and not dropped:
                dropped.append(runs.pop(0))
            return runs

        thread.fetch = lossy_fetch
        await rig.produce(events(500))
        await until(rig.all_committed)
        assert len(dropped[0].records) > 0
        assert rig.app.slice_consumer.chains_broken_total >= 1
        assert rig.kept_in_table() == dict(events(500))
    assert ends == []


async def test_slices_that_a_rebalance_clears_from_the_queue_are_read_by_the_next_owner(
    rig: Rig, tmp_path: Path, ends: list[str]
) -> None:
    sent = events(400, n_versions=2)
    await rig.produce(sent)
    rig.may_begin.clear()
    other = rig.other(tmp_path / "two")
    async with rig.running():
        await until(lambda: rig.app.slice_consumer.slices_under_way())
        joining = asyncio.create_task(other.app.start())
        await until(lambda: rig.app.rebalancing)
        rig.may_begin.set()
        await joining
        await until(lambda: other.app.consumer.assignment() and not other.app.rebalancing)
        await until(rig.all_committed)
        both = rig.kept_in_table() | other.kept_in_table()
        assert both == dict(sent)
        await other.app.stop()
    assert await rig.kept_in_changelog() == dict(sent)
    assert ends == []


async def test_a_callback_that_a_rebalance_cancels_loses_nothing(rig: Rig, ends: list[str]) -> None:
    sent = events(300)
    cancelled = []
    async with rig.running():
        consumer = rig.app.slice_consumer
        callback = consumer.callback

        async def cancelled_once(message: Any) -> None:
            if not cancelled:
                cancelled.append(message)
                return  # The slice has entered its chain, and no agent will ever see it.
            await callback(message)

        consumer.callback = cancelled_once
        await rig.produce(sent)
        await until(lambda: cancelled)
        await until(lambda: len(rig.kept_in_table()) > 0)
        assert not await rig.all_committed(), "the offset has moved over a slice that nobody saw"
        await consumer.on_partitions_revoked(consumer.assignment())
        await consumer.on_partitions_assigned(consumer.assignment(), rig.app.consumer_generation_id)
        await until(rig.all_committed)
        assert rig.kept_in_table() == dict(sent)
    assert ends == []


async def test_an_older_row_that_someone_else_writes_after_ours_is_followed_by_ours_again(
    rig: Rig, ends: list[str]
) -> None:
    async with rig.running():
        await rig.produce({"key": row(5)})
        await until(rig.all_committed)
        await rig.produce({"key": row(3, "zombie")}, topic=rig.changelog)
        await until(lambda: rig.app.tables.recovery.foreign_records_total > 0)

        async def ours_is_last() -> bool:
            return await rig.kept_in_changelog() == {"key": row(5)}

        await until(ours_is_last)
        assert rig.kept_in_table() == {"key": row(5)}
    assert ends == []


async def test_an_agent_paused_between_write_and_acknowledgement_keeps_its_newer_row(rig: Rig) -> None:
    async with rig.running():
        await rig.produce({"key": row(1)})
        await until(rig.all_committed)
        rig.may_finish.clear()
        await rig.produce({"key": row(2)})
        await until(lambda: rig.kept_in_table() == {"key": row(2)})
        await rig.produce({"key": row(1, "zombie")}, topic=rig.changelog)
        await until(lambda: rig.app.tables.recovery.foreign_records_total > 0)

        async def ours_is_last() -> bool:
            return await rig.kept_in_changelog() == {"key": row(2)}

        await until(ours_is_last)
        assert rig.kept_in_table() == {"key": row(2)}
        rig.may_finish.set()
        await until(rig.all_committed)


async def test_a_row_that_went_back_in_the_log_is_sent_again_when_the_partition_is_taken_over(
    rig: Rig, tmp_path: Path
) -> None:
    await rig.produce([("key", row(7)), ("key", row(4, "zombie"))], topic=rig.changelog)
    async with rig.running():
        assert rig.kept_in_table() == {"key": row(7)}
    assert await rig.kept_in_changelog() == {"key": row(7)}


async def test_a_lost_table_is_rebuilt_from_the_changelog(rig: Rig, tmp_path: Path) -> None:
    sent = events(200)
    async with rig.running():
        await rig.produce(sent)
        await until(rig.all_committed)
    fresh = rig.other(tmp_path / "elsewhere")
    async with fresh.running():
        assert fresh.kept_in_table() == dict(sent)
        assert fresh.slices == []


async def test_a_changelog_that_was_made_anew_gets_the_rows_of_the_table(
    rig: Rig, ends: list[str], tmp_path: Path
) -> None:
    sent = await _left_in_the_table_only(rig)
    again = rig.other(rig.folder)
    async with again.running():
        assert again.kept_in_table() == dict(sent)
    assert await rig.kept_in_changelog() == dict(sent)
    fresh = rig.other(tmp_path / "elsewhere")
    async with fresh.running():
        assert fresh.kept_in_table() == dict(sent)
    assert ends == []


async def test_a_changelog_that_is_made_anew_under_way_gets_the_rows_of_the_table(
    rig: Rig, ends: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "_TOPICS_CHECK_SECONDS", 0.0)
    before, after = events(50), [(f"later-{k}", row(1)) for k in range(50)]
    async with rig.running():
        await rig.produce(before)
        await until(rig.all_committed)
        await _make_changelog_anew(rig)
        await rig.produce(after)

        async def has_all() -> bool:
            return await rig.kept_in_changelog() == dict(before + after)

        await until(has_all)
        assert rig.kept_in_table() == dict(before + after)
    assert ends == []


async def test_a_changelog_that_was_made_anew_gets_what_those_kept_who_owned_its_partitions(
    rig: Rig, ends: list[str], tmp_path: Path
) -> None:
    """Here the partition's new owner starts with nothing, and finds it as rows of someone else."""
    sent = await _left_in_the_table_only(rig)
    new_owner, former = rig.other(tmp_path / "elsewhere"), rig.other(rig.folder)
    async with new_owner.running(), former.running():
        await until(lambda: {**new_owner.kept_in_table(), **former.kept_in_table()} == dict(sent))
    assert await rig.kept_in_changelog() == dict(sent)
    assert ends == []


async def _left_in_the_table_only(rig: Rig) -> list[tuple[str, bytes]]:
    """What a worker kept that has stopped, and whose changelog was made anew."""
    sent = events(50)
    async with rig.running():
        await rig.produce(sent)
        await until(rig.all_committed)
    await _make_changelog_anew(rig)
    return sent


async def _make_changelog_anew(rig: Rig) -> None:
    async with admin(rig.broker) as client:
        await client.delete_topics([rig.changelog])
        await until(lambda: _gone(rig))
    await rig.make_topics()


async def _gone(rig: Rig) -> bool:
    async with admin(rig.broker) as client:
        return rig.changelog not in await client.list_topics()


async def test_records_that_retention_took_are_an_alarm_with_their_number(rig: Rig, tmp_path: Path) -> None:
    async with rig.running():
        await rig.produce(events(20))
        await until(rig.all_committed)
    before = await rig.committed()
    await rig.produce(events(60, n_versions=2))
    ends = await rig.ends()
    async with admin(rig.broker) as client:
        await client.delete_records(
            {TopicPartition(rig.topic, n): RecordsToDelete(before_offset=end) for n, end in ends.items()}
        )
    again = rig.other(tmp_path / "two")
    async with again.running():
        lost = {tp.partition: n for tp, n in again.app.slice_consumer.lost_to_retention.items()}
    assert lost == {n: end - before[n] for n, end in ends.items()}


async def test_aborted_records_are_not_read_and_their_markers_do_not_hold_up_the_commit(rig: Rig) -> None:
    async with producer(rig.broker, transactional_id=rig.name) as client:
        await client.begin_transaction()
        await client.send_and_wait(rig.topic, row(9, "aborted"), b"key-0", partition=0)
        await client.abort_transaction()
        await client.begin_transaction()
        await client.send_and_wait(rig.topic, row(1), b"key-0", partition=0)
        await client.commit_transaction()
    async with rig.running():
        await until(rig.all_committed)
        assert rig.kept_in_table() == {"key-0": row(1)}


async def test_a_worker_that_cannot_finish_before_giving_up_partitions_ends(
    broker: str, tmp_path: Path, ends: list[str]
) -> None:
    rig = Rig(broker, tmp_path, options={"drain_timeout_seconds": 0.5})
    await rig.make_topics()
    async with rig.running():
        await rig.produce({"key": row(1)})
        await until(rig.all_committed)
        batch = rig.slices[-1]
        batch.begun = True
        rig.app.slice_consumer._under_way[batch] = None
        await rig.app.slice_consumer.wait_empty()
        assert "not acknowledged (1) after 0.5 s of draining" in ends[0]
        rig.app.slice_consumer._under_way.clear()


async def test_a_worker_that_the_group_no_longer_knows_sends_nothing(rig: Rig, ends: list[str]) -> None:
    async with rig.running():
        membership = rig.app.slice_consumer.membership
        assert membership.last_heartbeat > 0
        membership._coordinator = SimpleNamespace(generation=-1)
        membership.seconds_since_heartbeat = lambda: 11.0  # type: ignore[method-assign]
        await rig.produce({"key": row(1)})
        await until(lambda: ends)
        assert "SessionLost" in ends[0]
        assert await rig.kept_in_changelog() == {}
        rig.app.slice_consumer._under_way.clear()


async def test_a_worker_whose_coordinator_was_away_goes_on_when_that_answers(rig: Rig, ends: list[str]) -> None:
    async with rig.running():
        membership = rig.app.slice_consumer.membership
        silent = membership.seconds_since_heartbeat
        membership.seconds_since_heartbeat = lambda: 11.0  # type: ignore[method-assign]
        await rig.produce({"key": row(1)})
        await until(lambda: membership._doubted)
        assert await rig.kept_in_changelog() == {}
        membership.seconds_since_heartbeat = silent  # type: ignore[method-assign]
        await until(rig.all_committed)
    assert await rig.kept_in_changelog() == {"key": row(1)}
    assert ends == []


async def test_a_worker_that_stops_asks_its_consumer_nothing_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread may have ended, and would never answer."""
    asked: list[bool] = []

    async def check_group(_watch: catch_up.CatchUp) -> None:
        asked.append(True)

    monkeypatch.setattr(catch_up, "_WATCH_SECONDS", 3600.0)
    monkeypatch.setattr(catch_up.CatchUp, "_check_group", check_group)
    async with rig.running():
        pass
    assert asked == []


async def test_what_a_consumer_does_not_answer_before_its_thread_ends_is_cancelled(rig: Rig) -> None:
    """Faust's would be waited for for ever, and with it the end of the worker."""
    asked: list[asyncio.Task[None]] = []
    async with rig.running():
        thread = rig.app.consumer._thread
        close = thread.on_thread_stop

        async def ask() -> None:
            asked.append(asyncio.create_task(thread.check_group()))

        async def close_and_be_asked() -> None:
            await close()
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), thread.parent_loop))

        thread.on_thread_stop = close_and_be_asked
    asked.append(asyncio.create_task(thread.check_group()))  # And what is asked later is, at once.
    await asyncio.wait(asked, timeout=5)
    assert [task.cancelled() for task in asked] == [True, True]


async def test_a_join_that_waits_long_for_the_other_members_is_no_broker_that_does_not_answer(
    rig: Rig, tmp_path: Path, ends: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    other = rig.other(tmp_path / "two")
    rig.may_finish.clear()
    async with rig.running():
        await rig.produce({"key": row(1)})
        await until(lambda: rig.kept_in_table())
        joining = asyncio.create_task(other.app.start())
        await until(lambda: rig.app.rebalancing)
        longer_than_other_answers = time.monotonic() + 4.0
        await until(lambda: time.monotonic() > longer_than_other_answers)
        rig.may_finish.set()
        await joining
        await until(lambda: other.app.tables.recovery.completed.is_set())
        await other.app.stop()
        await until(lambda: len(rig.app.consumer.assignment()) == PARTITIONS)  # Else it stops while it joins again.
    assert "marking coordinator dead" not in caplog.text
    assert ends == []
