"""The one follower on a real broker: whatever happens to log, sink or broker, it goes on and leaves nothing out."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition, client, conn
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import UnknownTopicOrPartitionError

from emis_streams.engine import follower as following
from emis_streams.engine.follower import ChangelogSlice, Follower, Position, PositionsChanged
from emis_streams.local import KafkaCluster
from emis_streams.local.ports import is_answering
from tests.integration.engine_rig import admin, newer, producer, reader, row
from tests.services import kafka_cluster, unique, until

PARTITIONS = 2


class Away(Exception):
    """The sink's database cannot be reached."""


@dataclass
class MemorySink:
    """Keeps rows and positions in memory, and fails as it is told."""

    rows: dict[str, bytes] = field(default_factory=dict)
    kept: dict[TopicPartition, Position] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)
    """Raised one after the other by the next calls of `apply` with slices."""
    attempts: list[Sequence[ChangelogSlice]] = field(default_factory=list)
    resets: list[TopicPartition] = field(default_factory=list)
    asked: int = 0
    may_apply: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether `positions` may."""
    emptied: bool = False

    def __post_init__(self) -> None:
        self.may_apply.set()
        self.may_answer.set()

    async def positions(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        self.asked += 1
        self.emptied = False
        await self.may_answer.wait()
        return {tp: self.kept[tp] for tp in tps if tp in self.kept}

    async def reset(self, tp: TopicPartition) -> None:
        self.resets.append(tp)
        del self.kept[tp]

    async def apply(self, slices: Sequence[ChangelogSlice]) -> None:
        if self.emptied:
            raise PositionsChanged("the rows are gone")
        if not slices:
            return
        self.attempts.append(slices)
        await self.may_apply.wait()
        if self.failures:
            raise self.failures.pop(0)
        for part in slices:
            for key, (value, _written_ms) in part.rows.items():
                self.rows[key.decode()] = newer(value, self.rows.get(key.decode()))
            self.kept[part.tp] = part.position

    def empty(self) -> None:
        """As an operator does who drops the tables, or restores an old copy."""
        self.rows.clear()
        self.kept.clear()
        self.emptied = True


@dataclass
class Log:
    """A changelog on the broker."""

    broker: str
    name: str = field(default_factory=lambda: unique("changelog"))

    @property
    def tps(self) -> list[TopicPartition]:
        return [TopicPartition(self.name, n) for n in range(PARTITIONS)]

    async def make(self) -> None:
        async with admin(self.broker) as client:
            await client.create_topics([NewTopic(self.name, PARTITIONS, 1)])

    async def delete(self) -> None:
        async with admin(self.broker) as client:
            await client.delete_topics([self.name])

            async def gone() -> bool:
                return self.name not in await client.list_topics()

            await until(gone)

    async def write(self, rows: dict[str, bytes]) -> None:
        async with producer(self.broker) as client:
            sent = [await client.send(self.name, value, key.encode()) for key, value in rows.items()]
            await asyncio.gather(*sent)

    async def ends(self) -> dict[TopicPartition, int]:
        async with reader(self.broker) as client:
            return dict(await client.end_offsets(self.tps))

    def follower(self, sink: MemorySink, **options: Any) -> Follower:
        by_default: dict[str, Any] = {"partitions": self.tps} if "group" not in options else {"topics": [self.name]}
        client = {"bootstrap_servers": self.broker}
        return Follower(name="test", client=client, sink=sink, merge=newer, wait_for=(Away,), **by_default, **options)


def rows_of(n: int, version: int = 1) -> dict[str, bytes]:
    return {f"key-{k}": row(version) for k in range(n)}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at now and then is looked at often."""
    monkeypatch.setattr(following, "_TOPIC_ID_CHECK_SECONDS", 0.3)
    monkeypatch.setattr(following, "_SINK_CHECK_SECONDS", 0.3)
    monkeypatch.setattr(following, "_GROUP_COMMIT_SECONDS", 0.3)


