"""The stage for pipeline and pages: a broker and a MariaDB of their own, with class events and teachers."""

import json
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import preload
from benchmarks.data import PARTITIONS, Load, class_events, teacher_events
from benchmarks.offsets import Brokers
from benchmarks.results import Results
from benchmarks.watching import wait_until
from emis_streams import topics
from emis_streams.local.kafka import KafkaCluster
from emis_streams.local.mariadb import MariaDb
from emis_streams.local.plan import INGEST_NICENESS
from emis_streams.local.ports import HOST, free_port, is_answering
from emis_streams.local.process import Child

_READY_SECONDS = 120.0
_LOCAL_SECONDS = 10.0
_EMIS_STREAMS = str(Path(sys.executable).with_name("emis-streams"))

Say = Callable[[str], None]


@dataclass
class Stage:
    """What the phases work with."""

    folder: Path
    brokers: Brokers
    database: MariaDb
    database_url: str
    load: Load
    n_teachers: int
    results: Results
    say: Say

    @contextmanager
    def worker(self, name: str, roles: str) -> Iterator[tuple[Child, str]]:
        """One worker with these roles, and where its pages are; it is stopped at the end."""
        port = free_port()
        environment = {
            "KAFKA_BROKERS": self.brokers.bootstrap,
            "DATABASE_URL": self.database_url,
            "DATA_DIR": str(self.folder / "state" / name),
            "ROLES": roles,
            "PORT": str(port),
            "REPLICATION_FACTOR": "1",
            "MIN_INSYNC_REPLICAS": "1",
            "NICENESS": str(0 if "serve" in roles else INGEST_NICENESS),
            "LOG_LEVEL": "warning",
        }
        with self._process(name, [_EMIS_STREAMS, "worker"], environment) as child:
            yield child, f"http://{HOST}:{port}"

    @contextmanager
    def service(self, module: str, *arguments: str) -> Iterator[str]:
        """One of the small services to compare with; its first argument is its port."""
        port = free_port()
        command = [sys.executable, "-m", f"benchmarks.{module}", str(port), *arguments]
        with self._process(module, command, {}) as child:
            wait_until(child, lambda: is_answering(port), _READY_SECONDS, "answering")
            yield f"http://{HOST}:{port}"

    @contextmanager
    def events_arriving(self, per_second: float, seconds: float) -> Iterator[Child]:
        """Class events at this rate, from a process of its own, until the end of the block."""
        arguments = [self.brokers.bootstrap, str(per_second), str(seconds), str(self.load.classes)]
        with self._process("send", [sys.executable, "-m", "benchmarks.send", *arguments], {}) as child:
            yield child

    @contextmanager
    def _process(self, name: str, command: list[str], environment: Mapping[str, str]) -> Iterator[Child]:
        child = Child(name, command, self.folder / "logs", env=environment)
        child.start()
        try:
            yield child
        finally:
            child.stop(timeout_seconds=30)


@contextmanager
def prepared(
    folder: Path, load: Load, n_teachers: int, results: Results, say: Callable[[str], None]
) -> Iterator[Stage]:
    """Broker and database are started in an empty folder, events are on the topics."""
    shutil.rmtree(folder, ignore_errors=True)
    with ExitStack() as stack:
        kafka = stack.enter_context(KafkaCluster(folder / "kafka", heap_mb=1024))
        database = stack.enter_context(MariaDb(folder / "mariadb"))
        brokers = Brokers(kafka.bootstrap)
        brokers.create({t.name: t.config for t in topics.all_topics()}, PARTITIONS)
        preload.send_all(kafka.bootstrap, teacher_events(n_teachers), say)
        preload.send_all(kafka.bootstrap, class_events(load), say)
        yield Stage(folder, brokers, database, database.create("emis"), load, n_teachers, results, say)


def wait_until_ready(child: Child, base_url: str, path: str) -> None:
    """Until /readyz says 200 and the page is answered from the worker's own copy; raises ContenderFailed."""
    wait_until(child, lambda: _answer(f"{base_url}/readyz") is not None, _READY_SECONDS, "ready")
    wait_until(child, lambda: _is_local(_answer(base_url + path)), _LOCAL_SECONDS, "answering from its own copy")


def _is_local(body: bytes | None) -> bool:
    return body is not None and json.loads(body)["source"] == "local"


def _answer(url: str) -> bytes | None:
    """The body of an answer with 200; None for all others: whoever waits tries again."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read()) if answer.status == 200 else None
    except OSError:
        return None
