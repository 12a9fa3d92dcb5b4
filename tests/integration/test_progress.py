"""What makes no progress is seen: tasks of clients that have ended, handlers and sends that never end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from emis_streams import topics
from emis_streams.engine import client_tasks
from emis_streams.engine.attempts import Attempts
from emis_streams.engine.starting import start
from emis_streams.engine.stopping import stop
from emis_streams.services.client import CallOptions
from emis_streams.services.errors import ServiceBroken
from emis_streams.services.messages import Request
from tests.integration.engine_rig import admin
from tests.integration.service_rig import ASKING, Asked, Asking, Serving, asking
from tests.services import unique, until

HANDLER_SECONDS = 0.5


@pytest.fixture
async def producer(broker: str) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(bootstrap_servers=broker, acks="all")
    await start(client)
    yield client
    client_tasks.forget(client)
    await client.stop()


async def test_a_sender_whose_task_has_died_is_seen(
    broker: str, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = unique("any")
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topic, 1, 1)])
    assert client_tasks.ended_task() is None

    def broken(**_: Any) -> None:
        raise KeyError("a fault of the library")

    monkeypatch.setattr(producer._message_accumulator, "drain_by_nodes", broken)
    with pytest.raises(KafkaError):  # What was given to it fails; all that comes later would wait for ever.
        await producer.send_and_wait(topic, b"x")
    seen = await until(client_tasks.ended_task)
    assert seen == "the sender task of a Kafka producer has ended: KeyError('a fault of the library')"


async def test_a_client_whose_metadata_is_not_refreshed_any_more_is_seen(producer: AIOKafkaProducer) -> None:
    producer.client._sync_task.cancel()
    assert await until(client_tasks.ended_task) == "the metadata task of a Kafka producer has ended: it was cancelled"


async def test_a_consumer_that_fetches_no_more_is_seen_and_one_that_is_stopped_is_none(broker: str) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker)
    await start(consumer)
    consumer._fetcher._fetch_task.cancel()
    assert "the fetching task of a Kafka consumer has ended" in await until(client_tasks.ended_task)
    await stop(consumer)
    assert client_tasks.ended_task() is None


# -- sends ----------------------------------------------------------------------------------------


async def test_records_that_brokers_do_not_take_are_waited_for_on_purpose(
    broker: str, producer: AIOKafkaProducer
) -> None:
    topic = unique("deleted")
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topic, 1, 1)])
        attempts = Attempts(producer)
        await producer.send_and_wait(topic, b"x", partition=0)
        assert attempts.waits_for(60) is None
        await client.delete_topics([topic])
    delivery = await producer.send(topic, b"x", partition=0)
    assert f"{topic}-0" in await until(lambda: attempts.waits_for(60))
    assert not delivery.done()


# -- handlers -------------------------------------------------------------------------------------


class Hanging(Serving):
    """Squares numbers; at 7 it never ends, at 8 it ends itself, at 9 it does not let itself be ended."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.may_end = asyncio.Event()

    def declare(self) -> None:
        self.requests.answers("square", Asked)(self._square)

    async def _square(self, asked: Asked, _request: Request) -> Any:
        if asked.number == 7:
            await asyncio.Event().wait()
        if asked.number == 8:
            raise asyncio.CancelledError
        while asked.number == 9 and not self.may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.may_end.wait()
        return asked.number**2


@pytest.fixture
async def hanging(broker: str, tmp_path: Path) -> AsyncIterator[Hanging]:
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topics.reply_topic(ASKING), 2, 1)])
    service = Hanging(broker, tmp_path, unique("hanging"), handler_seconds=HANDLER_SECONDS)
    await service.make_topics()
    async with service.running():
        yield service


@pytest.fixture
async def asker(broker: str, hanging: Hanging) -> AsyncIterator[Asking]:
    async with asking(broker, CallOptions(retries=0)) as one:
        yield one


@pytest.mark.parametrize("number", [7, 8])
async def test_a_handler_that_never_ends_is_given_up_and_the_next_request_is_answered(
    hanging: Hanging, asker: Asking, number: int
) -> None:
    with pytest.raises(ServiceBroken):
        await asker.client.send(hanging.name, "square", {"number": number})
    assert hanging.requests.given_up_in_a_row == (number == 7)
    assert await asker.client.send(hanging.name, "square", {"number": 3}) == 9
    assert hanging.requests.given_up_in_a_row == 0


async def test_what_nobody_waits_for_becomes_a_dead_letter_when_its_handler_never_ends(
    hanging: Hanging, asker: Asking
) -> None:
    await asker.client.emit(hanging.name, "square", {"number": 7})
    await until(lambda: hanging.dead)
    assert "not carried out within 0.5 s" in hanging.dead[0][1]


async def test_a_handler_that_cannot_be_ended_is_told_to_the_watchdog(hanging: Hanging, asker: Asking) -> None:
    await asker.client.emit(hanging.name, "square", {"number": 9}, idempotency_key="k9")
    await until(lambda: hanging.requests.standstill(time.monotonic(), 2 * HANDLER_SECONDS))
    assert hanging.requests.standstill(time.monotonic() + 60, 60) == "square k9 is being carried out for 61 s"
    (batch,) = hanging.app.slice_consumer.slices_under_way()
    assert batch.begun
    assert time.monotonic() - batch.progressed_at >= HANDLER_SECONDS
    await until(lambda: hanging.app.tables.recovery.brokers_answer_since is not None)  # Without any table, too.
    hanging.may_end.set()
    await until(lambda: batch.is_done)
