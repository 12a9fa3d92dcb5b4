"""Topics are made as declared, left alone when they exist, and what differs is said."""

import socket
from pathlib import Path

import msgspec
import pytest
from aiokafka.admin import NewTopic

from emis_streams import admin, topics
from emis_streams.admin import Difference
from emis_streams.errors import InvalidSetting, Unavailable
from emis_streams.settings import Settings
from emis_streams.topics import Topic
from tests.integration.command_line import emis_streams
from tests.services import settings_for, unique


@pytest.fixture
def settings(broker: str, tmp_path: Path) -> Settings:
    return settings_for(broker, tmp_path)


def a_topic(**config: str) -> Topic:
    return Topic(unique("emis.test"), "ClassId", "a test", {"cleanup.policy": "compact", **config})


async def make(settings: Settings, name: str, n_partitions: int, config: dict[str, str]) -> None:
    async with admin.admin_client(settings) as client:
        await client.create_topics([NewTopic(name, n_partitions, 1, topic_configs=config)])


async def test_missing_topics_are_made_with_ten_partitions_and_leaders(settings: Settings) -> None:
    wanted = [a_topic(**{"retention.ms": "5000"}), a_topic()]
    made = await admin.ensure_topics(settings, wanted)
    async with admin.admin_client(settings) as client:
        described = await client.describe_topics([topic.name for topic in wanted])
    assert made == [topic.name for topic in wanted]
    assert [len(topic["partitions"]) for topic in described] == [topics.PARTITIONS] * 2
    assert all(partition["leader"] >= 0 for topic in described for partition in topic["partitions"])
    assert await admin.check_topics(settings, wanted) == []


async def test_making_topics_twice_changes_nothing(settings: Settings) -> None:
    wanted = [a_topic()]
    await admin.ensure_topics(settings, wanted)
    assert await admin.ensure_topics(settings, wanted) == []


async def test_an_existing_topic_is_left_as_it_is_and_each_difference_has_a_way_out(settings: Settings) -> None:
    topic = a_topic(**{"retention.ms": "5000"})
    await make(settings, topic.name, 3, {"retention.ms": "7000", "cleanup.policy": "compact"})
    assert await admin.ensure_topics(settings, [topic]) == []
    found = {d.what: d for d in await admin.check_topics(settings, [topic])}
    assert {what: (d.wanted, d.found) for what, d in found.items()} == {
        "partitions": ("10", "3"),
        "retention.ms": ("5000", "7000"),
    }
    assert f"--entity-name {topic.name} --add-config retention.ms=5000" in found["retention.ms"].way_out
    assert "do not --alter" in found["partitions"].way_out


async def test_other_copies_and_min_isr_than_set_are_told(settings: Settings) -> None:
    topic = a_topic()
    await admin.ensure_topics(settings, [topic])
    for_three = msgspec.structs.replace(settings, replication_factor=3, min_insync_replicas=2)
    found = {d.what: (d.wanted, d.found) for d in await admin.check_topics(for_three, [topic])}
    assert found == {"replication.factor": ("3", "1"), "min.insync.replicas": ("2", "1")}


async def test_a_missing_topic_is_a_difference(settings: Settings) -> None:
    topic = a_topic()
    assert await admin.check_topics(settings, [topic]) == [
        Difference(topic.name, "topic", "there", "missing", "emis-streams topics")
    ]


async def test_a_broker_that_does_not_know_a_topic_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, missing = a_topic(), a_topic()
    await admin.ensure_topics(settings, [known])
    await admin.wait_until_each_broker_knows(settings, [known])
    monkeypatch.setattr(admin, "READY_TIMEOUT_SECONDS", 0.5)
    with pytest.raises(Unavailable, match=rf"{settings.kafka_brokers} does not know all topics"):
        await admin.wait_until_each_broker_knows(settings, [known, missing])


async def test_more_copies_than_brokers_is_a_setting_to_change(settings: Settings) -> None:
    for_three = msgspec.structs.replace(settings, replication_factor=3, min_insync_replicas=2)
    with pytest.raises(InvalidSetting, match=r"REPLICATION_FACTOR=3 .* has 1 broker.*MIN_INSYNC_REPLICAS"):
        await admin.ensure_topics(for_three, [a_topic()])


async def test_min_isr_above_copies_is_a_setting_to_change(settings: Settings) -> None:
    impossible = msgspec.structs.replace(settings, min_insync_replicas=2)
    with pytest.raises(InvalidSetting, match="MIN_INSYNC_REPLICAS=2"):
        await admin.ensure_topics(impossible, [a_topic()])


async def test_a_broker_that_is_not_there_is_named(settings: Settings) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # held, but nobody listens
        nowhere = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"KAFKA_BROKERS='{nowhere}'"):
            await admin.check_topics(msgspec.structs.replace(settings, kafka_brokers=nowhere))


def test_the_command_makes_all_topics_then_says_that_they_are_right(no_worker: Settings) -> None:
    done = emis_streams(no_worker, "topics")
    assert (done.returncode, done.stdout.decode()) == (0, "All topics are as they should be.\n"), done.stderr


def test_the_command_ends_with_one_when_something_differs(no_worker: Settings) -> None:
    for_three = msgspec.structs.replace(no_worker, replication_factor=3, min_insync_replicas=2)
    done = emis_streams(for_three, "topics", "--check")
    assert done.returncode == 1
    assert f"{len(topics.all_topics()) * 2} differences" in done.stdout.decode()
    assert "emis-teacher-service-classes-changelog: replication.factor is 1, should be 3" in done.stdout.decode()


def test_without_a_broker_the_command_says_so_in_one_line(no_worker: Settings) -> None:
    nowhere = msgspec.structs.replace(no_worker, kafka_brokers="127.0.0.1:1")
    done = emis_streams(nowhere, "topics")
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert "KAFKA_BROKERS='127.0.0.1:1'" in done.stderr.decode()


def test_a_wrong_setting_ends_with_two_and_one_line(no_worker: Settings) -> None:
    done = emis_streams(msgspec.structs.replace(no_worker, replication_factor=99), "topics")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("emis-streams: REPLICATION_FACTOR='99' is not allowed")
    assert done.stderr.decode().count("\n") == 1
