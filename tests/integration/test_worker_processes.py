"""`emis-streams worker --processes 2`: two workers on one machine, started and stopped as one."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emis_streams import admin
from emis_streams.local import Child
from emis_streams.local.readiness import is_ready
from emis_streams.settings import Settings
from tests.services import environment_of, free_port, kafka_cluster, settings_for, until


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with kafka_cluster() as cluster:
        folder = Path(tmp_path_factory.mktemp("processes"))
        settings = settings_for(cluster.bootstrap, folder, roles="ingest", port=free_port(2))
        asyncio.run(admin.ensure_topics(settings))
        yield settings


@pytest.fixture
async def two(settings: Settings, tmp_path: Path) -> Child:
    command = [sys.executable, "-m", "emis_streams", "worker", "--processes", "2"]
    child = Child("two", command, tmp_path, env=environment_of(settings))
    child.start()
    for number in range(2):
        await until(lambda n=number: is_ready(settings.host, settings.port + n), 60)
    return child


async def test_each_has_a_folder_and_a_port_and_they_stop_together(two: Child, settings: Settings) -> None:
    assert {path.name for path in settings.data_path.iterdir()} >= {"0", "1"}
    two.stop()
    assert two.returncode == 0, two.log_tail()
    assert not any(is_ready(settings.host, settings.port + number) for number in range(2))


async def test_when_one_ends_the_other_is_stopped_and_its_exit_code_is_told(two: Child, settings: Settings) -> None:
    import psutil

    one = psutil.Process(two.pid).children()[0]
    one.send_signal(signal.SIGKILL)
    await until(lambda: not two.running, 60)
    assert two.returncode != 0
    assert not any(is_ready(settings.host, settings.port + number) for number in range(2))
