"""Makes the topics of `topics.py` on the brokers, and says what differs in those that exist."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from emis_streams import topics
from emis_streams.engine.starting import connect
from emis_streams.engine.stopping import to_the_end
from emis_streams.errors import InvalidSetting, Unavailable
from emis_streams.kafka_refusals import unavailable
from emis_streams.quantities import counted
from emis_streams.settings import Settings
from emis_streams.topics import Topic

READY_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Difference:
    """Something of an existing topic that is not as `topics.py` and the settings say."""

    topic: str
    what: str
    """`topic`, `partitions`, `replication.factor`, or the name of a topic config."""
    wanted: str
    found: str
    way_out: str
    """What to type, or to do."""


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[Any]:
    """A connected admin client; raises Unavailable if no broker answers."""
    client = AIOKafkaAdminClient(**settings.kafka_client())
    try:
        await _connect(client, settings)
        yield client
    finally:
        await to_the_end(client.close())


async def _connect(client: AIOKafkaAdminClient, settings: Settings) -> None:
    try:
        await connect(client)
    except KafkaConnectionError as error:
        raise await unavailable(settings, error) from None


def wanted_config(topic: Topic, settings: Settings) -> dict[str, str]:
    """All configs that a topic is made with."""
    return {**topic.config, "min.insync.replicas": str(settings.min_insync_replicas)}


async def ensure_topics(settings: Settings, wanted: Sequence[Topic] | None = None) -> list[str]:
    """Makes the topics that are missing and waits until each partition has a leader.

    In: topics to make (all of ours if None). Out: names of those that were made; existing ones are
    left as they are. Raises InvalidSetting (more copies than brokers), Unavailable, or KafkaError.
    """
    wanted = topics.all_topics() if wanted is None else wanted
    _check_copies(settings)
    async with admin_client(settings) as client:
        existing = set(await client.list_topics())
        missing = [topic for topic in wanted if topic.name not in existing]
        made: list[str] = []
        if missing:
            await _check_brokers(client, settings)
            made = await _create(client, missing, settings)
        await _wait_for_leaders(client, [topic.name for topic in wanted])
    return made


def _check_copies(settings: Settings) -> None:
    if settings.min_insync_replicas > settings.replication_factor:
        raise InvalidSetting(
            f"MIN_INSYNC_REPLICAS={settings.min_insync_replicas} is not allowed: "
            f"at most REPLICATION_FACTOR={settings.replication_factor}"
        )


async def _check_brokers(client: Any, settings: Settings) -> None:
    n_brokers = len((await client.describe_cluster())["brokers"])
    if n_brokers < settings.replication_factor:
        raise InvalidSetting(
            f"REPLICATION_FACTOR={settings.replication_factor} is not allowed: the cluster at "
            f"KAFKA_BROKERS={settings.kafka_brokers!r} has {counted(n_brokers, 'broker')}; add brokers, "
            "or set REPLICATION_FACTOR and MIN_INSYNC_REPLICAS (1 and 1 with one broker)"
        )


async def _create(client: Any, missing: Sequence[Topic], settings: Settings) -> list[str]:
    """Names of those that were made; another process may have been quicker with the others."""
    new = [
        NewTopic(t.name, t.partitions, settings.replication_factor, topic_configs=wanted_config(t, settings))
        for t in missing
    ]
    response = await client.create_topics(new)
    for name, code, message in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(f"topic {name} could not be made: {message}")
    return [name for name, code, _message in response.topic_errors if code == 0]


async def _wait_for_leaders(client: Any, names: Sequence[str]) -> None:
    leaderless = list(names)
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            while leaderless := _without_leader(await client.describe_topics(list(names))):
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise Unavailable(
            f"no leader after {READY_TIMEOUT_SECONDS:.0f} s for partitions of: {', '.join(leaderless)}"
        ) from None


async def wait_until_each_broker_knows(settings: Settings, wanted: Sequence[Topic] | None = None) -> None:
    """Waits until every broker lists the topics: one learns of them a moment after the controller has made them, and
    on a busy machine that is long enough for a client to be told that there are none.

    Raises Unavailable if a broker does not list them in time.
    """
    names = [topic.name for topic in (topics.all_topics() if wanted is None else wanted)]
    async with admin_client(settings) as client:
        for broker in (await client.describe_cluster())["brokers"]:
            try:
                async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                    while _without_leader(await _topics_at(client, broker["node_id"], names)):
                        await asyncio.sleep(_POLL_SECONDS)
            except TimeoutError:
                where, waited = f"{broker['host']}:{broker['port']}", f"{READY_TIMEOUT_SECONDS:.0f} s"
                raise Unavailable(f"broker {where} does not know all topics after {waited}") from None


async def _topics_at(client: Any, node_id: int, names: Sequence[str]) -> list[dict[str, Any]]:
    response = await client._send_request_to_node(node_id, MetadataRequest(list(names)))
    described: list[dict[str, Any]] = response.to_object()["topics"]
    return described


def _without_leader(described: Sequence[dict[str, Any]]) -> list[str]:
    return [
        topic["topic"]
        for topic in described
        if topic["error_code"] or not topic["partitions"] or any(p["leader"] < 0 for p in topic["partitions"])
    ]


async def check_topics(settings: Settings, wanted: Sequence[Topic] | None = None) -> list[Difference]:
    """What differs between the brokers' topics and ours, changelogs included; empty if nothing does."""
    wanted = topics.all_topics() if wanted is None else wanted
    async with admin_client(settings) as client:
        existing = set(await client.list_topics())
        present = [topic for topic in wanted if topic.name in existing]
        described = {t["topic"]: t for t in await client.describe_topics([t.name for t in present])} if present else {}
        configs = await _configs(client, [topic.name for topic in present])
    differences = [_missing(topic) for topic in wanted if topic.name not in existing]
    for topic in present:
        differences += _shape(topic, described[topic.name], settings)
        differences += _config(topic, configs[topic.name], settings)
    return differences


