"""A lesson from HTTP to its events: gateway → request over Kafka → lesson service → database and outbox → topics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from emis_streams.services import lessons, messages
from emis_streams.services.breakers import Breakers
from emis_streams.services.circuit_breaker import CircuitBreaker, Limits, State
from emis_streams.services.client import CallOptions, ServiceClient
from emis_streams.services.database import Database
from emis_streams.services.lessons import LessonEvent, LessonService
from emis_streams.services.outbox import OutboxPublisher
from emis_streams.topics import LESSON_AVAILABLE, USER_ACTIVITY
from tests.integration.engine_rig import PARTITIONS, admin
from tests.integration.service_rig import Serving, asking
from tests.services import until
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
    """And a user of the test's own, whose lessons are looked at: topics and lesson service are those of all tests."""

    http: TestClient[Any, Any]
    client: ServiceClient
    user: UUID = field(default_factory=uuid4)

    async def create(self, key: str | None = None, title: str = "Phân số") -> tuple[int, dict[str, Any]]:
        body = {"title": title, "userId": str(self.user)}
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


@pytest.fixture(scope="module", autouse=True)
async def service_topics(broker: str) -> None:
    names = (messages.request_topic("lessons"), messages.reply_topic("gateway"), LESSON_AVAILABLE, USER_ACTIVITY)
    async with admin(broker) as client:
        await client.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])


@pytest.fixture
async def gateway(broker: str) -> AsyncIterator[Gateway]:
    breakers = Breakers(Limits(threshold=5, open_seconds=OPEN_SECONDS))
    async with asking(broker, name="gateway", breakers=breakers) as own:
        app = web.Application()
        problems.setup(app)
        app.add_routes(routes_of(own.client, ROUTES, ATTEMPT))
        async with TestClient(TestServer(app)) as http:
            yield Gateway(http, own.client)


async def told(broker: str, topic: str, user: UUID) -> list[str]:
    """Ids of the user's lessons that the topic tells of."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker)
    await consumer.start()
    tps = [TopicPartition(topic, n) for n in range(PARTITIONS)]
    consumer.assign(tps)
    await consumer.seek_to_beginning()
    n_all = sum((await consumer.end_offsets(tps)).values())
    found: list[LessonEvent] = []
    while len(found) < n_all:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found += [lessons.lesson_event(record.value) for record in records]
    await consumer.stop()
    return [str(event.lesson_id) for event in found if event.user_id == user]


async def all_told(broker: str, user: UUID, lesson_ids: set[str]) -> None:
    """Waits until both topics tell of these lessons of the user, and of no others."""
    for topic in (LESSON_AVAILABLE, USER_ACTIVITY):

        async def is_told(topic: str = topic) -> bool:
            return set(await told(broker, topic, user)) == lesson_ids

        await until(is_told)


async def test_a_lesson_is_created_found_and_told_of(broker: str, gateway: Gateway, tmp_path: Path) -> None:
    service = Lessons(broker, tmp_path)
    await service.database.prepare()
    async with service.running(), service.publishing():
        status, lesson = await gateway.create()
        assert status == 201
        assert await gateway.get(f"/lessons/{lesson['lessonId']}") == (200, lesson)
        assert (await gateway.get("/lessons?limit=1"))[1]["lessons"] == [lesson]
        await all_told(broker, gateway.user, {lesson["lessonId"]})
        assert (await gateway.get(f"/lessons/{uuid4()}"))[0] == 404
    await service.database.close()


async def test_a_request_that_comes_again_creates_one_lesson_also_after_a_restart(
    broker: str, gateway: Gateway, tmp_path: Path
) -> None:
    service = Lessons(broker, tmp_path)
    await service.database.prepare()
    async with service.running(), service.publishing():
        first = await gateway.create(key="mine")
        assert await gateway.create(key="mine") == first
        assert (await gateway.create(key="mine", title="Số thập phân"))[0] == 422
    await service.database.close()
    restarted = Lessons(broker, tmp_path)
    async with restarted.running(), restarted.publishing():
        assert await gateway.create(key="mine") == first
        await all_told(broker, gateway.user, {first[1]["lessonId"]})
    await restarted.database.close()


async def test_events_that_were_kept_and_not_sent_are_sent_by_whoever_comes_next(
    broker: str, gateway: Gateway, tmp_path: Path
) -> None:
    dies = Lessons(broker, tmp_path)
    await dies.database.prepare()
    async with dies.running():  # Nobody publishes.
        created = [await gateway.create() for _ in range(5)]
    await dies.database.close()
    assert await told(broker, USER_ACTIVITY, gateway.user) == []
    follows = Lessons(broker, tmp_path)
    async with follows.running(), follows.publishing():
        await all_told(broker, gateway.user, {lesson["lessonId"] for _, lesson in created})
    await follows.database.close()


async def test_a_service_that_is_away_opens_the_breaker_and_one_probe_closes_it(
    broker: str, gateway: Gateway, tmp_path: Path
) -> None:
    for _ in range(5):
        status, answer = await gateway.create()
        assert (status, answer["service"]) == (504, "lessons")
    assert gateway.breaker.state is State.OPEN
    status, answer = await gateway.create()
    assert (status, answer["circuitBreaker"]) == (503, "OPEN")
    service = Lessons(broker, tmp_path)
    await service.database.prepare()
    async with service.running():
        await until(lambda: gateway.breaker.state is State.HALF_OPEN)

        async def is_created() -> bool:
            return (await gateway.create())[0] == 201

        await until(is_created)
        assert gateway.breaker.state is State.CLOSED
    await service.database.close()
