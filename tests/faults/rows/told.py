"""What workers say of themselves, and what brokers are told to do with topics and groups."""

import asyncio
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic

from emis_streams.local.readiness import ask
from tests.faults.course import Course
from tests.faults.stage import FaultWorker, Stage, until
from tests.integration import independent
from tests.integration.independent import GROUP, asks_again

_SECONDS = 10.0
_SESSION_SECONDS = 30.0
_CONTROLLER_SECONDS = 3.0
"""A broker that has just started names no controller, and librdkafka does not ask another one meanwhile."""
Partition = tuple[str, int]


async def counted(course: Course, name: str, label: str = "") -> int:
    """A metric's sum over the workers that can be asked, of the samples with that label."""
    able = [worker for worker in course.workers if worker.can_serve]
    return sum(await asyncio.gather(*(asyncio.to_thread(metric_of, worker, name, label) for worker in able)))


def metric_of(worker: FaultWorker, name: str, label: str = "") -> int:
    """A metric's sum over the samples of this process with that label; 0 if it does not answer."""
    answer = ask(worker.settings.host, worker.port, "/metrics")
    if answer is None:
        return 0
    pattern = re.compile(rf"^{name}(\{{[^}}]*\}})? ([0-9.e+]+)$", re.MULTILINE)
    return sum(int(float(value)) for labels, value in pattern.findall(answer.body) if label in labels)


# -- topics ---------------------------------------------------------------------------------------


@asks_again
async def configure(stage: Stage, topics: Collection[str], changes: Mapping[str, str | None]) -> None:
    """Sets configs of topics; None: as if it had never been set. Asks again while there is no controller."""
    entries = [
        ConfigEntry(
            name,
            value,
            incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
        )
        for name, value in changes.items()
    ]
    resources = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries) for topic in topics]
    with _admin(stage) as admin:
        await _all(admin.incremental_alter_configs(resources, request_timeout=_CONTROLLER_SECONDS))


async def config_of(stage: Stage, topic: str) -> dict[str, str]:
    """What is set for the topic itself."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    with _admin(stage) as admin:
        entries = await asyncio.wrap_future(admin.describe_configs([resource], request_timeout=_SECONDS)[resource])
    return {name: entry.value for name, entry in entries.items() if not entry.is_default}


async def delete_topic(stage: Stage, topic: str) -> None:
    with _admin(stage) as admin:
        await _all(admin.delete_topics([topic], operation_timeout=_SECONDS))


async def create_topic(stage: Stage, topic: str, config: Mapping[str, str], n_partitions: int = 10) -> None:
    new = NewTopic(topic, num_partitions=n_partitions, replication_factor=3, config=dict(config))
    with _admin(stage) as admin:
        await _all(admin.create_topics([new], operation_timeout=_SECONDS))


async def add_partitions(stage: Stage, topic: str, n_partitions: int) -> None:
    with _admin(stage) as admin:
        await _all(admin.create_partitions([NewPartitions(topic, n_partitions)], operation_timeout=_SECONDS))


async def until_gone(stage: Stage, topic: str) -> None:
    """Until no broker knows it."""

    async def is_gone() -> bool:
        return topic not in await _topics(stage)

    await until(is_gone, _SECONDS, f"{topic} is gone", 0.3)
    await asyncio.sleep(1)  # Brokers that were not asked may know it a moment longer.


async def until_led(stage: Stage, topic: str) -> None:
    """Until each partition has a leader."""

    async def is_led() -> bool:
        known = await _topics(stage)
        return topic in known and all(part.leader >= 0 for part in known[topic].partitions.values())

    await until(is_led, _SECONDS, f"{topic} has leaders", 0.3)


async def _topics(stage: Stage) -> Mapping[str, Any]:
    with _admin(stage) as admin:
        return (await asyncio.to_thread(admin.list_topics, timeout=_SECONDS)).topics


@contextmanager
def _admin(stage: Stage) -> Iterator[AdminClient]:
    """A new one: librdkafka goes on asking the controller that it knew, also when that is dead.

    It ends with the block, and with it what it was asked.
    """
    admin = AdminClient({"bootstrap.servers": stage.brokers})
    yield admin


async def _all(asked: Mapping[Any, Any]) -> None:
    for done in asked.values():
        await asyncio.wrap_future(done)


# -- offsets --------------------------------------------------------------------------------------


async def watermarks(stage: Stage, topics: Iterable[str]) -> dict[Partition, tuple[int, int]]:
    """First offset and end of each partition."""
    return await asyncio.to_thread(_watermarks, stage.brokers, list(topics))


def _watermarks(brokers: str, topics: list[str]) -> dict[Partition, tuple[int, int]]:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "watermarks", "enable.auto.commit": False})
    try:
        return independent.watermarks(consumer, topics)
    finally:
        consumer.close()


async def set_offsets(stage: Stage, offsets: Mapping[Partition, int]) -> None:
    """Of the ingesting group, as `kafka-consumer-groups --reset-offsets` does it.

    The group must be empty: a member that could not leave is in it until its session is over.
    """
    partitions = [TopicPartition(topic, n, offset) for (topic, n), offset in offsets.items()]
    with _admin(stage) as admin:
        await until(lambda: _are_set(admin, partitions), _SESSION_SECONDS, "the group takes the offsets")


async def _are_set(admin: AdminClient, partitions: list[TopicPartition]) -> bool:
    """Brokers refuse them partition by partition; librdkafka raises nothing for that."""
    (asked,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP, partitions)]).values()
    answer = await asyncio.wrap_future(asked)
    return not any(partition.error for partition in answer.topic_partitions)
