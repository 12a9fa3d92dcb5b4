"""A real worker (uvloop, Faust's web server) holds its limits against clients that mean no good."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emis_streams.local.readiness import ask
from emis_streams.settings import Settings
from tests.faults.load.attacks import Target, huge, malformed, pipelined
from tests.integration.worker_rig import Worker
from tests.services import settings_for, until

_MOST_CONNECTIONS = 50


@pytest.fixture
async def worker(no_worker: Settings, tmp_path: Path) -> AsyncIterator[Worker]:
    limits = {"web_max_connections": _MOST_CONNECTIONS, "web_receive_seconds": 1.0}
    serving = Worker("serve", settings_for(no_worker.kafka_brokers, tmp_path / "data", roles="serve", **limits))
    serving.start()
    await serving.ready()
    yield serving
    serving.process.stop()


def _turned_away(worker: Worker, reason: str) -> float:
    answer = ask(worker.settings.host, worker.settings.port, "/metrics")
    assert answer is not None
    name = f'emis_http_turned_away_total{{reason="{reason}"}} '
    return float(next(line for line in answer.body.splitlines() if line.startswith(name)).removeprefix(name))


async def test_it_answers_while_others_hold_what_they_can_get_and_stops_with_them(worker: Worker) -> None:
    target = Target(worker.settings.host, worker.settings.port, "/livez")
    idle = [await target.connect() for _ in range(4 * _MOST_CONNECTIONS)]
    assert (await asyncio.to_thread(worker.get, "/livez"))[0] == 200
    assert _turned_away(worker, "full") >= 3 * _MOST_CONNECTIONS
    slow = [await target.connect() for _ in range(10)]
    for _, writer in slow:
        writer.write(b"GET / HTTP/1.1\r\nX: ")
    await until(lambda: asyncio.to_thread(_turned_away, worker, "slow_request"))
    assert [await attack(target, 1.0) for attack in (pipelined, huge, malformed)] == ["", "", ""]
    assert (await asyncio.to_thread(worker.get, "/livez"))[0] == 200
    worker.process.stop()
    assert worker.process.returncode == 0
    assert "Traceback" not in worker.log()
    for _, writer in (*idle, *slow):
        writer.transport.abort()
