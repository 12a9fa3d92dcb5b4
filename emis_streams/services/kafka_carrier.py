"""Requests over Kafka: sent by one producer, answered to this process's partition of its reply topic."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from msgspec.structs import replace

from emis_streams import topics
from emis_streams.broker_clock import BrokerClock
from emis_streams.engine.any_key import partition_of_any
from emis_streams.engine.attempts import Attempts
from emis_streams.engine.client_tasks import forget
from emis_streams.engine.cluster import described
from emis_streams.engine.denied import denied
from emis_streams.engine.patience import in_words
from emis_streams.engine.starting import start
from emis_streams.engine.topic_names import require_topic_name
from emis_streams.services import messages
from emis_streams.services.errors import Denied, NoSuchTopic, NotReady, NotSent, Refused
from emis_streams.services.messages import Header, Request
from emis_streams.services.replies import Replies, Reply

_LAST_SECONDS = 2.0
_POSITION_SECONDS = 4.0
"""For the end of the reply topic: less than the time-out of an attempt, so that the caller hears the reason."""

_MOST_TOPICS = 1_000
"""Requests name the topics of their replies; when there are more, all are forgotten and asked for again."""


class Sender:
    """One producer for requests and replies. Twice the same message harms nobody: each has its key."""

    def __init__(self, client: Mapping[str, Any]) -> None:
        """`client`: arguments of every Kafka client."""
        self._client = client
        self._started: AIOKafkaProducer | None = None
        self._attempts: Attempts | None = None
        self._n_partitions: dict[str, int] = {}
        """Of topics that were sent to, _MOST_TOPICS at most; they may have got more since, never fewer."""

    async def start(self) -> None:
        """Raises aiokafka.errors.KafkaError."""
        producer = AIOKafkaProducer(**self._client, acks="all", partitioner=partition_of_any)
        try:
            await start(producer)
        except BaseException:
            await producer.stop()
            raise
        self._attempts = Attempts(producer)
        self._started = producer

    async def stop(self) -> None:
        """What cannot be sent soon is left: who asked is told so or asks again, and an outbox keeps its events."""
        if self._started is None:
            return
        forget(self._started)
        try:
            await asyncio.wait_for(self._started.flush(), _LAST_SECONDS)
        except TimeoutError:
            await self._started._sender.close()  # Else it waits for each batch's time-out, 40 s.
        await self._started.stop()

    def waits_for(self, within_seconds: float) -> str | None:
        """What messages wait for, deliberately: see `Attempts.waits_for`."""
        return None if self._attempts is None else self._attempts.waits_for(within_seconds)

    @property
    def _producer(self) -> AIOKafkaProducer:
        """Raises NotSent before it has started."""
        if self._started is None:
            raise NotSent("no broker was reached yet")
        return self._started

    async def send(
        self, topic: str, key: bytes, value: bytes | None, headers: list[Header], partition: int | None = None
    ) -> "asyncio.Future[Any]":
        """Resolves when the brokers have acknowledged it.

        Raises NotSent, Refused (too large), InvalidTopicName.
        """
        try:
            n_partitions = await self.partitions_of(topic, at_least=1 if partition is None else partition + 1)
            if partition is not None and partition >= n_partitions:  # aiokafka asserts that there are so many.
                raise NoSuchTopic(f"{topic} has no partition {partition}")
            delivery: asyncio.Future[Any] = await self._producer.send(topic, value, key, partition, headers=headers)
        except KafkaError as error:
            raise _not_sent(topic, error) from error
        return delivery

    async def partitions_of(self, topic: str, at_least: int = 1) -> int:
        """How many there are; asked again if fewer than `at_least` are known.

        The producer hears of a topic only once the brokers know it: it would keep every other name that somebody
        thought of, and ask for it again and again. Raises KafkaError, NotSent, InvalidTopicName.
        """
        known = self._n_partitions.get(topic, 0)
        if known >= at_least:
            return known
        require_topic_name(topic)
        try:
            found = await described(self._producer.client, [topic])
        except UnknownTopicOrPartitionError:
            raise NoSuchTopic(f"there is no topic {topic}; `emis-streams topics` makes it") from None
        self._remember(topic, found[topic].n_partitions)
        return found[topic].n_partitions

    def _remember(self, topic: str, n_partitions: int) -> None:
        if topic not in self._n_partitions and len(self._n_partitions) >= _MOST_TOPICS:
            self._n_partitions.clear()
        self._n_partitions[topic] = n_partitions

    async def send_and_wait(
        self, topic: str, key: bytes, value: bytes | None, headers: list[Header], partition: int | None = None
    ) -> Any:
        """Returns aiokafka's metadata when the brokers have acknowledged it. Raises NotSent, Refused (too large)."""
        delivery = await self.send(topic, key, value, headers, partition)
        try:
            return await delivery
        except KafkaError as error:
            raise _not_sent(topic, error) from error


def _not_sent(topic: str, error: BaseException) -> NotSent | Refused:
    if isinstance(error, MessageSizeTooLargeError):
        return Refused("too-large", f"{topic} does not take messages of that size")
    if (reason := denied(error)) is not None:
        return Denied(f"{topic}: {reason}")
    return NotSent(f"{topic}: {in_words(error) if isinstance(error, Exception) else error!r}")


class KafkaCarrier:
    """See `client.Carrier`."""

    def __init__(self, sender: Sender, replies: Replies, clock: BrokerClock | None = None) -> None:
        self._sender = sender
        self._replies = replies
        self._clock = clock or BrokerClock()

    async def ask(self, service: str, request: Request) -> Reply:
        if not self._replies.positioned.is_set():
            await self._positioned()
        with self._replies.expecting(service, request.pattern) as (correlation_id, reply):
            asking = replace(request, correlation_id=correlation_id, reply_to=self._replies.reply_to)
            topic = topics.request_topic(service)
            delivery = await self._sender.send(topic, *self._record(asking), await self._partition(topic, request))
            delivery.add_done_callback(lambda done: _tell_failure(topic, done, reply))
            return await reply

    async def _positioned(self) -> None:
        """Raises NotReady: the wait is our own, and says nothing about the service."""
        try:
            async with asyncio.timeout(_POSITION_SECONDS):
                await self._replies.positioned.wait()
        except TimeoutError:
            reason = self._replies.waiting_for or "its broker does not answer yet"
            raise NotReady(f"the end of {self._replies.reply_to.topic} is not known: {reason}") from None

    async def tell(self, service: str, request: Request) -> None:
        topic = topics.request_topic(service)
        await self._sender.send_and_wait(topic, *self._record(request), await self._partition(topic, request))

    async def _partition(self, topic: str, request: Request) -> int | None:
        """None: by the record's key, as any other producer would."""
        if request.spread is None:
            return None
        try:
            return request.spread % await self._sender.partitions_of(topic)
        except KafkaError as error:
            raise _not_sent(topic, error) from error

    def _record(self, request: Request) -> tuple[bytes, bytes, list[Header]]:
        headers = messages.request_headers(request, time.monotonic(), self._clock.unix_seconds())
        return request.idempotency_key.encode(), request.value, headers


def _tell_failure(topic: str, delivery: "asyncio.Future[Any]", reply: "asyncio.Future[Reply]") -> None:
    """A request that the brokers did not take will not be answered."""
    if not delivery.cancelled() and (error := delivery.exception()) is not None and not reply.done():
        reply.set_exception(_not_sent(topic, error))
