"""Stopped just after the broker went, a consumer has a fetch that failed and waits to be sent again."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from emis_streams import admin, read_topic
from emis_streams.brokers import Brokers
from emis_streams.engine.starting import start
from emis_streams.engine.stopping import stop
from emis_streams.local import KafkaCluster
from emis_streams.read_topic import reader
from emis_streams.settings import current
from tests.integration.engine_rig import Rig, row
from tests.integration.engine_rig import admin as admin_of
from tests.services import free_port, until

pytestmark = pytest.mark.slow

_Client = TypeVar("_Client")

_LONGER_THAN_THE_TEST_SECONDS = 60.0
_SOON_SECONDS = 10.0


async def test_a_consumer_stops_soon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with KafkaCluster(tmp_path / "kafka") as kafka:
        rig = Rig(kafka.bootstrap, tmp_path / "worker")
        await rig.make_topics()
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(rig.topic, 0)])
            await consumer.position(TopicPartition(rig.topic, 0))
            consumer._fetcher._retry_backoff = _LONGER_THAN_THE_TEST_SECONDS
            kafka.nodes[0].process.send_signal(signal.SIGKILL)
            await until(lambda: "Failed fetch messages" in caplog.text)
        finally:
            await _ends_soon(stop(consumer))


async def test_a_worker_stops_soon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with KafkaCluster(tmp_path / "kafka") as kafka:
        rig = Rig(kafka.bootstrap, tmp_path / "worker")
        await rig.make_topics()
        async with rig.running():
            await rig.produce({"key": row(1)})
            await until(rig.all_committed)
            thread = rig.app.slice_consumer._thread
            thread._ensure_consumer()._fetcher._retry_backoff = _LONGER_THAN_THE_TEST_SECONDS
            kafka.nodes[0].process.send_signal(signal.SIGKILL)
            await until(lambda: "Failed fetch messages" in caplog.text)
            await _ends_soon(rig.app.stop())


async def test_a_consumer_whose_owner_is_cancelled_while_it_stops_is_stopped(broker: str) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker)
    await start(consumer)
    await _cancelled_at_once(stop(consumer))
    assert consumer._closed
    assert not consumer._client._conns


async def test_a_consumer_thread_that_is_cancelled_while_it_stops_stops_its_consumer(
    broker: str, tmp_path: Path
) -> None:
    rig = Rig(broker, tmp_path / "worker")
    await rig.make_topics()
    async with rig.running():
        thread = rig.app.slice_consumer._thread
        consumer = thread._ensure_consumer()
        stopping = asyncio.run_coroutine_threadsafe(_cancelled_at_once(thread.on_thread_stop()), thread.thread_loop)
        await asyncio.wrap_future(stopping)
        assert consumer._closed


async def test_a_worker_in_a_rebalance_while_it_stops_leaves_its_group(broker: str, tmp_path: Path) -> None:
    rig = Rig(broker, tmp_path / "worker")
    await rig.make_topics()
    async with rig.running():
        thread = rig.app.slice_consumer._thread
        consumer = thread._ensure_consumer()
        generation = consumer._coordinator.generation
        rig.app._stopped.set()  # The first that Faust's stop does; the rebalance comes before the rest of it.
        thread.thread_loop.call_soon_threadsafe(consumer._coordinator.request_rejoin)
        await until(lambda: consumer._closed or consumer._coordinator.generation > generation)
        rig.app._stopped.clear()
        await _ends_soon(rig.app.stop())
    assert await _members(broker, rig.name) == []


async def test_an_owner_that_is_cancelled_while_it_connects_leaves_no_connection_open(broker: str) -> None:
    brokers = Brokers({"bootstrap_servers": broker})
    await _cancelled_at_once(brokers.start())
    await brokers.close()
    assert not brokers._admin._client._conns
    assert all(consumer._closed and not consumer._client._conns for consumer in brokers._consumers())


async def test_an_admin_client_whose_user_is_cancelled_while_it_connects_is_closed(broker: str) -> None:
    settings = msgspec.structs.replace(current(), kafka_brokers=broker)
    opened: list[AIOKafkaAdminClient] = []

    async def uses() -> None:
        async with admin.admin_client(settings):
            raise AssertionError("it is cancelled before")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(admin, "AIOKafkaAdminClient", lambda **options: noted(opened, AIOKafkaAdminClient(**options)))
        await _cancelled_at_once(uses())
    assert [client._closed for client in opened] == [True]


async def test_an_owner_that_is_cancelled_while_it_closes_its_connections_closes_all(broker: str) -> None:
    brokers = Brokers({"bootstrap_servers": broker})
    await brokers.start()
    await _cancelled_at_once(brokers.close())
    assert all(consumer._closed and not consumer._client._conns for consumer in brokers._consumers())


async def test_connections_of_which_the_first_does_not_close_are_closed_all_the_same(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    brokers = Brokers({"bootstrap_servers": broker})
    await brokers.start()
    close = brokers._admin.close

    async def fails() -> None:
        await close()
        raise KafkaConnectionError("the broker has closed the connection")

    monkeypatch.setattr(brokers._admin, "close", fails)
    with pytest.raises(KafkaConnectionError):
        await brokers.close()
    assert all(consumer._closed for consumer in brokers._consumers())


async def test_a_reader_that_is_cancelled_while_it_connects_is_closed() -> None:
    settings = msgspec.structs.replace(current(), kafka_brokers=f"127.0.0.1:{free_port()}")
    opened: list[AIOKafkaConsumer] = []

    async def reads() -> None:
        async with reader(settings):
            raise AssertionError("there is no broker")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(read_topic, "AIOKafkaConsumer", lambda **options: noted(opened, AIOKafkaConsumer(**options)))
        await _cancelled_at_once(reads())
    assert [consumer._closed for consumer in opened] == [True]


def noted(opened: list[_Client], client: _Client) -> _Client:
    opened.append(client)
    return client


async def _cancelled_at_once(closing: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(closing)
    await asyncio.sleep(0)  # It has begun, and waits for the first answer.
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _members(broker: str, group: str) -> list[Any]:
    async with admin_of(broker) as client:
        (answer,) = await client.describe_consumer_groups([group])
        return list(answer.groups[0][5])


async def _ends_soon(stopping: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(stopping)
    ended, _ = await asyncio.wait([task], timeout=_SOON_SECONDS)  # `wait_for` cancels, which stopping may swallow.
    assert ended
    await task
