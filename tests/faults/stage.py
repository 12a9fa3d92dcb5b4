"""What the faults are done to: three brokers, three workers, a MariaDB, and proxies before them, all real processes.

Worker 3 reaches the brokers through proxies (a listener of its own is advertised at their ports), and
all workers reach MariaDB through one. A worker that ends by itself is started again, as an orchestrator would.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from emis_streams import admin
from emis_streams.local import Child, KafkaCluster, MariaDb, free_port
from emis_streams.local.kafka import QUICK_TO_START, KafkaNode
from emis_streams.local.kafka_config import Listener
from emis_streams.local.ports import is_answering
from emis_streams.local.readiness import ask, is_ready
from emis_streams.replica.migrate import upgrade
from emis_streams.settings import Settings
from tests.faults.checker.verdict import Outage
from tests.faults.proxy import Proxies, Proxy
from tests.services import environment_of

ROOT = Path(__file__).parents[2]
SESSION_TIMEOUT_SECONDS = 10.0
STALE_AFTER_SECONDS = 5.0
N_WORKERS = 3
_READY_SECONDS = 60.0
_RESTART_SECONDS = 1.0
_LEAVE_SECONDS = 12.0
_POLL_SECONDS = 0.1

_BROKERS = {
    # How often they look at what to delete and to compact: rows that make logs old do not wait for minutes.
    "log.retention.check.interval.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    # Workers that start together share partitions out once, as with the brokers' default of 3 s.
    "group.initial.rebalance.delay.ms": "300",
}

_TRIGGER = """
CREATE DATABASE IF NOT EXISTS checks;
CREATE TABLE IF NOT EXISTS checks.Decreases (ClassId CHAR(36), OldVersion CHAR(58), NewVersion CHAR(58));
USE emis;
DELIMITER //
CREATE TRIGGER IF NOT EXISTS versions_never_decrease BEFORE UPDATE ON ClassInfos FOR EACH ROW
IF NEW.Version < OLD.Version THEN
  INSERT INTO checks.Decreases VALUES (OLD.ClassId, OLD.Version, NEW.Version);
END IF//
"""

Command = Sequence[str]
WORKER: Command = (sys.executable, "-P", "-m", "emis_streams", "worker")


@dataclass
class FaultWorker:
    """A worker process that can be killed, frozen, and started with other commands or code."""

    name: str
    settings: Settings
    folder: Path
    code: Path = ROOT
    """Where the application is imported from."""
    wanted: bool = False
    """Whether it should run: what ends then is started again."""
    outages: list[Outage] = field(default_factory=list)
    process: Child = field(init=False)

    def __post_init__(self) -> None:
        self.process = self._child(WORKER, {})

    def _child(self, command: Command, environment: Mapping[str, str]) -> Child:
        env = {**environment_of(self.settings), "PYTHONPATH": str(self.code), **environment}
        # `emis-streams run` imports from where it is started, too.
        return Child(self.name, command, self.folder, env=env, cwd=self.code, death_signal=signal.SIGKILL)

    @property
    def port(self) -> int:
        return self.settings.port

    @property
    def data_dir(self) -> Path:
        return Path(self.settings.data_dir)

    @property
    def can_serve(self) -> bool:
        return not self.outages or self.outages[-1].until is not None

    def start(self, command: Command = WORKER, environment: Mapping[str, str] | None = None) -> None:
        """Only from the main thread (see emis_streams.local)."""
        self.wanted = True
        if self.process.running:
            return
        self.begin_outage()
        self.process = self._child(command, environment or {})
        self.process.start()

    def begin_outage(self, *, planned: bool = True, since: float | None = None) -> None:
        """`since`: monotonic, if it was earlier than now."""
        if self.can_serve:
            self.outages.append(Outage(self.name, since or time.monotonic(), planned=planned))

    def end_outage(self) -> None:
        if not self.can_serve:
            self.outages[-1].until = time.monotonic()

    def kill(self) -> None:
        self.wanted = False
        self.begin_outage()
        self.process.kill()

    def freeze(self) -> None:
        self.begin_outage()
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def stop(self, timeout_seconds: float = 40.0) -> bool:
        """SIGTERM; whether that was enough."""
        self.wanted = False
        self.begin_outage()
        self.process.send_signal(signal.SIGTERM)
        in_time = await asyncio.to_thread(self.process.wait, timeout_seconds)
        self.process.kill()
        return in_time

    async def ready(self, timeout_seconds: float = _READY_SECONDS) -> None:
        """Until it says so; then it can be asked again."""
        await until(lambda: self._is_ready(), timeout_seconds, f"{self.name} is ready")
        self.end_outage()

    async def _is_ready(self) -> bool:
        return self.process.running and await asyncio.to_thread(is_ready, self.settings.host, self.port)

    def get(self, path: str) -> tuple[int, Any]:
        answer = ask(self.settings.host, self.port, path)
        return (0, None) if answer is None else (answer.status, json.loads(answer.body))

    def log(self) -> str:
        return self.process.log_path.read_text(errors="replace") if self.process.log_path.exists() else ""


async def until(
    condition: Callable[[], bool | Awaitable[bool]], timeout_seconds: float, what: str, poll_seconds: float = 0.1
) -> None:
    """Raises NotInTime."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = condition()
        if not isinstance(found, bool):
            found = await found
        if found:
            return
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {timeout_seconds:g} s: {what}")
        await asyncio.sleep(poll_seconds)


