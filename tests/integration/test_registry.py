"""The registry: the same cases on the one in memory and on the one that processes share, and what only that can."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.admin import NewTopic

from emis_streams.local import KafkaCluster
from emis_streams.services import registry
from emis_streams.services.kafka_carrier import Sender
from emis_streams.services.registry import Health, InMemoryRegistry, ServiceInfo, ServiceRegistry
from emis_streams.services.registry_topic import TopicRegistry
from tests.integration.engine_rig import admin
from tests.services import unique, until

LEASE_SECONDS = 1.0
BEAT_SECONDS = 0.1


def info(name: str = "lessons", port: int = 8002, **changes: Any) -> ServiceInfo:
    base = ServiceInfo(name=name, version="1.0.0", host="127.0.0.1", port=port, started_at=datetime.now(UTC))
    return msgspec.structs.replace(base, **changes)


def telling(always: ServiceInfo) -> Callable[[], Awaitable[ServiceInfo]]:
    async def tell() -> ServiceInfo:
        return always

    return tell


@dataclass
class Shared:
    """A registry topic of a test's own."""

    broker: str
    topic: str

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[TopicRegistry]:
        """A process's own view of it."""
        client = {"bootstrap_servers": self.broker}
        sender = Sender(client)
        await sender.start()
        own = TopicRegistry(client, sender, self.topic, LEASE_SECONDS)
        reading = asyncio.create_task(own.run())
        try:
            await asyncio.wait_for(own.level.wait(), 30)
            yield own
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            await sender.stop()


@pytest.fixture
async def shared(broker: str) -> Shared:
    return await made_on(broker)


async def made_on(broker: str) -> Shared:
    topic = unique("registry")
    config = {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topic, 1, 1, topic_configs=config)])
    return Shared(broker, topic)


@pytest.fixture(params=["in memory", "shared"])
async def any_registry(request: pytest.FixtureRequest, shared: Shared) -> AsyncIterator[ServiceRegistry]:
    if request.param == "in memory":
        yield InMemoryRegistry()
        return
    async with shared.reader() as own:
        yield own


async def test_who_registers_is_found(any_registry: ServiceRegistry) -> None:
    lessons, users = info("lessons"), info("users", 8001)
    await any_registry.register(users)
    await any_registry.register(lessons)
    await until(lambda: any_registry.get_all() == [lessons, users])
    assert registry.instances(any_registry, "lessons") == [lessons]
    assert registry.get(any_registry, "lessons") == lessons
    assert registry.health_check(any_registry, "lessons") is Health.HEALTHY


async def test_who_is_not_there_is_not_found(any_registry: ServiceRegistry) -> None:
    assert registry.instances(any_registry, "lessons") == []
    assert registry.get(any_registry, "lessons") is None
    assert registry.health_check(any_registry, "lessons") is Health.UNHEALTHY


async def test_who_deregisters_is_gone(any_registry: ServiceRegistry) -> None:
    one = info()
    await any_registry.register(one)
    await until(lambda: any_registry.get_all() == [one])
    await any_registry.deregister(one)
    await until(lambda: any_registry.get_all() == [])


async def test_who_registers_twice_is_one_instance_as_it_told_last(any_registry: ServiceRegistry) -> None:
    again = info(version="1.0.1")
    await any_registry.register(info())
    await any_registry.register(again)
    await until(lambda: any_registry.get_all() == [again])


async def test_a_registry_that_brokers_stand_still_with_is_not_known(tmp_path: Path) -> None:
    with KafkaCluster(tmp_path / "kafka") as kafka:
        async with (await made_on(kafka.bootstrap)).reader() as own:
            beating = asyncio.create_task(own.beat(telling(info()), BEAT_SECONDS))
            try:
                await until(lambda: own.get_all() != [])
                assert own.waiting_for is None
                kafka.nodes[0].process.send_signal(signal.SIGSTOP)
                try:
                    await until(lambda: own.waiting_for is not None)
                    assert "own heartbeats" in own.waiting_for
                    assert own.get_all() != []
                finally:
                    kafka.nodes[0].process.send_signal(signal.SIGCONT)
                await until(lambda: own.waiting_for is None)
            finally:
                beating.cancel()
                await asyncio.wait([beating])


async def test_who_drains_is_there_and_gets_nothing_new(any_registry: ServiceRegistry) -> None:
    draining, other = info(is_draining=True), info(port=9002)
    await any_registry.register(other)
    await any_registry.register(draining)
    await until(lambda: any_registry.get_all() == [draining, other])
    assert registry.instances(any_registry, "lessons") == [other]


async def test_a_healthy_instance_is_preferred_and_speaks_for_the_service(any_registry: ServiceRegistry) -> None:
    ill, well = info(health=Health.DEGRADED), info(port=9002)
    await any_registry.register(ill)
    await until(lambda: registry.health_check(any_registry, "lessons") is Health.DEGRADED)
    await any_registry.register(well)
    await until(lambda: registry.get(any_registry, "lessons") == well)
    assert registry.health_check(any_registry, "lessons") is Health.HEALTHY


async def test_another_process_sees_who_is_there_also_when_it_starts_later(shared: Shared) -> None:
    one = info()
    async with shared.reader() as first:
        await first.register(one)
        async with shared.reader() as second:
            await until(lambda: second.get_all() == [one])


async def test_who_no_longer_gives_signs_of_life_is_given_up(shared: Shared) -> None:
    dies, lives = info("lessons"), info("users", 8001)
    async with shared.reader() as of_users, shared.reader() as of_lessons:
        beating = asyncio.create_task(of_lessons.beat(telling(dies), BEAT_SECONDS))
        watching = asyncio.create_task(of_users.beat(telling(lives), BEAT_SECONDS))
        await until(lambda: of_users.get_all() == [dies, lives])
        beating.cancel()
        await until(lambda: of_users.get_all() == [lives])
        watching.cancel()
        await asyncio.wait([beating, watching])


async def test_heartbeats_tell_what_has_changed(shared: Shared) -> None:
    told = [info()]

    async def tell() -> ServiceInfo:
        return told[0]

    async with shared.reader() as own:
        beating = asyncio.create_task(own.beat(tell, BEAT_SECONDS))
        await until(lambda: own.get_all() == told)
        told[0] = info(health=Health.DEGRADED)
        await until(lambda: own.get_all() == told)
        beating.cancel()
        await asyncio.wait([beating])
