"""What the brokers say of groups, offsets and records: asked without a group of our own.

Offsets are asked as `kafka-consumer-groups` asks them (read uncommitted), so figures agree; last stable offsets are
asked where a group stands.
"""

import asyncio
import logging
import struct
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
    for_code,
)

from emis_streams.broker_clock import LOG_APPEND_TIME
from emis_streams.engine.fetch import fetch
from emis_streams.engine.starting import connect, start
from emis_streams.engine.stopping import stop, to_the_end
from emis_streams.lag_report import Owner

log = logging.getLogger(__name__)

UNREACHABLE = (KafkaError, OSError, TimeoutError)
"""What asking the brokers may raise while they cannot be reached."""
NO_ANSWER = (
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
    ConnectionError,
    TimeoutError,
)
"""Of these: nobody answers, or not in time."""

OFFSETS_TOPIC = "__consumer_offsets"
REQUEST_TIMEOUT_SECONDS = 5.0
GROUPS_AT_ONCE = 8
"""Groups that are asked for at once: two requests each."""
RECORD_TIMEOUT_SECONDS = 2.0
RECORD_FETCH_BYTES = 128 * 1024
"""Per partition: only the first record of a batch is looked at."""
RECORDS_FETCH_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as the cluster's metadata has it."""

    partitions: tuple[int, ...]
    offline: tuple[int, ...]
    under_replicated: int


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A consumer group as its coordinator describes it."""

    state: str
    """Stable, Empty, Dead, PreparingRebalance, CompletingRebalance; `Absent` if there is none."""
    members: int | None
    """None if the brokers do not say (a group of the newer protocol)."""
    owners: dict[TopicPartition, Owner] = field(default_factory=dict)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    clients: tuple[Owner, ...] = ()
    """The members, also those without a partition."""


MOST_CLIENTS = 1_000
"""Of one group that are named."""
ABSENT = GroupFacts(state="Absent", members=0)


class Brokers:
    """Connections for asking; every method raises one of UNREACHABLE if it cannot.

    After an error, close it and make a new one: the brokers' addresses may have changed.
    """

    def __init__(self, kafka_client: Mapping[str, Any]) -> None:
        options = {**kafka_client, "request_timeout_ms": int(REQUEST_TIMEOUT_SECONDS * 1000)}
        self._admin = AIOKafkaAdminClient(**options)
        self._offsets = AIOKafkaConsumer(**options, group_id=None)
        self._stable = AIOKafkaConsumer(**options, group_id=None, isolation_level="read_committed")
        self._records = AIOKafkaConsumer(
            **options,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=RECORD_FETCH_BYTES,
            fetch_max_bytes=RECORDS_FETCH_BYTES,
            fetch_max_wait_ms=100,
        )
        self._coordinators: dict[str, int] = {}
        # It tells of every change of an assignment, and ours changes with every look at a record.
        logging.getLogger("aiokafka.consumer.subscription_state").setLevel(logging.WARNING)

    async def start(self) -> None:
        """Connect; raises KafkaConnectionError if no broker answers."""
        await connect(self._admin)
        for consumer in self._consumers():
            await start(consumer)

    async def close(self) -> None:
        """Let go of all connections, also after a start that failed half-way, and of all if cancelled meanwhile."""
        await to_the_end(self._close())

    async def _close(self) -> None:
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._admin.close)
            for consumer in self._consumers():
                closing.push_async_callback(stop, consumer)

    def _consumers(self) -> tuple[AIOKafkaConsumer, ...]:
        return self._offsets, self._stable, self._records

    async def cluster(self) -> tuple[str | None, int]:
        """Cluster id and number of brokers that are up."""
        facts = await self._admin.describe_cluster()
        return facts.get("cluster_id"), len(facts["brokers"])

    async def topics(self) -> dict[str, TopicFacts]:
        """All topics of the cluster; a topic that is being made or deleted is left out."""
        return {t["topic"]: _topic(t) for t in await self._admin.describe_topics() if t["error_code"] == 0}

    async def group_names(self) -> set[str]:
        """All consumer groups that the brokers know."""
        return {entry[0] for entry in await self._admin.list_consumer_groups()}

    async def groups(self, names: Collection[str]) -> dict[str, GroupFacts]:
        """Members and committed offsets of groups; `Absent` for one that its coordinator does not know.

        Coordinators are remembered until the next call, of these groups only.
        """
        turns = asyncio.Semaphore(GROUPS_AT_ONCE)
        facts = await asyncio.gather(*(self._group(name, turns) for name in names))
        self._coordinators = {name: self._coordinators[name] for name in names}
        return dict(zip(names, facts, strict=True))

    async def _group(self, name: str, turns: asyncio.Semaphore) -> GroupFacts:
        async with turns:
            return await self._asked_group(name)

    async def _asked_group(self, name: str) -> GroupFacts:
        if name not in self._coordinators:
            self._coordinators[name] = await self._admin.find_coordinator(name)
        entry, committed = await asyncio.gather(self._describe(name), self._committed(name))
        return _group(entry, committed)

    async def _describe(self, name: str) -> Any:
        # One group a request: aiokafka 0.14 reads answers of version 3 as if they were version 2,
        # and everything after the first group is shifted.
        responses = await self._admin.describe_consumer_groups([name], self._coordinators[name])
        entry = responses[0].groups[0]
        if entry[0]:
            raise for_code(entry[0])(f"describing group {name}")
        return entry

    async def _committed(self, group: str) -> dict[TopicPartition, int]:
        offsets = await self._admin.list_consumer_group_offsets(group, self._coordinators[group])
        return {tp: meta.offset for tp, meta in offsets.items() if meta.offset >= 0}

    async def end_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the last record of partitions that have a leader."""
        result: dict[TopicPartition, int] = await self._offsets.end_offsets(list(tps))
        return result

    async def stable_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The last stable offset of each: the first record of the oldest transaction that is open, else the end."""
        result: dict[TopicPartition, int] = await self._stable.end_offsets(list(tps)) if tps else {}
        return result

    async def earliest_offsets(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset of the first record still in the log."""
        result: dict[TopicPartition, int] = await self._offsets.beginning_offsets(list(tps))
        return result

    async def timestamps(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, float]:
        """Unix seconds of the first record at or after an offset.

        Left out: partitions where none came in time, or whose offset is not in the log.
        """
        return {tp: record.timestamp / 1000 for tp, record in (await self._records_at(offsets)).items()}

    async def stamped_ms(self, tp: TopicPartition, offset: int) -> int | None:
        """When the broker appended the first record at or after an offset, by its clock: Unix time in milliseconds.

        None where the topic has the times of producers, and for what `timestamps` leaves out.
        """
        record = (await self._records_at({tp: offset})).get(tp)
        stamped: int | None = record.timestamp if record and record.timestamp_type == LOG_APPEND_TIME else None
        return stamped

    async def _records_at(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
        if not offsets:
            return {}
        self._records.assign(list(offsets))
        for tp, offset in offsets.items():
            self._records.seek(tp, offset)
        try:
            return await self._first_records(offsets)
        finally:
            self._records.assign([])

    async def _first_records(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Any]:
        found: dict[TopicPartition, Any] = {}
        deadline = time.monotonic() + RECORD_TIMEOUT_SECONDS
        for tp in tps:
            try:
                async with asyncio.timeout(max(0.01, deadline - time.monotonic())):
                    found[tp] = await self._first_record(tp)
            except (KafkaError, TimeoutError) as error:
                log.info("No record to tell the time at %s: %r", tp, error)
        return found

    async def _first_record(self, tp: TopicPartition) -> Any:
        """Not by `getone`: that one raises at header names that are not UTF-8, and at batches that are too large."""
        while True:
            for fetched in await fetch(self._records._fetcher, [tp], RECORD_TIMEOUT_SECONDS, 1, RECORD_FETCH_BYTES):
                if fetched.records:
                    return fetched.records[0]


def _topic(metadata: Mapping[str, Any]) -> TopicFacts:
    partitions = metadata["partitions"]
    return TopicFacts(
        partitions=tuple(sorted(p["partition"] for p in partitions)),
        offline=tuple(sorted(p["partition"] for p in partitions if p["leader"] < 0)),
        under_replicated=sum(len(p["isr"]) < len(p["replicas"]) for p in partitions),
    )


def _group(entry: Any, committed: dict[TopicPartition, int]) -> GroupFacts:
    _error, name, state, protocol_type, _protocol, members, *_ = entry
    if state == "Dead":
        return GroupFacts(state="Dead", members=None, committed=committed) if committed else ABSENT
    owners: dict[TopicPartition, Owner] = {}
    clients: list[Owner] = []
    for member_id, client_id, host, _metadata, assignment, *_ in members if protocol_type == "consumer" else ():
        owner = Owner(member_id=member_id, client_id=client_id, host=host.removeprefix("/"))
        clients.append(owner)
        owners.update(dict.fromkeys(_assigned(name, assignment), owner))
    return GroupFacts(
        state=state, members=len(members), owners=owners, committed=committed, clients=tuple(clients[:MOST_CLIENTS])
    )


def _assigned(group: str, assignment: bytes) -> list[TopicPartition]:
    """Partitions in a member's assignment, which is empty while the group rebalances."""
    if not assignment:
        return []
    try:
        partitions: list[TopicPartition] = ConsumerProtocolMemberAssignment.decode(assignment).partitions()
    except (ValueError, struct.error) as error:
        log.warning("A member of group %s has an assignment that is not Kafka's consumer protocol: %s", group, error)
        return []
    return partitions
