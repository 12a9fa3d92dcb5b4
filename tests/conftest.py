"""Shared fixtures. Services are real, started once per run at first use, on free ports."""

import logging
import os
from collections import Counter
from collections.abc import Generator, Iterator

import hypothesis
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from emis_streams import tracing
from emis_streams.local import KafkaCluster, MariaDb, ports
from tests.services import kafka_cluster, mariadb_server, unique

IN_CI = os.environ.get("CI") == "true"

hypothesis.settings.register_profile("no-deadline", deadline=None)  # How long an example takes says how busy CI is.
hypothesis.settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaCluster]:
    """One node. Shared by all tests: use topics and groups of your own (`unique`), never stop it."""
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def broker(kafka: KafkaCluster) -> str:
    """Bootstrap address of the shared node."""
    return kafka.bootstrap


@pytest.fixture(scope="session")
def three_brokers() -> Iterator[KafkaCluster]:
    """Three nodes, for what needs replication 3. Shared as well."""
    with kafka_cluster(n_nodes=3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """A MariaDB server. Shared by all tests: use databases of your own, never stop it."""
    with mariadb_server() as server:
        yield server


@pytest.fixture
def mariadb_url(mariadb: MariaDb) -> Iterator[str]:
    """URL of an empty database of this test's own, gone afterwards."""
    name = unique("emis").replace("-", "_")
    yield mariadb.create(name)
    mariadb.drop(name)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What is traced while the test runs; nothing is afterwards."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)


@pytest.fixture(autouse=True)
def _kept_log_levels() -> Iterator[None]:
    """Commands set these for their whole process, and all tests of a process share it."""
    loggers = [logging.getLogger(name) for name in ("aiokafka", "emis_streams")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def pytest_configure() -> None:
    """Each of pytest-xdist's processes takes its ports from a part of its own: theirs may not listen yet."""
    n = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = len(ports.CANDIDATES) // n
    ports.CANDIDATES = ports.CANDIDATES[number * size : (number + 1) * size]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of tests that share an id pytest-xdist would run one only, and say nothing."""
    shared = [nodeid for nodeid, n in Counter(item.nodeid for item in items).items() if n > 1]
    if shared:
        raise pytest.UsageError(f"several tests have one id: {', '.join(shared)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: everything needed is installed there."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for modules that skip themselves."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
