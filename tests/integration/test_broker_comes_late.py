"""A worker that starts before its brokers."""

import sys
from pathlib import Path

import pytest

from emis_streams.admin import ensure_topics
from emis_streams.local import Child, KafkaCluster
from emis_streams.local.readiness import is_ready
from tests.services import environment_of, settings_for, until

pytestmark = pytest.mark.slow

_LONGER_THAN_THE_WATCHDOG_LOOKS_AWAY_SECONDS = 5.0


async def test_a_worker_that_was_there_before_the_broker_ingests_once_it_comes_and_stops_when_told(
    tmp_path: Path,
) -> None:
    with KafkaCluster(tmp_path / "kafka") as kafka:
        settings = settings_for(kafka.bootstrap, tmp_path / "worker", roles="ingest")
        await ensure_topics(settings)
        kafka.stop()
        worker = Child(
            "worker", [sys.executable, "-m", "emis_streams", "worker"], tmp_path, env=environment_of(settings)
        )
        worker.start()
        try:
            await until(lambda: "brokers: waiting" in worker.log_path.read_text())
            with pytest.raises(AssertionError, match="not so"):
                await until(
                    lambda: not worker.running or is_ready(settings.host, settings.port),
                    timeout_seconds=_LONGER_THAN_THE_WATCHDOG_LOOKS_AWAY_SECONDS,
                )
            kafka.start()
            await until(lambda: is_ready(settings.host, settings.port), timeout_seconds=60)
            assert worker.stop(timeout_seconds=15), worker.log_tail()
            assert worker.returncode == 0
        finally:
            worker.kill()
