"""For services that send events: checked against the contract, to the right topic and partition.

async with EventProducer(brokers="kafka-1:9092,kafka-2:9092") as producer:
    delivery = await producer.send({"eventType": "emis.class.created", "classId": …, …})
    print((await delivery).offset)
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import RecordMetadata

from emis_streams import events, settings, topics
from emis_streams.engine.send_any import send_any
from emis_streams.engine.starting import start
from emis_streams.engine.topic_names import require_topic_name
from emis_streams.errors import UNREADABLE_JSON, InvalidEvent
from emis_streams.events import CONTRACTS, Contract
from emis_streams.kafka_refusals import no_topic, unavailable
from emis_streams.partitioner import partitions_of
from emis_streams.settings import Settings

AnyEvent = Mapping[str, Any] | msgspec.Struct | bytes
"""Fields in camelCase, one of the structs of `events.py`, or the event's JSON."""
Headers = Sequence[tuple[str, bytes | None]]

LINGER_MS = 5
BATCH_BYTES = 256 * 1024
_TOPIC_TIMEOUT_SECONDS = 5.0
_TOPIC_POLL_SECONDS = 0.2


class Record(NamedTuple):
    """An event as it goes over the wire."""

    contract: Contract
    key: bytes
    value: bytes


class _Head(msgspec.Struct, rename="camel"):
    """What must be known of an event's JSON before its contract can be asked."""

    event_type: Any = None
    class_id: Any = None
    teacher_id: Any = None
    user_id: Any = None


_head = msgspec.json.Decoder(_Head).decode
_encode = msgspec.json.Encoder().encode
_CONTRACT_OF_STRUCT = {contract.event: contract for contract in CONTRACTS.values()}


class Checked(NamedTuple):
    """What may be sent, and what may not: place and reason."""

    records: list[Record]
    refused: list[tuple[int, InvalidEvent]]


def check(given: Sequence[AnyEvent]) -> Checked:
    """Checks events against the contract as the workers will check them."""
    records: dict[int, Record] = {}
    refused: list[tuple[int, InvalidEvent]] = []
    for place, event in enumerate(given):
        try:
            records[place] = _sized(_unchecked(event))
        except InvalidEvent as reason:
            refused.append((place, reason))
    for topic, places in _by_topic(records).items():
        now_ms = time.time_ns() // 1_000_000
        keys = [records[place].key for place in places]
        values = [records[place].value for place in places]
        decoded = events.decode(CONTRACTS[topic], keys, values, [now_ms] * len(places))
        refused += [(places[at], reason) for at, reason in decoded.refused]
    for place, _reason in refused:
        records.pop(place, None)
    return Checked(list(records.values()), sorted(refused, key=lambda pair: pair[0]))


def records_of(given: Sequence[AnyEvent]) -> list[Record]:
    """The records of events that are all good; raises InvalidEvent with the first reason (and place)."""
    records, refused = check(given)
    for place, reason in refused:
        raise reason if len(given) == 1 else InvalidEvent(f"event {place + 1} of {len(given)}: {reason}")
    return records


