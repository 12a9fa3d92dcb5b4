"""Stopped just after the broker went, a consumer has a fetch that failed and waits to be sent again."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from emis_streams.engine.stopping import stop
from emis_streams.local import KafkaCluster
from tests.integration.engine_rig import Rig, row
from tests.services import until

pytestmark = pytest.mark.slow

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


async def _ends_soon(stopping: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(stopping)
    ended, _ = await asyncio.wait([task], timeout=_SOON_SECONDS)  # `wait_for` cancels, which stopping may swallow.
    assert ended
    await task