async def _configs(client: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    responses = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    configs: dict[str, dict[str, str]] = {}
    for response in responses:
        for code, message, _type, name, entries in response.resources:
            if code:
                raise for_code(code)(f"configs of {name} could not be read: {message}")
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


def _missing(topic: Topic) -> Difference:
    return Difference(topic.name, "topic", "there", "missing", "emis-streams topics")


def _shape(topic: Topic, described: dict[str, Any], settings: Settings) -> list[Difference]:
    differences = []
    n_partitions = len(described["partitions"])
    if n_partitions != topic.partitions:
        differences.append(
            Difference(topic.name, "partitions", str(topic.partitions), str(n_partitions), _remake(topic, settings))
        )
    copies = {len(p["replicas"]) for p in described["partitions"]}
    if copies != {settings.replication_factor}:
        found = "/".join(str(n) for n in sorted(copies))
        way_out = (
            f"kafka-reassign-partitions.sh --bootstrap-server {settings.kafka_brokers} --execute "
            "--reassignment-json-file FILE (FILE lists the brokers of each partition); "
            f"or set REPLICATION_FACTOR={found} if that is meant"
        )
        differences.append(
            Difference(topic.name, "replication.factor", str(settings.replication_factor), found, way_out)
        )
    return differences


def _remake(topic: Topic, settings: Settings) -> str:
    """Partitions cannot be added in place: a key's old records would stay where nobody looks for them."""
    return (
        "do not --alter it, keys would move: stop producers and workers (lag 0), then "
        f"kafka-topics.sh --bootstrap-server {settings.kafka_brokers} --delete --topic {topic.name}; "
        "emis-streams topics; emis-streams sync FILE"
    )


def _config(topic: Topic, found: dict[str, str], settings: Settings) -> list[Difference]:
    return [
        Difference(
            topic.name,
            name,
            value,
            found.get(name, ""),
            f"kafka-configs.sh --bootstrap-server {settings.kafka_brokers} --alter --entity-type topics "
            f"--entity-name {topic.name} --add-config {name}={value}",
        )
        for name, value in wanted_config(topic, settings).items()
        if found.get(name) != value
    ]