def _by_topic(records: Mapping[int, Record]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, record in records.items():
        places[record.contract.topic].append(place)
    return places


def _unchecked(event: AnyEvent) -> Record:
    try:
        contract = _CONTRACT_OF_STRUCT.get(type(event))  # type: ignore[arg-type]
        if contract is not None:
            return Record(contract, _key_bytes(getattr(event, contract.key)), _encode(event))
        value = event if isinstance(event, bytes) else _encode(event)
        head = _head(value)
    except (*UNREADABLE_JSON, TypeError) as error:
        raise InvalidEvent(f"value: {error}") from None
    contract = CONTRACTS.get(head.event_type) if isinstance(head.event_type, str) else None
    if contract is None:
        raise InvalidEvent(f"eventType: {head.event_type!r} is none of {', '.join(CONTRACTS)}")
    return Record(contract, _key_bytes(getattr(head, contract.key)), value)


def _sized(record: Record) -> Record:
    """Raises InvalidEvent for what its topic would not take: a field that is not known may be of any size."""
    n_bytes = len(record.key) + len(record.value)
    if n_bytes > topics.MAX_RECORD_BYTES:
        raise InvalidEvent(f"{n_bytes:,} bytes, {topics.MAX_RECORD_BYTES:,} at most")
    return record


def _key_bytes(key: Any) -> bytes:
    """What is not a text is refused when the whole event is checked."""
    return key.encode() if isinstance(key, str) else b""


class EventProducer:
    """Sends events: idempotent, acknowledged by all in-sync replicas, placed as Java's producer does.

    In: settings of the process if nothing is given; or `brokers`, host:port comma-separated.
    Every method that sends raises InvalidEvent (nothing of that call was sent), Unavailable (no broker
    answers, topic missing), or the KafkaError that an earlier delivery ended with.
    """

    def __init__(self, chosen: Settings | None = None, *, brokers: str | None = None) -> None:
        chosen = chosen or settings.current()
        self._settings = chosen if brokers is None else msgspec.structs.replace(chosen, kafka_brokers=brokers)
        self._producer: Any = None
        self._known_topics: set[str] = set()
        self._under_way: set[asyncio.Future[Any]] = set()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            **self._settings.kafka_client(),
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=topics.MAX_MESSAGE_BYTES,
        )
        try:
            await start(self._producer)
        except KafkaConnectionError as error:
            await self._producer.stop()
            raise await unavailable(self._settings, error) from None
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self._producer.stop()

    async def send(self, event: AnyEvent) -> "asyncio.Future[RecordMetadata]":
        """Checks and sends one event; the future that comes back is done when the brokers have it."""
        (record,) = records_of([event])
        return await self.send_record(record.contract.topic, record.key, record.value)

    async def send_record(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> "asyncio.Future[RecordMetadata]":
        """Sends any bytes to a topic, unchecked: for dead letters and for tests of bad input.

        Also raises InvalidEvent if the topic has no such partition, and MessageSizeTooLargeError.
        """
        await self._require(topic)
        if partition is not None and partition not in await self._producer.partitions_for(topic):
            raise InvalidEvent(f"{topic} has no partition {partition}")
        delivery = await send_any(self._producer, topic, key, value, headers, partition)
        self._follow(delivery)
        return delivery

    async def send_many(self, given: Sequence[AnyEvent]) -> None:
        """Checks all, then sends all, in batches of our own; waits while too much is under way.

        Delivery errors are raised by the next call, or by `flush`.
        """
        await self.send_records(records_of(given))

    async def send_records(self, records: Sequence[Record]) -> None:
        """Sends what `check` found good."""
        for topic, places in _by_topic(dict(enumerate(records))).items():
            await self._send_batches(topic, [records[place] for place in places])

    async def _send_batches(self, topic: str, records: Sequence[Record]) -> None:
        await self._require(topic)
        n_partitions = len(await self._producer.partitions_for(topic))
        by_partition: dict[int, list[Record]] = defaultdict(list)
        for record, partition in zip(records, partitions_of([r.key for r in records], n_partitions), strict=True):
            by_partition[partition].append(record)
        for partition, own in by_partition.items():
            for batch in self._batches(own):
                self._follow(await self._producer.send_batch(batch, topic, partition=partition))

    def _batches(self, records: Sequence[Record]) -> Iterator[Any]:
        batch = self._producer.create_batch()
        for record in records:
            if batch.append(timestamp=None, key=record.key, value=record.value) is None:
                yield batch
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=record.key, value=record.value)
        batch.close()
        yield batch

    async def flush(self) -> None:
        """Waits until the brokers have everything; raises the first error of a delivery."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._raise_failure()

    async def _require(self, topic: str) -> None:
        """Raises what an earlier delivery ended with, Unavailable if there is no such topic, InvalidTopicName."""
        self._raise_failure()
        require_topic_name(topic)
        if topic in self._known_topics:
            return
        try:
            async with asyncio.timeout(_TOPIC_TIMEOUT_SECONDS):
                while topic not in (await self._producer.client.fetch_all_metadata()).topics():
                    await asyncio.sleep(_TOPIC_POLL_SECONDS)
        except TimeoutError:
            raise no_topic(self._settings, topic) from None
        self._known_topics.add(topic)

    def _follow(self, delivery: "asyncio.Future[Any]") -> None:
        self._under_way.add(delivery)
        delivery.add_done_callback(self._delivered)

    def _delivered(self, delivery: "asyncio.Future[Any]") -> None:
        self._under_way.discard(delivery)
        failure = None if delivery.cancelled() else delivery.exception()
        if self._failure is None:
            self._failure = failure

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
