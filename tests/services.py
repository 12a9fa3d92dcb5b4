"""Real services for tests: a Kafka broker, a MariaDB server, worker processes, settings that point to them."""

import asyncio
import inspect
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from emis_streams.local import KafkaCluster, MariaDb, free_port
from emis_streams.local.kafka import QUICK_TO_START
from emis_streams.settings import Settings

__all__ = [
    "environment_of",
    "free_port",
    "kafka_cluster",
    "mariadb_server",
    "settings_for",
    "unique",
    "until",
]

SESSION_TIMEOUT_SECONDS = 10.0
"""A worker that dies without leaving keeps its partitions until then: Kafka's 45 s would make tests slow."""


@contextmanager
def kafka_cluster(n_nodes: int = 1) -> Iterator[KafkaCluster]:
    """A cluster on free ports with empty storage, gone afterwards."""
    with (
        TemporaryDirectory(prefix="emis-kafka-") as folder,
        KafkaCluster(Path(folder), n_nodes=n_nodes, jvm_options=QUICK_TO_START) as cluster,
    ):
        yield cluster


@contextmanager
def mariadb_server() -> Iterator[MariaDb]:
    """A server on a free port without databases, gone afterwards."""
    with TemporaryDirectory(prefix="emis-mariadb-") as folder, MariaDb(Path(folder)) as server:
        yield server


def settings_for(bootstrap: str, data_dir: Path, **changes: Any) -> Settings:
    """Settings of a worker on a one-node cluster, on a free port, with its data in the folder."""
    base = Settings(
        kafka_brokers=bootstrap,
        data_dir=str(data_dir),
        database_url=f"sqlite:///{data_dir / 'replica.db'}",
        port=free_port(),
        replication_factor=1,
        min_insync_replicas=1,
        session_timeout_seconds=SESSION_TIMEOUT_SECONDS,
    )
    return msgspec.structs.replace(base, **changes)


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment that a process with these settings is started with."""
    return {name.upper(): str(value) for name, value in msgspec.structs.asdict(settings).items()}


def unique(prefix: str) -> str:
    """A name that no other test has (topics, databases, groups); letters, digits and dashes."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


async def until(
    condition: Callable[[], Any | Awaitable[Any]], timeout_seconds: float = 30.0, poll_seconds: float = 0.05
) -> Any:
    """Wait until the condition (sync or async) gives something true, and return that; AssertionError otherwise."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {timeout_seconds} s, last seen: {found!r}")
        await asyncio.sleep(poll_seconds)
