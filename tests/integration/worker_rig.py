"""Worker processes on a real broker and a real MariaDB, and producers and questions from outside."""

import asyncio
import json
import random
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle, takewhile
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from emis_streams import admin
from emis_streams.local import Child, KafkaCluster, MariaDb
from emis_streams.local.readiness import ask, is_ready
from emis_streams.settings import Settings
from tests.integration.independent import progress
from tests.services import environment_of, kafka_cluster, mariadb_server, settings_for, until

Event = dict[str, Any]


@dataclass
class Worker:
    """One process of `emis-streams worker`."""

    name: str
    settings: Settings
    command: Sequence[str] = ("-m", "emis_streams", "worker")
    """Of Python."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside the settings."""
    process: Child = field(init=False)

    def __post_init__(self) -> None:
        folder = Path(self.settings.data_dir).parent
        environment = {**environment_of(self.settings), **self.environment}
        self.process = Child(self.name, [sys.executable, *self.command], folder, env=environment)

    def start(self) -> None:
        """Unless it runs."""
        if not self.process.running:
            self.process.start()

    async def ready(self) -> None:
        def check() -> bool:
            assert self.process.running, f"{self.name} ended with {self.process.returncode}:\n{self.process.log_tail()}"
            return is_ready(self.settings.host, self.settings.port)

        try:
            await until(check, 60)
        except AssertionError as late:
            raise AssertionError(f"{self.name}: {late}\n{self.process.log_tail()}") from late

    @property
    def data_dir(self) -> Path:
        return Path(self.settings.data_dir)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON; (0, None) while nothing answers."""
        answer = ask(self.settings.host, self.settings.port, path)
        return (0, None) if answer is None else (answer.status, json.loads(answer.body))

    def peak_bytes(self) -> int:
        """The most memory that the process has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def log(self) -> str:
        return self.process.log_path.read_text(errors="replace") if self.process.log_path.exists() else ""


@dataclass
class Stack:
    """An ingesting and a serving worker, as `emis-streams up` starts them."""

    kafka: KafkaCluster
    mariadb: MariaDb
    ingesting: Worker
    serving: Worker

    @property
    def broker(self) -> str:
        return self.kafka.bootstrap

    @property
    def database_url(self) -> str:
        return self.ingesting.settings.database_url

    async def running(self) -> None:
        """Starts what a test before left stopped."""
        for worker in (self.ingesting, self.serving):
            worker.start()
        for worker in (self.ingesting, self.serving):
            await worker.ready()

    def has_ingested(self, n_records: int | None = None) -> bool:
        """Whether the ingesting group has committed so much; all that there is by default."""
        at = progress(self.broker)
        return at.committed >= (at.end if n_records is None else n_records)

    async def shows_class(self, class_id: str, name: str) -> None:
        """Waits until the serving worker answers with that name."""
        await until(lambda: (self.serving.get(f"/api/classes/{class_id}")[1] or {}).get("className") == name, 60)

    def events_counted(self) -> dict[str, int]:
        """What the ingesting worker has counted since it started: applied, superseded, refused."""
        settings = self.ingesting.settings
        answer = ask(settings.host, settings.port, "/metrics")
        assert answer is not None
        found = re.findall(r'^emis_events_total\{outcome="(\w+)"\} (\S+)$', answer.body, re.MULTILINE)
        return {outcome: int(float(n)) for outcome, n in found}

    def stop(self) -> None:
        for worker in (self.ingesting, self.serving):
            worker.process.stop()

    def send(self, events: Iterable[Event], per_second: float | None = None) -> None:
        """By librdkafka, placed as Java's producer does; returns when the brokers have all of it."""
        with producing(self.broker) as producer:
            begun = time.monotonic()
            for n, event in enumerate(events):
                producer.produce(event["eventType"], json.dumps(event).encode(), key_of(event).encode())
                producer.poll(0)
                if per_second and n % 100 == 0:
                    time.sleep(max(0.0, begun + n / per_second - time.monotonic()))


@contextmanager
def two_workers(
    folder: Path, ingesting_roles: str = "ingest,replicate", serving_roles: str = "serve", **common: Any
) -> Iterator[Stack]:
    """Two workers on a Kafka and a MariaDB of their own; `common` are settings of both.

    `Stack.running` starts them; they are stopped at the end.
    """
    with kafka_cluster() as kafka, mariadb_server() as mariadb:
        common = {"database_url": mariadb.create("emis"), **common}
        ingest = settings_for(kafka.bootstrap, folder / "ingesting", roles=ingesting_roles, **common)
        serve = settings_for(kafka.bootstrap, folder / "serving", roles=serving_roles, **common)
        asyncio.run(admin.ensure_topics(ingest))
        stack = Stack(kafka, mariadb, Worker("ingesting-worker", ingest), Worker("serving-worker", serve))
        try:
            yield stack
        finally:
            stack.stop()