class NotInTime(Exception):
    """Something that has to happen did not."""


class Stage:
    """Use as an async context manager, in the main thread."""

    def __init__(self, folder: Path, code: Path = ROOT, n_workers: int = N_WORKERS) -> None:
        self.folder = folder
        self.proxies = Proxies()
        inner = [free_port() for _ in range(3)]
        self.broker_proxies = [self.proxies.add(free_port(), port) for port in inner]
        listeners = [
            [Listener("PROXIED", port, advertised_port=p.port)]
            for port, p in zip(inner, self.broker_proxies, strict=True)
        ]
        self.kafka = KafkaCluster(
            folder / "kafka",
            n_nodes=3,
            heap_mb=384,
            listeners=listeners,
            changes=_BROKERS,
            jvm_options=QUICK_TO_START,
        )
        self.mariadb = MariaDb(folder / "mariadb")
        self.db_proxy = self.proxies.add(free_port(), self.mariadb.port)
        self.database_url = ""
        self.is_usable = True
        """False: a row has left it in a state that nothing heals."""
        self.workers: list[FaultWorker] = []
        self._code = code
        self._n_workers = n_workers
        self._n_courses = 0
        self._keeping: asyncio.Task[None] | None = None

    def next_number(self) -> int:
        """Of courses: the same row, run again, has another district."""
        self._n_courses += 1
        return self._n_courses

    # -- parts --------------------------------------------------------------------------------

    @property
    def brokers(self) -> str:
        return self.kafka.bootstrap

    @property
    def proxied_brokers(self) -> str:
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.broker_proxies)

    def worker_settings(self, name: str, brokers: str, **changes: Any) -> Settings:
        base = Settings(
            kafka_brokers=brokers,
            database_url=self.database_url.replace(f":{self.mariadb.port}/", f":{self.db_proxy.port}/"),
            data_dir=str(self.folder / name / "data"),
            port=free_port(),
            session_timeout_seconds=SESSION_TIMEOUT_SECONDS,
            stale_after_seconds=STALE_AFTER_SECONDS,
            drain_timeout_seconds=8.0,
            watchdog_timeout_seconds=30.0,
            log_level="info",
        )
        return msgspec.structs.replace(base, **changes)

    def add_worker(self, name: str, *, proxied: bool = False, **changes: Any) -> FaultWorker:
        settings = self.worker_settings(name, self.proxied_brokers if proxied else self.brokers, **changes)
        worker = FaultWorker(name, settings, self.folder / name, self._code)
        self.workers.append(worker)
        return worker

    async def __aenter__(self) -> "Stage":
        try:
            self.kafka.spawn()
            self.mariadb.start()
            self.database_url = self.mariadb.create("emis")
            self.kafka.wait_until_ready()
            for number in range(1, self._n_workers + 1):
                self.add_worker(f"worker-{number}", proxied=number == 3)
            await admin.ensure_topics(self.worker_settings("admin", self.brokers))
            await asyncio.to_thread(upgrade, self.database_url)
            self.watch_versions()
            self._keeping = asyncio.create_task(self._keep_running())
            for worker in self.workers:
                worker.start()
            await self.all_ready()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        for worker in self.workers:
            worker.kill()
        self.kafka.stop()
        self.mariadb.stop()
        self.proxies.close()

    async def _keep_running(self) -> None:
        seen_running = dict.fromkeys((worker.name for worker in self.workers), time.monotonic())
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            for worker in self.workers:
                if worker.process.running:
                    seen_running[worker.name] = time.monotonic()
                elif worker.wanted:
                    worker.begin_outage(planned=False, since=seen_running[worker.name])
                    await asyncio.sleep(_RESTART_SECONDS)
                    if worker.wanted:
                        worker.start()
                if worker.process.running and not worker.can_serve and await worker._is_ready() and worker.wanted:
                    worker.end_outage()  # Not of one that was told to stop meanwhile.

    async def all_ready(self) -> None:
        for worker in self.workers:
            if worker.wanted:
                await worker.ready()

    async def use_code(self, code: Path) -> None:
        """All workers end, and start again from another copy of the application."""
        await asyncio.gather(*(worker.stop(_LEAVE_SECONDS) for worker in self.workers))
        for worker in self.workers:
            worker.code = code
            worker.start()
        await self.all_ready()

    async def heal(self) -> None:
        """Everything that a row may have left broken goes again."""
        for proxy in (*self.broker_proxies, self.db_proxy):
            self.proxies.do(proxy.heal)
        for node in self.kafka.nodes:
            node.process.send_signal(signal.SIGCONT)
            await self.start_broker(node)
        if not self.mariadb.process.running:
            self.mariadb.start()
        self.mariadb.process.send_signal(signal.SIGCONT)
        for worker in self.workers:
            worker.thaw()
            worker.start()
        try:
            await self.all_ready()
        except NotInTime:  # A row that failed may have started one in a way that it never is.
            for worker in self.workers:
                worker.kill()
                worker.start()
            await self.all_ready()

    async def start_broker(self, node: KafkaNode) -> None:
        """Unless it runs; without blocking the loop, as the readers' clock goes on elsewhere."""
        if node.process.running and is_answering(node.endpoint.broker_port):
            return
        if not node.process.running:
            node.process.start()
        await until(lambda: is_answering(node.endpoint.broker_port), 150, f"broker {node.endpoint.node_id} answers")

    def set_knobs(self, proxies: Sequence[Proxy], **knobs: Any) -> None:
        """Changes the knobs of these proxies, at once."""

        def act() -> None:
            for proxy in proxies:
                for name, value in knobs.items():
                    setattr(proxy.knobs, name, value)

        self.proxies.do(act)

    def watch_versions(self) -> None:
        """By a trigger of ClassInfos, as long as that table is not dropped."""
        self.mariadb.execute(_TRIGGER)

    def version_decreases(self) -> list[list[str]]:
        """ClassId, old and new version of each row of MariaDB that went back."""
        said = self.mariadb.execute("SELECT ClassId, OldVersion, NewVersion FROM checks.Decreases;")
        return [line.split("\t") for line in said.splitlines()[1:]]

    def environment(self) -> dict[str, str]:
        """Of tools that are run beside the workers (`emis-streams …`)."""
        return {**os.environ, **environment_of(self.worker_settings("tool", self.brokers))}
