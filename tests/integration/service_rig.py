"""One service on the engine and one that asks it, on real brokers, in one process."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
from aiokafka.admin import NewTopic

from emis_streams import topics
from emis_streams.broker_clock import LOG_APPEND_TIME, BrokerClock
from emis_streams.engine.app import App
from emis_streams.engine.options import Options
from emis_streams.engine.slices import Slice
from emis_streams.errors import Unavailable
from emis_streams.services.breakers import Breakers
from emis_streams.services.client import CallOptions, ServiceClient
from emis_streams.services.errors import Refused
from emis_streams.services.kafka_carrier import KafkaCarrier, Sender
from emis_streams.services.messages import ReplyTo, Request
from emis_streams.services.replies import Replies
from emis_streams.services.requests import Requests
from tests.integration.engine_rig import PARTITIONS, admin, app_of
from tests.services import unique, until

ASKING = "asker"
LARGE = "x" * 2_000_000
STAMPED_BY_BROKERS = {"message.timestamp.type": "LogAppendTime"}


class Asked(msgspec.Struct):
    number: int


@dataclass
class Serving:
    """A service on the engine, whose requests `declare` says how to answer."""

    broker: str
    folder: Path
    name: str
    dead: list[tuple[Any, str]] = field(default_factory=list)
    clock: BrokerClock | None = None
    """Learns the brokers' time before the first request; None: it is not known."""
    handler_seconds: float = 45.0
    app: App = field(init=False)
    sender: Sender = field(init=False)
    requests: Requests = field(init=False)

    def __post_init__(self) -> None:
        client = {"bootstrap_servers": self.broker}
        self.app = app_of(f"{self.name}-service", self.broker, self.folder, Options(client=client, linger_seconds=0))

    def declare(self) -> None:
        """Says to `requests` what is answered."""
        raise NotImplementedError

    async def _dead_letter(self, _batch: Slice, record: Any, reason: str) -> None:
        self.dead.append((record.value, reason))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        self.sender = Sender({"bootstrap_servers": self.broker})
        await self.sender.start()
        if self.clock is not None:
            await learn_the_time(self.clock, self.sender, self.broker)
        self.requests = Requests(self.sender, self._dead_letter, clock=self.clock, handler_seconds=self.handler_seconds)
        self.declare()
        self.app.agent(self.app.slices(topics.request_topic(self.name)), name="requests")(self.requests.serve)
        await self.app.start()
        try:
            await until(lambda: self.app.tables.recovery.completed.is_set())
            yield self
        finally:
            await self.app.stop()
            await self.sender.stop()

    async def make_topics(self) -> None:
        await make_topic(self.broker, topics.request_topic(self.name), PARTITIONS)


@dataclass
class Answering(Serving):
    """Squares numbers, refuses 13, breaks at 99, and is unavailable while it is told to be."""

    name: str = field(default_factory=lambda: unique("squares"))
    is_unavailable: bool = False
    begun: list[int] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared: requests are begun and stand still."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.may_answer.set()

    def declare(self) -> None:
        self.requests.answers("square", Asked)(self._square)

    async def _square(self, asked: Asked, _request: Request) -> Any:
        self.begun.append(asked.number)
        await self.may_answer.wait()
        if self.is_unavailable:
            raise Unavailable("no database")
        if asked.number == 13:
            raise Refused("unlucky", "13 is not squared here")
        if asked.number == 99:
            raise KeyError("a mistake")
        return {"square": asked.number**2} if asked.number else LARGE


async def make_topic(broker: str, topic: str, n_partitions: int) -> None:
    """Until the broker knows it: the controller does a moment earlier."""
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topic, n_partitions, 1, topic_configs=STAMPED_BY_BROKERS)])

        async def is_known() -> bool:
            return topic in await client.list_topics()

        await until(is_known)


async def learn_the_time(clock: BrokerClock, sender: Sender, broker: str) -> None:
    """As a service does by its heartbeats."""
    topic = unique("heartbeats")
    await make_topic(broker, topic, 1)
    sent_at = time.monotonic()
    acknowledged = await sender.send_and_wait(topic, b"k", b"{}", [], 0)
    assert acknowledged.timestamp_type == LOG_APPEND_TIME
    clock.note(acknowledged.timestamp, sent_at, time.monotonic())


async def no_dead_letter(_batch: Slice, record: Any, reason: str) -> None:
    """Of a service that must not have any."""
    raise AssertionError(f"dead letter: {record}: {reason}")


@dataclass
class Asking:
    """The side that asks."""

    sender: Sender
    replies: Replies
    client: ServiceClient


@asynccontextmanager
async def asking(
    broker: str,
    options: CallOptions | None = None,
    partition: int = 0,
    name: str = ASKING,
    breakers: Breakers | None = None,
    clock: BrokerClock | None = None,
) -> AsyncIterator[Asking]:
    client = {"bootstrap_servers": broker}
    sender = Sender(client)
    replies = Replies(client, ReplyTo(topics.reply_topic(name), partition))
    await sender.start()
    reading = asyncio.create_task(replies.run())
    try:
        yield Asking(sender, replies, ServiceClient(KafkaCarrier(sender, replies, clock), breakers, options))
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        await sender.stop()