@contextmanager
def producing(broker: str, options: Mapping[str, Any] | None = None) -> Iterator[Producer]:
    refused: list[Any] = []
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 5,
            "on_delivery": lambda error, _message: refused.append(error) if error else None,
            **(options or {}),
        }
    )
    yield producer
    assert producer.flush(30) == 0
    assert refused == []


def key_of(event: Event) -> str:
    return str(event["classId" if event["eventType"].startswith("emis.class.") else "teacherId"])


# -- events -------------------------------------------------------------------------------------


def new_id() -> str:
    return str(uuid.uuid4())


def event(topic: str, time: datetime | None = None, **fields: Any) -> Event:
    timestamp = (time or datetime.now(UTC)).isoformat(timespec="microseconds")
    return {"eventId": new_id(), "eventType": topic, "timestamp": timestamp, **fields}


def a_teacher(teacher_id: str, **changes: Any) -> Event:
    fields: Event = {"fullName": "Nguyễn Thị Ánh", "email": "anh@example.edu.vn", "schoolId": None}
    return event("emis.teacher.created", teacherId=teacher_id, **{**fields, **changes})


def a_class(class_id: str, name: str = "10A1", what: str = "created", **changes: Any) -> Event:
    fields: Event = {"grade": "10", "academicYear": "2026-2027", "totalStudents": 41, "homeroomTeacherId": None}
    return event(f"emis.class.{what}", classId=class_id, className=name, schoolId=None, **{**fields, **changes})


def an_assignment(teacher_id: str, class_id: str, assignment_id: str | None = None) -> Event:
    ids: Event = {"assignmentId": assignment_id or new_id(), "teacherId": teacher_id, "classId": class_id}
    return event("emis.assignment.created", **ids, role="subject-teacher", subject="Toán")


class Country:
    """Lives of classes, teachers and assignments: created, updated, deleted; late, twice, in any order."""

    def __init__(self, seed: int, n_classes: int) -> None:
        self._dice = random.Random(seed)
        self.teachers = [self._id() for _ in range(n_classes // 40)]
        self.classes = [self._id() for _ in range(n_classes)]
        self.events: list[Event] = []
        for n, class_id in enumerate(self.classes):
            self._live(f"{n}", "class", {"classId": class_id}, self._class_fields, n_updates=4)
        for n, teacher_id in enumerate(self.teachers):
            self._live(f"{n}", "teacher", {"teacherId": teacher_id}, self._teacher_fields, n_updates=2)
        for n in range(n_classes // 2):
            ids = {"teacherId": self._dice.choice(self.teachers), "assignmentId": self._id()}
            self._live(f"{n}", "assignment", ids, self._assignment_fields, n_updates=0)
        self.events += self._dice.choices(self.events, k=len(self.events) // 30)
        self._dice.shuffle(self.events)

    def events_at_least_until(self, enough: threading.Event) -> Iterator[Event]:
        """All of them once; then on from the beginning until it is enough: a second time changes nothing."""
        yield from self.events
        yield from takewhile(lambda _: not enough.is_set(), cycle(self.events))

    def _id(self) -> str:
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))

    def _live(self, name: str, kind: str, ids: dict[str, str], fields: Any, n_updates: int) -> None:
        born = datetime.now(UTC) - timedelta(hours=1)
        whats = ["created", *["updated"] * self._dice.randint(0, n_updates)]
        whats += ["deleted"] * (self._dice.random() < 0.1)
        for step, what in enumerate(whats):
            time = born + timedelta(seconds=60 * step, microseconds=self._dice.randrange(60_000_000))
            self.events.append({**event(f"emis.{kind}.{what}", time, **ids, **fields(f"{name}.{step}"))})

    def _class_fields(self, name: str) -> Event:
        homeroom = self._dice.choice([None, *self.teachers])
        fields = {"grade": "Khối 10", "academicYear": "2026-2027", "totalStudents": self._dice.randint(20, 45)}
        return {"className": f"Lớp {name}", "schoolId": None, "homeroomTeacherId": homeroom, **fields}

    def _teacher_fields(self, name: str) -> Event:
        return {"fullName": f"Nguyễn Văn {name}", "email": None, "schoolId": None}

    def _assignment_fields(self, _name: str) -> Event:
        return {"classId": self._dice.choice(self.classes), "role": "subject-teacher", "subject": "Ngữ văn"}
