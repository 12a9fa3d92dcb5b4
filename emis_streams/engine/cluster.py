"""What only the brokers know of a topic, its id among it. aiokafka's own metadata requests end at version 5."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)


class _Uuid(AbstractType[bytes]):
    @classmethod
    def decode(cls, data: Any) -> bytes:
        return bytes(data.read(16))

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value


_NO_ID = bytes(16)


class _MetadataResponse_v12(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest_v12(RequestStruct):
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse_v12
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequest_v12]):
    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest_v12]) -> _MetadataRequest_v12:
        return request_struct_class([(_NO_ID, name, {}) for name in self._topics], False, False, {})


@dataclass(frozen=True, slots=True)
class Described:
    """A topic as the brokers have it now."""

    id: str
    """Hexadecimal (KIP-516: a topic made anew has another one)."""
    n_partitions: int
    cluster_id: str
    n_replicas: int = 0
    """Of the partition with the fewest; 0: not known."""


@dataclass(frozen=True, slots=True)
class Topics:
    """What the brokers say of some topics."""

    found: dict[str, Described]
    errors: dict[str, KafkaError]
    """Of the others, by name."""

    @property
    def missing(self) -> set[str]:
        return {name for name, error in self.errors.items() if isinstance(error, UnknownTopicOrPartitionError)}


async def described(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, Described]:
    """Each topic by its name. Raises aiokafka.errors.KafkaError, UnknownTopicOrPartitionError among them."""
    asked = await ask_for_topics(client, topics)
    for error in asked.errors.values():
        raise error
    return asked.found


async def ask_for_topics(client: AIOKafkaClient, topics: Collection[str]) -> Topics:
    """Raises aiokafka.errors.KafkaError if the brokers do not answer."""
    response = await client.send(client.get_random_node(), _MetadataRequest(sorted(topics)))
    found: dict[str, Described] = {}
    errors: dict[str, KafkaError] = {}
    for error_code, name, topic_id, _, partitions, *_ in response.topics:
        if error_code:
            errors[name] = for_code(error_code)(name)
            continue
        n_replicas = min((len(replicas) for _, _, _, _, replicas, *_ in partitions), default=0)
        found[name] = Described(topic_id.hex(), len(partitions), response.cluster_id, n_replicas)
    return Topics(found, errors)


_TOPIC_RESOURCE = 2


async def topic_configs(
    client: AIOKafkaClient, topics: Collection[str], names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Values of these configs, by topic; without the topics that are missing, or whose configs this user may not read.

    Raises aiokafka.errors.KafkaError.
    """
    if not topics:
        return {}
    resources = [(_TOPIC_RESOURCE, topic, list(names)) for topic in sorted(topics)]
    response = await client.send(client.get_random_node(), DescribeConfigsRequest(resources))
    found: dict[str, dict[str, str]] = {}
    for error_code, _message, _type, topic, entries in response.resources:
        error = for_code(error_code)
        if error in (UnknownTopicOrPartitionError, TopicAuthorizationFailedError):
            continue
        if error_code:
            raise error(topic)
        found[topic] = {entry[0]: entry[1] for entry in entries}
    return found
