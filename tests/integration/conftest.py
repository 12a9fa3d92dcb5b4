"""Fixtures of tests of producers and tools, which need the topics with their real names."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from emis_streams import admin
from emis_streams.settings import Settings
from tests.services import kafka_cluster, settings_for


@pytest.fixture(scope="session")
def no_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings for a broker with all topics, from which no worker ever consumes: what was sent just lies there."""
    with kafka_cluster() as cluster:
        settings = settings_for(cluster.bootstrap, Path(tmp_path_factory.mktemp("no-worker")))
        asyncio.run(admin.ensure_topics(settings))
        yield settings
