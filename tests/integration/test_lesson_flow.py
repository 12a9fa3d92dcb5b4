"""A lesson from HTTP to its events: gateway → request over Kafka → lesson service → database and outbox → topics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from emis_streams.local import KafkaCluster
from emis_streams.services import lessons, messages
from emis_streams.services.breakers import Breakers
from emis_streams.services.circuit_breaker import CircuitBreaker, Limits, State
from emis_streams.services.client import CallOptions, ServiceClient
from emis_streams.services.database import Database
from emis_streams.services.kafka_carrier import KafkaCarrier, Sender
from emis_streams.services.lessons import LESSON_AVAILABLE, USER_ACTIVITY, LessonService
from emis_streams.services.messages import ReplyTo
from emis_streams.services.outbox import OutboxPublisher
from emis_streams.services.replies import Replies
from tests.integration.engine_rig import admin
from tests.integration.service_rig import PARTITIONS, Serving
from tests.services import kafka_cluster, until
from web import problems
from web.gateway import ROUTES, routes_of

OPEN_SECONDS = 1.0
ATTEMPT = CallOptions(timeout_seconds=0.5, retries=0, deadline_seconds=8.0)


@dataclass
class Lessons(Serving):
    """The lesson service, with its database."""

    name: str = "lessons"
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.database = Database.open(f"sqlite:///{self.folder / 'lessons.db'}", lessons.tables)

    def declare(self) -> None:
        LessonService(self.database).declare(self.requests)

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Its outbox is sent meanwhile."""
        publisher = asyncio.create_task(OutboxPublisher(self.database, self.sender).run())
        try:
            yield
        finally:
            publisher.cancel()
            await asyncio.wait([publisher])


@dataclass
class Gateway:
    http: TestClient[Any, Any]
    client: ServiceClient

    async def create(self, key: str | None = None, title: str = "Phân số") -> tuple[int, dict[str, Any]]:
        body = {"title": title, "userId": str(uuid4()) if key is None else "00000000-0000-4000-8000-000000000001"}
        headers = {} if key is None else {"Idempotency-Key": key}
        async with self.http.post("/lessons", json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        async with self.http.get(path) as response:
            return response.status, await response.json(content_type=None)

    @property
    def breaker(self) -> CircuitBreaker:
        """Of what `create` asks for."""
        return self.client.breakers.of("lessons", lessons.CREATE)


@pytest.fixture
async def kafka() -> AsyncIterator[KafkaCluster]:
    """With the services' topics, empty."""
    with kafka_cluster() as cluster:
        names = (messages.request_topic("lessons"), messages.reply_topic("gateway"), LESSON_AVAILABLE, USER_ACTIVITY)
        async with admin(cluster.bootstrap) as client:
            await client.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        yield cluster


@pytest.fixture
async def gateway(kafka: KafkaCluster) -> AsyncIterator[Gateway]:
    client = {"bootstrap_servers": kafka.bootstrap}
    sender = Sender(client)
    replies = Replies(client, ReplyTo(messages.reply_topic("gateway"), 0))
    await sender.start()
    reading = asyncio.create_task(replies.run())
    asking = ServiceClient(KafkaCarrier(sender, replies), Breakers(Limits(threshold=5, open_seconds=OPEN_SECONDS)))
    app = web.Application()
    problems.setup(app)
    app.add_routes(routes_of(asking, ROUTES, ATTEMPT))
    async with TestClient(TestServer(app)) as http:
        yield Gateway(http, asking)
    reading.cancel()
    await asyncio.wait([reading])
    await sender.stop()


async def events(kafka: KafkaCluster, topic: str) -> list[str]:
    """Ids of the lessons that the topic tells of."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    tps = [TopicPartition(topic, n) for n in range(PARTITIONS)]
    consumer.assign(tps)
    await consumer.seek_to_beginning()
    n_all = sum((await consumer.end_offsets(tps)).values())
    found: list[str] = []
    while len(found) < n_all:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found += [str(lessons.lesson_event(record.value).lesson_id) for record in records]
    await consumer.stop()
    return found


async def told_of(kafka: KafkaCluster, lesson_ids: set[str]) -> None:
    """Waits until both topics tell of these lessons, and of no others."""
    for topic in (LESSON_AVAILABLE, USER_ACTIVITY):

        async def is_told(topic: str = topic) -> bool:
            return set(await events(kafka, topic)) == lesson_ids

        await until(is_told)


async def test_a_lesson_is_created_found_and_told_of(kafka: KafkaCluster, gateway: Gateway, tmp_path: Path) -> None:
    service = Lessons(kafka.bootstrap, tmp_path)
    await service.database.prepare()
    async with service.running(), service.publishing():
        status, lesson = await gateway.create()
        assert status == 201
        assert await gateway.get(f"/lessons/{lesson['lessonId']}") == (200, lesson)
        assert (await gateway.get("/lessons"))[1]["lessons"] == [lesson]
        await told_of(kafka, {lesson["lessonId"]})
        assert (await gateway.get(f"/lessons/{uuid4()}"))[0] == 404
    await service.database.close()


async def test_a_request_that_comes_again_creates_one_lesson_also_after_a_restart(
    kafka: KafkaCluster, gateway: Gateway, tmp_path: Path
) -> None:
    service = Lessons(kafka.bootstrap, tmp_path)
    await service.database.prepare()
    async with service.running(), service.publishing():
        first = await gateway.create(key="mine")
        assert await gateway.create(key="mine") == first
        assert (await gateway.create(key="mine", title="Số thập phân"))[0] == 422
    await service.database.close()
    restarted = Lessons(kafka.bootstrap, tmp_path)
    async with restarted.running(), restarted.publishing():
        assert await gateway.create(key="mine") == first
        await told_of(kafka, {first[1]["lessonId"]})
    await restarted.database.close()


async def test_events_that_were_kept_and_not_sent_are_sent_by_whoever_comes_next(
    kafka: KafkaCluster, gateway: Gateway, tmp_path: Path
) -> None:
    dies = Lessons(kafka.bootstrap, tmp_path)
    await dies.database.prepare()
    async with dies.running():  # Nobody publishes.
        created = [await gateway.create() for _ in range(5)]
    await dies.database.close()
    assert await events(kafka, USER_ACTIVITY) == []
    follows = Lessons(kafka.bootstrap, tmp_path)
    async with follows.running(), follows.publishing():
        await told_of(kafka, {lesson["lessonId"] for _, lesson in created})
    await follows.database.close()


async def test_a_service_that_is_away_opens_the_breaker_and_one_probe_closes_it(
    kafka: KafkaCluster, gateway: Gateway, tmp_path: Path
) -> None:
    for _ in range(5):
        status, told = await gateway.create()
        assert (status, told["service"]) == (504, "lessons")
    assert gateway.breaker.state is State.OPEN
    status, told = await gateway.create()
    assert (status, told["circuitBreaker"]) == (503, "OPEN")
    service = Lessons(kafka.bootstrap, tmp_path)
    await service.database.prepare()
    async with service.running():
        await until(lambda: gateway.breaker.state is State.HALF_OPEN)

        async def is_created() -> bool:
            return (await gateway.create())[0] == 201

        await until(is_created)
        assert gateway.breaker.state is State.CLOSED
    await service.database.close()
