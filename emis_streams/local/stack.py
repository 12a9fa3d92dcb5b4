"""`emis-streams up`: brokers, database, topics, sample data and workers, in order, kept running."""

import asyncio
import importlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka import TopicPartition

from emis_streams import topics
from emis_streams.local import kafka_jars, readiness
from emis_streams.local.data_folder import DataFolder
from emis_streams.local.errors import LocalStackError
from emis_streams.local.kafka import KafkaCluster
from emis_streams.local.plan import Plan, Worker
from emis_streams.local.ports import is_free, reserve
from emis_streams.local.process import Child
from emis_streams.local.progress import Progress
from emis_streams.local.supervisor import Supervisor
from emis_streams.quantities import counted
from emis_streams.read_topic import reader
from emis_streams.settings import Settings

_READY_TIMEOUT_SECONDS = 300.0
_NOTHING_TO_SHOW_SECONDS = 20.0
_LEVEL_TIMEOUT_SECONDS = 120.0
"""Whoever has a large backlog may look at pages meanwhile."""
_WORKER_STOP_EXTRA_SECONDS = 10.0
"""On top of DRAIN_TIMEOUT_SECONDS, which a worker takes at most to finish what it began."""
_POLL_SECONDS = 0.2
_SAMPLE_BEGUN = "sample-data-begun"
_WORKER, _SERVICE = "worker-", "service-"
"""How the names of their processes begin."""


