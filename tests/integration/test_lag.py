"""Lag as the brokers tell it: the same figures as Kafka's own tool prints, while a consumer stands still."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import confluent_kafka
import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from emis_streams import topics
from emis_streams.broker_clock import BrokerClock
from emis_streams.lag import LagMonitor
from emis_streams.lag_foreign_groups import MOST_PER_LOOK, MOST_SHOWN
from emis_streams.lag_measurement import Watched, watched_by
from emis_streams.lag_report import GroupLag, LagReport, PartitionLag
from emis_streams.lag_watch import WINDOW_SECONDS
from emis_streams.local import kafka_jars
from emis_streams.node import FollowerStatus
from tests.integration.open_transaction import open_transaction
from tests.services import free_port, kafka_cluster, settings_for, unique, until

N_PARTITIONS = 3
GROUPS_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


def watching(group: str, topic: str) -> Watched:
    return Watched(group, f"{group}-replica", (topic,), (), None, frozenset({group}))


@contextmanager
def member(
    broker: str, group: str, topic: str, isolation: str = "read_uncommitted"
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.integration.group_member", broker, group, topic, isolation]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"joined\n"
        yield process
    finally:
        process.kill()  # also a stopped one
        process.wait()
        process.stdout.close()


async def make_topic(broker: str, name: str, n_partitions: int = N_PARTITIONS, **config: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        configs = {key.replace("_", "."): value for key, value in config.items()}
        await admin.create_topics([NewTopic(name, n_partitions, 1, topic_configs=configs)])
    finally:
        await admin.close()


async def send(broker: str, topic: str, n_records: int, partition: int | None = None, age_seconds: float = 0.0) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        at = int((time.time() - age_seconds) * 1000)
        for n in range(n_records):
            where = n % N_PARTITIONS if partition is None else partition
            await producer.send(topic, b"{}", partition=where, timestamp_ms=at)


@asynccontextmanager
async def monitor(broker: str, tmp_path: Path, watched: Watched, **more: object) -> AsyncIterator[LagMonitor]:
    lag = LagMonitor(settings_for(broker, tmp_path), watched_topics=watched, poll_seconds=0.2, **more)  # type: ignore[arg-type]
    try:
        yield lag
    finally:
        await lag.close()


def told_by_kafka(broker: str, group: str) -> dict[tuple[str, int], tuple[str, ...]]:
    """(committed, end, lag, consumer id, host, client id) by partition, as `kafka-consumer-groups` prints them."""
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", kafka_jars.classpath(), GROUPS_TOOL]
    asked = [*java, "--bootstrap-server", broker, "--describe", "--group", group]
    output = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    lines = [line.split() for line in output.splitlines() if line.startswith(group)]
    return {(topic, int(partition)): tuple(rest) for _, topic, partition, *rest in lines}


def as_printed(p: PartitionLag) -> tuple[str, ...]:
    offsets = ("-" if value is None else str(value) for value in (p.committed_offset, p.end_offset, p.lag))
    owner = ("-", "-", "-") if p.owner is None else (p.owner.member_id, f"/{p.owner.host}", p.owner.client_id)
    return (*offsets, *owner)


def the_group(report: LagReport) -> GroupLag:
    assert report.error is None
    return report.groups[0]


async def until_level(lag: LagMonitor, n_records: int) -> None:
    async def level() -> bool:
        partitions = the_group(await lag.measure()).partitions
        return sum(p.committed_offset or 0 for p in partitions) == n_records and all(p.lag == 0 for p in partitions)

    await until(level)


async def test_figures_are_those_of_the_kafka_tool_while_a_stopped_consumer_falls_behind(
    broker: str, tmp_path: Path
) -> None:
    group, topic = unique("lag-group"), unique("lag-topic")
    await make_topic(broker, topic)
    await send(broker, topic, 30)
    async with monitor(broker, tmp_path, watching(group, topic)) as lag:
        with member(broker, group, topic) as process:
            await until_level(lag, 30)
            process.send_signal(signal.SIGSTOP)
            await send(broker, topic, 7 * N_PARTITIONS)
            first = the_group(await lag.measure())
            assert [p.lag for p in first.partitions] == [7] * N_PARTITIONS
            await send(broker, topic, 5 * N_PARTITIONS)
            found = the_group(await lag.measure())
            printed = await asyncio.to_thread(told_by_kafka, broker, group)
            assert {(p.topic, p.partition): as_printed(p) for p in found.partitions} == printed
            assert found.total_lag == 12 * N_PARTITIONS
            stalled = await until(lambda: group_in_states(lag, ["STALLED"] * N_PARTITIONS), 40)
            assert all(p.reason_params["lag"] == 12 for p in stalled.partitions)
            assert stalled.max_lag_seconds > 10
            process.send_signal(signal.SIGCONT)
            await until_level(lag, 30 + 12 * N_PARTITIONS)


async def group_in_states(lag: LagMonitor, states: list[str]) -> GroupLag | None:
    group = the_group(await lag.measure())
    return group if [p.state for p in group.partitions] == states else None


async def test_lag_in_seconds_is_the_age_of_the_first_unread_record(broker: str, tmp_path: Path) -> None:
    group, topic = unique("lag-group"), unique("lag-topic")
    await make_topic(broker, topic)
    await send(broker, topic, 3)
    async with monitor(broker, tmp_path, watching(group, topic)) as lag:
        with member(broker, group, topic) as process:
            await until_level(lag, 3)
            process.send_signal(signal.SIGSTOP)
            await send(broker, topic, 4, partition=1, age_seconds=300)
            await send(broker, topic, 4, partition=1, age_seconds=20)
        async with monitor(broker, tmp_path, watching(group, topic)) as fresh:  # has seen no earlier ends
            partitions = the_group(await fresh.measure()).partitions
    assert [p.lag_seconds_from for p in partitions] == ["observed", "record", "observed"]
    assert partitions[1].lag_seconds == pytest.approx(300, abs=15)
    assert partitions[0].lag_seconds == 0.0


async def test_never_committed_is_null_and_an_absent_group_is_shown(broker: str, tmp_path: Path) -> None:
    group, topic = unique("lag-group"), unique("lag-topic")
    await make_topic(broker, topic)
    await send(broker, topic, 5, partition=0, age_seconds=100)
    async with monitor(broker, tmp_path, watching(group, topic)) as lag:
        found = the_group(await lag.measure())
    assert (found.broker_state, found.members) == ("Absent", 0)
    first, second, _ = found.partitions
    assert (first.committed_offset, first.lag, first.lag_to_earliest) == (None, None, 5)
    assert first.lag_seconds == pytest.approx(100, abs=15)
    assert first.reason_key == "never_committed_stopped"
    assert second.reason_key == "never_committed_empty"
    assert second.severity == "ok"


async def test_a_group_whose_members_left_is_stopped_and_what_the_log_lost_is_counted(
    broker: str, tmp_path: Path
) -> None:
    group, topic = unique("lag-group"), unique("lag-topic")
    await make_topic(broker, topic)
    await send(broker, topic, 9)
    async with monitor(broker, tmp_path, watching(group, topic)) as lag:
        with member(broker, group, topic) as process:
            await until_level(lag, 9)
            process.terminate()
            assert process.wait(30) == 0
        await send(broker, topic, 30)
        await delete_before(broker, TopicPartition(topic, 2), 8)
        # Unread records of under five seconds are within what is allowed: it takes that long.
        found = await until(lambda: group_in_states(lag, ["STOPPED", "STOPPED", "LOST"]))
    assert found.members == 0
    assert found.partitions[2].reason_params == {"lost": 5}
    assert found.severity == "error"


def commit_as_groups(broker: str, names: list[str], topics_of_all: list[str]) -> None:
    """Each has committed offset 1 of the first partition of each topic, as anybody can."""
    admin = AdminClient({"bootstrap.servers": broker})
    for some in [names[at : at + 50] for at in range(0, len(names), 50)]:
        offsets = [confluent_kafka.TopicPartition(topic, 0, 1) for topic in topics_of_all]
        asked = [admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(name, offsets)]) for name in some]
        for futures in asked:
            for done in futures.values():
                done.result(30)


async def test_a_thousand_groups_of_others_are_counted_and_ten_are_shown(tmp_path: Path) -> None:
    with kafka_cluster() as cluster:
        broker, group, topic = cluster.bootstrap, unique("lag-group"), unique("lag-topic")
        await make_topic(broker, topic)
        await make_topic(broker, "another", 1)
        await send(broker, topic, 9)
        names = [f"stranger-{number:04}" for number in range(1_000)]
        await asyncio.to_thread(commit_as_groups, broker, names, [topic, "another"])
        async with monitor(broker, tmp_path, watching(group, topic)) as lag:
            await lag.measure()
            assert lag._asking is not None
            # Some commits meet a coordinator that is still loading: what counts is what the brokers have.
            there = sorted(await lag._asking.brokers.group_names())
            assert len(there) > 500

            async def all_are_counted() -> LagReport | None:
                report = await lag.measure()
                return report if report.groups_left_out == len(there) - MOST_SHOWN else None

            report = await until(all_are_counted, 90)
            assert [found.group_id for found in report.groups] == [group, *there[:MOST_SHOWN]]
            assert {p.topic for found in report.groups for p in found.partitions} == {topic}
            assert len(lag._asking.brokers._coordinators) <= MOST_SHOWN + MOST_PER_LOOK + 2


async def delete_before(broker: str, tp: TopicPartition, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def test_without_brokers_it_says_so_and_the_age_grows_until_they_are_back(tmp_path: Path) -> None:
    group, topic = unique("lag-group"), unique("lag-topic")
    watched = Watched(group, "no-replica", (topic,), (f"{topic}-changelog",), None, frozenset({group}))
    at_the_end = FollowerStatus("read-model", True, {(f"{topic}-changelog", 0): 0}, 0, None)
    with kafka_cluster() as cluster:
        broker = cluster.bootstrap
        await make_topic(broker, topic)
        await make_topic(broker, f"{topic}-changelog", 1)
        async with monitor(broker, tmp_path, watched, followers=lambda: [at_the_end]) as lag:
            assert lag.age_seconds(time.monotonic()) is None
            task = asyncio.create_task(lag.run())
            await until(lambda: lag.age_seconds(time.monotonic()) is not None)
            assert lag.age_seconds(time.monotonic()) < 5
            cluster.nodes[0].process.kill()
            report = await until(lambda: (r := lag.snapshot()) is not None and r.error and r)
            assert broker in report.error
            assert (report.error_key, report.error_params) == ("no_broker", {"brokers": broker})
            assert report.groups[0].group_id == group  # the last figures stay, marked
            await until(lambda: lag.age_seconds(time.monotonic()) > 6)
            await asyncio.to_thread(cluster.start)
            await until(lambda: lag.snapshot().error is None and lag.age_seconds(time.monotonic()) < 3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_age_grows_when_only_ingestion_stops(broker: str, tmp_path: Path) -> None:
    """A read model level with a changelog that nobody feeds is not fresh."""
    group, topic = unique("lag-group"), unique("lag-topic")
    watched = Watched(group, "no-replica", (topic,), (f"{topic}-changelog",), None, frozenset({group}))
    at_the_end = FollowerStatus("read-model", True, {(f"{topic}-changelog", 0): 0}, 0, None)
    await make_topic(broker, topic)
    await make_topic(broker, f"{topic}-changelog", 1)
    async with monitor(broker, tmp_path, watched, followers=lambda: [at_the_end]) as lag:
        with member(broker, group, topic) as process:
            await send(broker, topic, 6)
            await until_level(lag, 6)
            assert lag.age_seconds(time.monotonic()) < 2
            process.send_signal(signal.SIGSTOP)
            await send(broker, topic, 3)
            await until(lambda: older_than(lag, 4.0))
            process.send_signal(signal.SIGCONT)
            await until_level(lag, 9)
            assert lag.age_seconds(time.monotonic()) < 2


async def older_than(lag: LagMonitor, seconds: float) -> bool:
    report = await lag.measure()
    return report.age_seconds is not None and report.age_seconds > seconds


async def test_a_follower_behind_the_changelog_is_listed_with_lag_and_delay(broker: str, tmp_path: Path) -> None:
    changelog = unique("lag-changelog")
    watched = Watched("no-ingest", "no-replica", (), (changelog,), None, frozenset())
    await make_topic(broker, changelog, 2)
    await send(broker, changelog, 10, partition=1, age_seconds=50)
    status = FollowerStatus("replica", False, {(changelog, 0): 0, (changelog, 1): 4}, 4, "the database is away")
    async with monitor(broker, tmp_path, watched, followers=lambda: [status]) as lag:
        follower = (await lag.measure()).followers[0]
    assert (follower.total_lag, follower.waiting_for) == (6, "the database is away")
    assert [p.lag for p in follower.partitions] == [0, 6]
    assert follower.delay_seconds == pytest.approx(50, abs=15)


def test_the_command_line_shows_groups_and_tells_missing_topics_by_its_exit_code(broker: str) -> None:
    with kafka_cluster() as empty:
        ran = run_cli("lag", "--json", KAFKA_BROKERS=empty.bootstrap)
    assert ran.returncode == 1
    report = msgspec.json.decode(ran.stdout)
    assert "emis.class.created" in report["brokers"]["missingTopics"]
    assert [g["groupId"] for g in report["groups"]] == ["emis-teacher-service", "emis-teacher-service-replica"]


def test_the_command_line_says_in_one_line_that_no_broker_answers() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    ran = run_cli("lag", KAFKA_BROKERS=nowhere)
    assert ran.returncode == 1
    assert nowhere in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


def run_cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "emis_streams", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def of_events() -> tuple[Watched, str, str]:
    """What is watched, the group, and its topic."""
    group, topic = unique("lag-group"), unique("lag-topic")
    return watching(group, topic), group, topic


def of_requests() -> tuple[Watched, str, str]:
    """As `emis-streams lag --service NAME` watches them."""
    service = unique("service")
    return watched_by(service), topics.app_id(service), topics.request_topic(service)


@pytest.mark.parametrize("of", [of_events, of_requests])
async def test_an_open_transaction_that_holds_the_readers_is_named_and_for_how_long(
    broker: str, tmp_path: Path, of: Callable[[], tuple[Watched, str, str]]
) -> None:
    """For longer than the window of what is remembered; what others commit meanwhile waits behind it."""
    watched, group, topic = of()
    await make_topic(broker, topic)
    await send(broker, topic, 4, partition=1)
    async with monitor(broker, tmp_path, watched) as lag:
        with member(broker, group, topic, "read_committed"):
            await until_level(lag, 4)
            with open_transaction(broker, topic, 1, 3):
                await send(broker, topic, 2, partition=1)

                async def held(seconds: float) -> PartitionLag | None:
                    (found,) = [p for p in the_group(await lag.measure()).partitions if p.partition == 1]
                    is_held = found.state == "OPEN_TRANSACTION" and float(found.reason_params["seconds"]) >= seconds
                    return found if is_held else None

                partition = await until(lambda: held(0), 40)
                assert (partition.reason_params["stable"], partition.reason_params["end"]) == (4, 9)
                assert "An open transaction has held the last stable offset at 4 (high watermark 9)" in partition.reason
                assert the_group(await lag.measure()).state == "OPEN_TRANSACTION"
                await until(lambda: held(WINDOW_SECONDS + 2), 60)

            async def is_level() -> bool:
                return all(p.lag == 0 for p in the_group(await lag.measure()).partitions)

            await until(is_level)


@pytest.mark.parametrize("skew", [12.0, -700.0, 8 * 86_400.0])
async def test_a_worker_that_sends_no_heartbeats_learns_the_brokers_time_from_what_others_send(
    broker: str, tmp_path: Path, skew: float
) -> None:
    group, topic = unique("lag-group"), unique("lag-topic")
    await make_topic(broker, topic, message_timestamp_type="LogAppendTime")
    await send(broker, topic, 30)
    clock = BrokerClock(wall=lambda: time.time() + skew)
    async with monitor(broker, tmp_path, watching(group, topic), clock=clock) as lag:
        await lag.measure()
        await lag.measure()
        assert not clock.is_known  # Nothing came meanwhile: what was there is of any age.
        await send(broker, topic, 30)
        await lag.measure()
        found = clock.skew_seconds()
        assert found is not None
        assert abs(found - skew) < 10  # Each look takes a part of a second, on a busy machine more.


async def test_times_of_producers_tell_nothing_of_the_brokers_clock(broker: str, tmp_path: Path) -> None:
    group, topic = unique("lag-group"), unique("lag-topic")
    await make_topic(broker, topic)
    clock = BrokerClock()
    async with monitor(broker, tmp_path, watching(group, topic), clock=clock) as lag:
        await lag.measure()
        await send(broker, topic, 30, age_seconds=700)
        await lag.measure()
        assert not clock.is_known