@pytest.fixture
async def log(broker: str) -> Log:
    log = Log(broker)
    await log.make()
    return log


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[Follower]:
    """The follower at work; what ends it is raised."""
    task = asyncio.create_task(follower.follow())
    try:
        yield follower
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


# -- catching up --------------------------------------------------------------------------------


async def test_catch_up_ends_with_everything_that_was_there_at_the_start(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(500))
    follower = log.follower(sink, slice_records=50)
    await asyncio.wait_for(follower.catch_up(), 30)
    assert sink.rows == rows_of(500)
    assert follower.caught_up
    assert follower.next_offsets == await log.ends()
    assert follower.records_total == 500


async def test_catch_up_does_not_run_after_a_log_that_grows(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(40))
    sink.may_apply.clear()
    follower = log.follower(sink, slice_records=10)
    catching_up = asyncio.create_task(follower.catch_up())
    await until(lambda: sink.attempts)
    await log.write(rows_of(400, version=2))
    sink.may_apply.set()
    await asyncio.wait_for(catching_up, 30)
    assert sink.rows.keys() >= rows_of(40).keys()
    assert follower.records_total < 440


async def test_an_empty_log_is_caught_up_at_once(log: Log, sink: MemorySink) -> None:
    levels: list[bool] = []
    follower = log.follower(sink, on_level=lambda: levels.append(True))
    await asyncio.wait_for(follower.catch_up(), 30)
    assert levels == [True]
    assert sink.attempts == []


async def test_it_goes_on_from_the_sinks_positions(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(100))
    await asyncio.wait_for(log.follower(sink).catch_up(), 30)
    await log.write({"new": row(1)})
    again = log.follower(sink)
    await asyncio.wait_for(again.catch_up(), 30)
    assert again.records_total == 1
    assert sink.rows == {**rows_of(100), "new": row(1)}


async def test_control_records_at_the_end_are_no_records_that_are_missing(log: Log, sink: MemorySink) -> None:
    async with producer(log.broker, transactional_id=unique("tx")) as client:
        for n in range(PARTITIONS):
            await client.begin_transaction()
            await client.send_and_wait(log.name, row(1), b"kept-%d" % n, partition=n)
            await client.commit_transaction()
            await client.begin_transaction()
            await client.send_and_wait(log.name, row(9), b"aborted-%d" % n, partition=n)
            await client.abort_transaction()
    follower = log.follower(sink)
    await asyncio.wait_for(follower.catch_up(), 30)
    assert sink.rows == {"kept-0": row(1), "kept-1": row(1)}
    assert follower.next_offsets == await log.ends()


# -- positions that do not fit the log ----------------------------------------------------------


async def topic_id(log: Log) -> str:
    asking = MemorySink()
    follower = log.follower(asking)
    await follower.catch_up()
    return follower.topic_id(log.tps[0])


async def test_a_position_behind_the_end_is_reset_and_read_from_the_start(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(50))
    sink.kept = {log.tps[0]: Position(10_000, await topic_id(log))}
    await asyncio.wait_for(log.follower(sink).catch_up(), 30)
    assert sink.resets == [log.tps[0]]
    assert sink.rows == rows_of(50)


async def test_a_position_before_the_start_is_reset(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(50))
    sink.kept = dict.fromkeys(log.tps, Position(0, await topic_id(log)))
    ends = await log.ends()
    async with admin(log.broker) as client:
        await client.delete_records({tp: RecordsToDelete(before_offset=end) for tp, end in ends.items()})
    follower = log.follower(sink)
    await asyncio.wait_for(follower.catch_up(), 30)
    assert set(sink.resets) == set(log.tps)
    assert follower.next_offsets == ends