class Stack:
    """All of it. Use in the main thread; the data folder must be held. `check` comes before `running`."""

    def __init__(self, plan: Plan, folder: DataFolder, progress: Progress) -> None:
        self._plan = plan
        self._folder = folder
        self._progress = progress
        self._supervisor = Supervisor(progress.say)
        self._kafka: KafkaCluster | None = None

    @contextmanager
    def running(self, n_classes: int) -> Iterator[str | None]:
        """Started, until the block ends, then stopped, workers first.

        Yields the id of a teacher whose page shows classes (None: there is nothing to show).
        Raises LocalStackError, InvalidSetting, Unavailable.
        """
        try:
            self._start_kafka()
            self._prepare()
            self._fill(n_classes)
            self._start_workers()
            teacher_id = self._wait_until_shown()
            self._wait_until_level()
            yield teacher_id
        finally:
            self._stop()

    def keep_running(self) -> None:
        """Start again what ends, until a signal's exception."""
        self._supervisor.run()

    def check(self) -> None:
        """Whether all of it can be started; deletes and starts nothing. Raises LocalStackError."""
        for process in self._plan.processes:
            _check_port(process)
        for port in self._plan.kafka_ports:
            if not is_free(port):
                raise LocalStackError(f"port {port} is in use by another program: set KAFKA_BROKERS to a free one")
        if not kafka_jars.cache_folder().is_dir():
            with self._progress.step(f"Kafka {kafka_jars.version()}: jars by Maven, once"):
                kafka_jars.classpath()

    def _start_kafka(self) -> None:
        ports = self._plan.kafka_ports
        self._kafka = KafkaCluster(self._folder.path / "kafka", n_nodes=len(ports), ports=ports)
        with self._progress.step(f"Kafka {kafka_jars.version()} on {self._kafka.bootstrap}"):
            self._kafka.spawn()
            _import_the_rest()  # takes a second or two, and so does Kafka
            self._kafka.wait_until_ready()
        for node in self._kafka.nodes:
            self._supervisor.keep(node.process)

    def _prepare(self) -> None:
        from emis_streams.admin import ensure_topics, wait_until_each_broker_knows
        from emis_streams.replica.migrate import upgrade

        with self._progress.step("Topics and database"):
            asyncio.run(ensure_topics(self._plan.settings))
            asyncio.run(wait_until_each_broker_knows(self._plan.settings))
            upgrade(self._plan.settings.database_url)

    def _start_workers(self) -> None:
        for worker in self._plan.processes:
            folder = Path(worker.settings.data_dir)
            command = [sys.executable, "-m", "emis_streams", *worker.command]
            # A worker may be killed at any time without loss; a broker is better asked to end.
            self._supervisor.keep(
                Child(
                    f"{_SERVICE if worker in self._plan.services else _WORKER}{worker.name}",
                    command,
                    folder,
                    env=worker.environment(),
                    death_signal=signal.SIGKILL,
                )
            )

    def _fill(self, n_classes: int) -> None:
        """Sample data, if there is none; again from the start if the last attempt was cut short.

        Before the workers start: to them it is what was there before, and not a flood of new events that come late.
        """
        begun = self._folder.path / _SAMPLE_BEGUN
        if n_classes == 0 or not (begun.exists() or asyncio.run(_all_empty(self._plan.settings))):
            return
        begun.touch()
        command = [sys.executable, "-m", "emis_streams", "generate", "--classes", str(n_classes)]
        environment = Worker("generate", self._plan.settings).environment()
        generate = Child("generate", command, self._folder.path / "workers" / "generate", env=environment)
        with self._progress.step(f"Sample data: {counted(n_classes, 'class', 'classes')}"):
            generate.start()
            while generate.running:
                self._supervisor.check()
                time.sleep(_POLL_SECONDS)
        if generate.returncode != 0:
            raise LocalStackError(f"sample data could not be made:\n{generate.log_tail()}")
        begun.unlink()

    def _all_ready(self) -> bool:
        if not self._supervisor.all_run():  # Else it might be another program that answers.
            return False
        return all(readiness.is_ready(self._plan.web_host, w.settings.port) for w in self._plan.processes)

    def _check_time(self, began: float, what: str) -> None:
        waited_seconds = time.monotonic() - began
        if waited_seconds > _READY_TIMEOUT_SECONDS:
            raise LocalStackError(f"{what} after {waited_seconds:.0f} s; {self._logs()}")

    def _wait_until_shown(self) -> str | None:
        host, port = self._plan.web_host, self._plan.serving.settings.port
        began = time.monotonic()
        ready_since: float | None = None
        with self._progress.step("Until a teacher's page shows its classes"):
            while True:
                self._supervisor.check()
                if self._supervisor.all_run() and (teacher_id := readiness.teacher_to_show(host, port)) is not None:
                    return teacher_id
                now = time.monotonic()
                ready_since = (ready_since or now) if self._all_ready() else None
                if ready_since is not None and now - ready_since > _NOTHING_TO_SHOW_SECONDS:
                    return None
                self._check_time(began, "no page shows anything")
                time.sleep(_POLL_SECONDS)

    def _wait_until_level(self) -> None:
        """Until nothing of what was there before is on its way: it would slow down the first look at a page."""
        host, port = self._plan.web_host, self._plan.serving.settings.port
        began = time.monotonic()
        with self._progress.step("Until local copy and database have all of it"):
            while not readiness.is_level(host, port):
                self._supervisor.check()
                if time.monotonic() - began > _LEVEL_TIMEOUT_SECONDS:
                    break
                time.sleep(_POLL_SECONDS)
        if not readiness.is_level(host, port):
            self._progress.say(f"Not yet after {_LEVEL_TIMEOUT_SECONDS:.0f} s: http://{host}:{port}/health says why.")

    def _stop(self) -> None:
        timeout_seconds = self._plan.settings.drain_timeout_seconds + _WORKER_STOP_EXTRA_SECONDS
        workers = [child for child in self._supervisor.children if child.name.startswith((_WORKER, _SERVICE))]
        if any(worker.running for worker in workers):
            with self._progress.step("Stopping workers"):
                killed = _stop_together(workers, timeout_seconds)
            for worker in killed:
                self._progress.say(
                    f"{worker.name} did not end within {timeout_seconds:.0f} s and was killed; log: {worker.log_path}"
                )
        if self._kafka is not None:
            with self._progress.step("Stopping Kafka"):
                self._kafka.stop()

    def _logs(self) -> str:
        return "logs: " + ", ".join(str(child.log_path) for child in self._supervisor.children)


def _import_the_rest() -> None:
    importlib.import_module("emis_streams.admin")
    importlib.import_module("emis_streams.replica.migrate")


def _check_port(worker: Worker) -> None:
    settings = worker.settings
    if not is_free(settings.port, settings.host):
        is_next = "serve" not in settings.roles_enabled()
        what = "PORT (one less: the ingesting worker has the next)" if is_next else worker.port_setting
        raise LocalStackError(f"port {settings.port} is in use by another program: set {what} to a free one")
    reserve(settings.port)


def _stop_together(children: list[Child], timeout_seconds: float) -> list[Child]:
    """Returns those that did not end in time and were killed."""
    for child in children:
        if child.running:
            child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout_seconds
    late = [child for child in children if not child.wait(max(0.0, deadline - time.monotonic()))]
    for child in children:
        child.kill()
    return late


async def _all_empty(settings: Settings) -> bool:
    """Whether no topic of the teacher service ever had a record (retention may have emptied the sources since)."""
    own = [*topics.source_topics(), *topics.changelog_topics()]
    partitions = [TopicPartition(t.name, p) for t in own for p in range(topics.PARTITIONS)]
    async with reader(settings) as consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
    return not any(ends.values())
