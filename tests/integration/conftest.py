"""Fixtures of tests that need topics with their real names to themselves."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from emis_streams import admin
from emis_streams.settings import Settings
from tests.services import kafka_cluster, settings_for


@pytest.fixture(scope="module")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings for a broker that only this module uses, with all topics made."""
    with kafka_cluster() as cluster:
        settings = settings_for(cluster.bootstrap, Path(tmp_path_factory.mktemp("own")))
        asyncio.run(admin.ensure_topics(settings))
        yield settings