async def test_a_position_that_was_moved_on_while_it_was_asked_for_is_kept(log: Log, sink: MemorySink) -> None:
    """Another member of the group may be at work on the partition: it follows records that are newer than any end."""
    await log.write(rows_of(30))
    own_topic_id = await topic_id(log)
    positions = sink.positions

    async def moved_on(tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        await log.write(rows_of(30, version=2))
        sink.kept = {tp: Position(end, own_topic_id) for tp, end in (await log.ends()).items()}
        return await positions(tps)

    sink.positions = moved_on  # type: ignore[method-assign]
    follower = log.follower(sink)
    await asyncio.wait_for(follower.catch_up(), 30)
    assert sink.resets == []
    assert follower.next_offsets == await log.ends()


async def test_a_position_of_another_topic_of_that_name_is_reset(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(50))
    sink.rows = {"from the other topic": row(1)}
    sink.kept = dict.fromkeys(log.tps, Position(1, "0" * 32))
    await asyncio.wait_for(log.follower(sink).catch_up(), 30)
    assert sink.rows == {"from the other topic": row(1), **rows_of(50)}


async def test_a_log_that_is_truncated_under_way_is_followed_from_its_start(log: Log, sink: MemorySink) -> None:
    """The position is then before the log's start: records are missing, which only starting anew makes good."""
    await log.write(rows_of(200))
    sink.may_apply.clear()
    async with running(log.follower(sink, slice_records=10)):
        await until(lambda: sink.attempts)
        ends = await log.ends()
        async with admin(log.broker) as client:
            await client.delete_records({tp: RecordsToDelete(before_offset=end) for tp, end in ends.items()})
        await log.write({"after": row(1)})
        sink.may_apply.set()
        await until(lambda: "after" in sink.rows)


@pytest.mark.parametrize("n_new", [20, 60], ids=["shorter", "longer"])
async def test_a_topic_that_is_made_anew_while_it_is_followed_is_followed_from_its_start(
    log: Log, sink: MemorySink, n_new: int
) -> None:
    levels: list[bool] = []
    await log.write({f"old-{k}": row(1) for k in range(40)})
    async with running(log.follower(sink, on_level=lambda: levels.append(True))) as follower:
        await until(lambda: len(sink.rows) == 40 and levels)
        await log.delete()
        await log.make()
        await log.write(rows_of(n_new))
        await until(lambda: sink.rows.items() >= rows_of(n_new).items())
        assert len(sink.rows) == 40 + n_new, "what was kept may be the last copy"
        assert follower.caught_up
        assert sink.resets
        await until(lambda: len(levels) >= 2)  # Whoever was told that it is level is told again.


# -- a sink that fails --------------------------------------------------------------------------


async def test_the_same_slices_are_offered_until_the_sink_takes_them(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(30))
    sink.may_apply.clear()
    sink.failures = [Away("no answer"), Away("still none")]
    async with running(log.follower(sink)) as follower:
        await until(lambda: sink.attempts)
        assert follower.waiting_for is None
        sink.may_apply.set()
        assert await until(lambda: follower.waiting_for) in ("Away: no answer", "Away: still none")
        await until(lambda: sink.rows == rows_of(30))
        await until(lambda: follower.waiting_for is None)
    assert [a is sink.attempts[0] for a in sink.attempts[:3]] == [True] * 3
    assert follower.records_total == 30


async def test_positions_are_asked_for_until_the_sink_answers(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(30))
    positions = sink.positions
    refusals = [Away("no answer"), Away("no answer")]

    async def refused_at_first(tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        if refusals:
            raise refusals.pop()
        return await positions(tps)

    sink.positions = refused_at_first  # type: ignore[method-assign]
    await asyncio.wait_for(log.follower(sink).catch_up(), 30)
    assert sink.rows == rows_of(30)


@pytest.mark.parametrize("call", ["apply", "positions"])
async def test_a_sink_that_never_answers_is_a_standstill(log: Log, sink: MemorySink, call: str) -> None:
    """Whatever limit an operator has set; what the sink may take by itself comes on top."""
    await log.write(rows_of(30))
    gate = sink.may_apply if call == "apply" else sink.may_answer
    gate.clear()
    follower = log.follower(sink)
    async with running(follower):
        await until(lambda: follower.sink_unanswered_seconds(time.monotonic()) > 0.2)
        now = time.monotonic()
        assert "has not answered for" in (follower.standstill(now, 0.1) or "")
        assert follower.standstill(now, 60.0) is None
        follower.sink_apply_seconds = follower.sink_positions_seconds = 60.0
        gate.set()
        await until(lambda: sink.rows == rows_of(30))
        await until(lambda: follower.standstill(time.monotonic(), 0.0) is None)
        gate.clear()
        await log.write(rows_of(40))
        if call == "apply":
            await until(lambda: follower.sink_unanswered_seconds(time.monotonic()) > 0.2)
            assert follower.standstill(time.monotonic(), 0.1) is None
        gate.set()


async def test_a_sink_that_answers_with_errors_is_waited_for_and_no_standstill(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(30))
    sink.failures = [Away("no answer")] * 3
    async with running(log.follower(sink)) as follower:
        await until(lambda: follower.waiting_for)
        assert follower.standstill(time.monotonic(), 0.5) is None
        await until(lambda: sink.rows == rows_of(30))


async def test_any_other_error_of_the_sink_ends_the_follower(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(30))
    sink.failures = [ValueError("a mistake")]
    with pytest.raises(ValueError, match="a mistake"):
        await asyncio.wait_for(log.follower(sink).follow(), 30)


async def test_a_sink_that_was_emptied_is_filled_again_with_the_next_rows(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(30))
    async with running(log.follower(sink)):
        await until(lambda: len(sink.rows) == 30)
        sink.empty()
        await log.write({"new": row(1)})
        await until(lambda: sink.rows == {**rows_of(30), "new": row(1)})


async def test_a_sink_that_was_emptied_is_filled_again_though_nothing_new_comes(log: Log, sink: MemorySink) -> None:
    await log.write(rows_of(30))
    async with running(log.follower(sink)):
        await until(lambda: len(sink.rows) == 30)
        sink.empty()
        await until(lambda: sink.rows == rows_of(30))
    assert sink.asked >= 2


# -- groups -------------------------------------------------------------------------------------


async def committed(log: Log, group: str) -> dict[TopicPartition, int]:
    async with admin(log.broker) as client:
        return {tp: meta.offset for tp, meta in (await client.list_consumer_group_offsets(group)).items()}


async def test_a_group_shares_the_partitions_and_shows_its_positions_there(log: Log, sink: MemorySink) -> None:
    group = unique("followers")
    await log.write(rows_of(60))
    async with running(log.follower(sink, group=group)) as one, running(log.follower(sink, group=group)) as two:
        await until(lambda: len(one.next_offsets) == len(two.next_offsets) == 1)
        assert one.next_offsets.keys() | two.next_offsets.keys() == set(log.tps)
        await log.write(rows_of(60, version=2))
        await until(lambda: sink.rows == rows_of(60, version=2))

        async def shown() -> bool:
            return await committed(log, group) == await log.ends()

        await until(shown)


async def test_the_partitions_of_a_member_that_leaves_are_followed_by_the_others(log: Log, sink: MemorySink) -> None:
    group = unique("followers")
    async with running(log.follower(sink, group=group)) as stays:
        async with running(log.follower(sink, group=group)) as leaves:
            await until(lambda: len(stays.next_offsets) == len(leaves.next_offsets) == 1)
        await log.write(rows_of(60))
        await until(lambda: sink.rows == rows_of(60))
        assert stays.next_offsets.keys() == set(log.tps)


async def test_what_the_group_has_committed_is_not_believed(log: Log, sink: MemorySink) -> None:
    """An empty sink is filled from the start, whatever the group had reached."""
    group = unique("followers")
    await log.write(rows_of(60))
    async with reader(log.broker, group_id=group, enable_auto_commit=False) as client:
        client.assign(log.tps)
        await client.commit(await log.ends())
    async with running(log.follower(sink, group=group)) as follower:
        await until(lambda: sink.rows == rows_of(60))
        await until(lambda: follower.caught_up)


async def test_positions_that_are_asked_for_while_the_group_shares_out_anew_are_dropped(
    log: Log, sink: MemorySink
) -> None:
    """Row 4 of the faults once: the one that asked went on asking for partitions that another had by then."""
    group = unique("followers")
    await log.write(rows_of(60))
    async with running(log.follower(sink, group=group)) as one:
        await until(lambda: sink.rows == rows_of(60))
        sink.may_answer.clear()
        asked = sink.asked
        sink.emptied = True  # It asks for its positions again, and is kept waiting.
        await until(lambda: sink.asked > asked)
        async with running(log.follower(MemorySink(), group=group)) as two:
            await until(lambda: len(two.next_offsets) == 1)
            sink.may_answer.set()
            await until(lambda: len(one.next_offsets) == 1)
            assert one.next_offsets.keys() | two.next_offsets.keys() == set(log.tps)
            own = next(iter(one.next_offsets))
            await log.write(rows_of(60, version=2))
            end = (await log.ends())[own]
            await until(lambda: sink.kept[own].next_offset == end)
            assert one.waiting_for is None


async def test_what_cannot_be_asked_of_the_sink_ends_a_member_of_a_group(log: Log, sink: MemorySink) -> None:
    async def mistaken(_tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        raise ValueError("a mistake")

    sink.positions = mistaken  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="a mistake"):
        await asyncio.wait_for(log.follower(sink, group=unique("followers")).follow(), 30)


# -- brokers that go away -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[KafkaCluster]:
    with kafka_cluster() as cluster:
        yield cluster


async def test_brokers_that_go_away_are_waited_for(own_cluster: KafkaCluster, sink: MemorySink) -> None:
    log = Log(own_cluster.bootstrap)
    await log.make()
    await log.write(rows_of(30))
    late_sink = MemorySink()
    async with running(log.follower(sink)):
        await until(lambda: len(sink.rows) == 30)
        own_cluster.stop()
        async with running(log.follower(late_sink)) as late:
            assert (await until(lambda: late.waiting_for)).startswith("no broker answers at ")
            own_cluster.spawn()
            await until(lambda: is_answering(own_cluster.nodes[0].endpoint.broker_port), 60)
            await until(lambda: late_sink.rows == rows_of(30))
            await log.write({"new": row(1)})
            await until(lambda: sink.rows == late_sink.rows == {**rows_of(30), "new": row(1)})
            assert late.waiting_for is None


async def test_one_that_is_cancelled_while_it_connects_leaves_no_connection_open(
    log: Log, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[AIOKafkaConnection] = []

    async def create_conn(*args: Any, **kwargs: Any) -> AIOKafkaConnection:
        opened.append(await conn.create_conn(*args, **kwargs))
        asyncio.get_running_loop().call_soon(following_it.cancel)  # The brokers are being asked who they are.
        return opened[-1]

    monkeypatch.setattr(client, "create_conn", create_conn)
    following_it = asyncio.create_task(log.follower(sink).follow())
    with pytest.raises(asyncio.CancelledError):
        await following_it
    assert [connection.connected() for connection in opened] == [False] * len(opened)
    assert opened


async def test_a_topic_that_is_not_there_yet_is_waited_for(broker: str, sink: MemorySink) -> None:
    log = Log(broker)
    async with running(log.follower(sink)) as follower:
        assert UnknownTopicOrPartitionError.__name__ in await until(lambda: follower.waiting_for)
        await log.make()
        await log.write(rows_of(10))
        await until(lambda: sink.rows == rows_of(10))
