"""Services whose brokers go away, and that are told to stop then."""

import asyncio
from pathlib import Path

import pytest

from emis_streams.engine.fatal import EXIT_FAILED, EXIT_STOPPED
from emis_streams.local import KafkaCluster
from tests.integration.services_rig import Process, Services, User
from tests.services import until

pytestmark = pytest.mark.slow

_DRAIN_SECONDS = 3.0
_ENDED_SECONDS = _DRAIN_SECONDS + 12


async def test_they_end_soon_also_with_messages_that_no_broker_takes(tmp_path: Path) -> None:
    with KafkaCluster(tmp_path / "kafka") as kafka:
        services = Services(kafka.bootstrap, tmp_path)
        await services.make_topics()
        gateway = services.process("gateway", drain_timeout_seconds=_DRAIN_SECONDS)
        lessons = services.process("lessons", drain_timeout_seconds=_DRAIN_SECONDS)
        async with gateway.running(ready=False), lessons.running():
            await until(lambda: gateway.get("/services/status")[0] == 200)
            await User(gateway).created(1)
            kafka.stop()
            status, _ = await User(gateway).create()
            assert status >= 500
            code_of_gateway, code_of_lessons = await asyncio.gather(_ends(gateway), _ends(lessons))
            assert code_of_gateway == EXIT_STOPPED
            assert code_of_lessons in {EXIT_STOPPED, EXIT_FAILED}, "failed: what it had done was not committed yet"


async def _ends(process: Process) -> int | None:
    """Its exit code; raises AssertionError if it does not end in time."""
    assert await asyncio.to_thread(process.process.stop, _ENDED_SECONDS), process.process.log_tail()
    return process.process.returncode
