"""What the brokers say, asked by a client that none of the contenders uses in its own process."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._group import ConsumerGroupDescription
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

Place = tuple[str, int]
"""Topic and partition."""

_TIMEOUT_SECONDS = 20.0


@dataclass
class Brokers:
    """Admin and offset requests to one cluster."""

    bootstrap: str

    def __post_init__(self) -> None:
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})

    def topics(self) -> dict[str, int]:
        """Partitions by topic."""
        found = self._admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
        return {name: len(topic.partitions) for name, topic in found.items()}

    def create(self, configs: Mapping[str, dict[str, str]], partitions: int) -> None:
        """Make the topics that are missing."""
        new = [NewTopic(name, partitions, 1, config=config) for name, config in configs.items()]
        for created in self._admin.create_topics(new).values():
            _ignoring(KafkaError.TOPIC_ALREADY_EXISTS, created)

    def delete(self, topics: Iterable[str], groups: Iterable[str]) -> None:
        """Delete topics and consumer groups; those that do not exist are passed over."""
        for group in groups:
            for deleted in self._admin.delete_consumer_groups([group]).values():
                _ignoring(KafkaError.GROUP_ID_NOT_FOUND, deleted)
        names = list(topics)
        if names:
            for deleted in self._admin.delete_topics(names, operation_timeout=_TIMEOUT_SECONDS).values():
                _ignoring(KafkaError.UNKNOWN_TOPIC_OR_PART, deleted)

    def places(self, topics: Iterable[str]) -> list[Place]:
        known = self.topics()
        return [(topic, partition) for topic in topics for partition in range(known.get(topic, 0))]

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """The next offset that a record would get."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(topic, partition): latest for topic, partition in places}
        if not asked:
            return {}
        answers = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_TIMEOUT_SECONDS
        )
        return {(tp.topic, tp.partition): future.result().offset for tp, future in answers.items()}

    def committed(self, group: str, places: Iterable[Place]) -> dict[Place, int]:
        """Committed offsets of the group; partitions without one are left out."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(t, p) for t, p in places])
        found = _of_group(
            lambda: self._admin.list_consumer_group_offsets([asked], request_timeout=_TIMEOUT_SECONDS)[group].result()
        )
        offsets = [] if found is None else found.topic_partitions or []
        return {(tp.topic, tp.partition): tp.offset for tp in offsets if tp.offset >= 0}

    def has_assigned(self, group: str) -> bool:
        """Whether the group has members that have got partitions."""
        described = self._described(group)
        return (
            described is not None
            and described.state == ConsumerGroupState.STABLE
            and any(member.assignment.topic_partitions for member in described.members)
        )

    def is_empty(self, group: str) -> bool:
        """Whether the group has no members, or is not there."""
        described = self._described(group)
        return described is None or not described.members

    def _described(self, group: str) -> ConsumerGroupDescription | None:
        return _of_group(lambda: self._admin.describe_consumer_groups([group])[group].result())


_T = TypeVar("_T")
_COORDINATOR_NOT_YET = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)


def _of_group(request: Callable[[], _T]) -> _T | None:
    """What is known of a group, None if it does not exist; a broker that has just started is waited for."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        try:
            return request()
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return None
            if code not in _COORDINATOR_NOT_YET or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def reader(bootstrap: str) -> Consumer:
    """A consumer of its own that belongs to no living group and commits nothing."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 2,
            "group.id": "benchmark-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.max.bytes": 100_000_000,
            "max.partition.fetch.bytes": 10_000_000,
            "queued.max.messages.kbytes": 200_000,
            "fetch.queue.backoff.ms": 10,
            "check.crcs": False,
        }
    )


def _ignoring(code: int, future: object) -> None:
    """The future's result; an error of this code is as good."""
    try:
        future.result()  # type: ignore[attr-defined]
    except KafkaException as error:
        if error.args[0].code() != code:
            raise
