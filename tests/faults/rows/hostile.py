"""Hostile records on every topic, while workers, gateway and services go on with honest load and honest calls."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
from confluent_kafka import ConsumerGroupTopicPartitions, Message, Producer
from confluent_kafka.admin import AdminClient

from emis_streams.topics import REGISTRY
from tests.faults.checker import stores
from tests.faults.checker.truth import Place
from tests.faults.course import Course, Evidence, Row
from tests.faults.hostile_records import (
    REPLIES,
    SERVICE_CHANGELOGS,
    TEACHER_CHANGELOGS,
    Hostile,
    Outcome,
    of_every_topic,
)
from tests.faults.lesson_load import LessonLoad
from tests.faults.rows.told import metric_of
from tests.faults.sends import a_producer
from tests.faults.service_stage import FaultService, service_stage, start_all
from tests.faults.stage import FaultWorker, NotInTime, until
from tests.faults.user_pages import UserPages
from tests.services import environment_of

_FLUSH_SECONDS = 30.0
_ACCOUNTED_SECONDS = 60.0
_COMMAND_SECONDS = 60.0
_ADMIN_SECONDS = 20.0
_ALL_LETTERS = 1_000_000
_BY_KEY = -1
_N_USERS = 4
_LESSONS_AFTERWARDS = 40
_INVALID = "emis_changelog_invalid_records_total"
_COPY = 'reader="read-model"'


@dataclass
class Reader:
    """A process that reads these topics, leaves out what it cannot use, and counts it by this metric."""

    process: FaultWorker
    metric: str
    topics: Collection[str]
    label: str = ""
    wanted: int = 0
    before: int = field(init=False)

    def __post_init__(self) -> None:
        self.before = self._metric()

    def _metric(self) -> int:
        return metric_of(self.process, self.metric, self.label)

    @property
    def n_counted(self) -> int:
        return self._metric() - self.before

    def __str__(self) -> str:
        return f"{self.process.name} counts {self.n_counted} of {self.wanted} records by {self.metric}"


async def hostile(course: Course) -> Evidence:
    async with service_stage(course) as stage:
        names = ("lessons", "progress", "users", "gateway")
        services = [stage.add(name) for name in names]
        gateway = services[-1]
        await start_all(services[:-1])
        gateway.start()
        load = LessonLoad(gateway.port, n_users=_N_USERS)
        pages = UserPages(gateway.port, load.accepted)
        await until(lambda: _lists_lessons(gateway), 60, "the gateway answers")
        await until(lambda: _shows_users(gateway), 60, "the gateway passes on to users and progress")
        broken: list[str] = []
        places: list[tuple[Hostile, Place]] = []
        with suppress(TimeoutError):  # Of a service that has ended: told below.
            async with load.running(), pages.asked():
                await until(lambda: len(load.accepted) >= _N_USERS, 60, "lessons are accepted")
                await course.control()
                places, broken = await _spoil(course, services)
                n_before = len(load.accepted)
                with suppress(NotInTime):
                    await until(lambda: len(load.accepted) >= n_before + _LESSONS_AFTERWARDS, 30, "calls are answered")
                with suppress(NotInTime):
                    await until(lambda: not pages.missing(), 30, "pages show what was accepted")
                broken += [f"not shown: {page}" for page in pages.missing()]
        return _evidence(course, services, load, pages, places, broken)


async def _spoil(course: Course, services: list[FaultService]) -> tuple[list[tuple[Hostile, Place]], list[str]]:
    """Sends the records; where the brokers have them, and for which of them there is no outcome."""
    readers = await asyncio.to_thread(lambda: list(_readers(course.workers, services)))
    places = await asyncio.to_thread(_send, a_producer(course.stage.brokers), list(of_every_topic()))
    n_of = Counter(record.topic for record, _ in places if record.outcome is Outcome.COUNTED)
    for reader in readers:
        reader.wanted = sum(n_of[topic] for topic in reader.topics)
    broken = await _uncounted(readers)
    letters = [place for record, place in places if record.outcome is Outcome.DEAD_LETTER]
    if n_missing := await _accounted(course, letters):
        broken.append(f"{n_missing} hostile records of {len(letters)} are neither used nor dead letters")
    broken += await asyncio.to_thread(_failed_commands, course.workers[0])
    broken += await asyncio.to_thread(_unlisted, course.workers[0], places)
    broken += await asyncio.to_thread(_read_after_all, course.stage.brokers, places)
    return places, broken


def _readers(workers: Iterable[FaultWorker], services: Iterable[FaultService]) -> Iterator[Reader]:
    """Each local copy follows all partitions of its changelogs, each service reads all of the registry.

    The gateway reads its partition of replies.
    """
    for worker in workers:
        yield Reader(worker, _INVALID, TEACHER_CHANGELOGS, _COPY)
    for service in services:
        if service.name in SERVICE_CHANGELOGS:
            yield Reader(service, _INVALID, [SERVICE_CHANGELOGS[service.name]], _COPY)
        if service.name == "gateway":
            yield Reader(service, "emis_replies_total", [REPLIES], 'kind="unknown"')
        yield Reader(service, "emis_registry_left_out_total", [REGISTRY])


async def _uncounted(readers: Iterable[Reader]) -> list[str]:
    """Readers that have not counted just what they were sent."""

    def found() -> list[str]:
        return [str(reader) for reader in readers if reader.n_counted != reader.wanted]

    async def is_none() -> bool:
        return not await asyncio.to_thread(found)

    with suppress(NotInTime):
        await until(is_none, _ACCOUNTED_SECONDS, "all are counted", 0.5)
    return await asyncio.to_thread(found)


def _failed_commands(worker: FaultWorker) -> list[str]:
    """Commands that read what strangers write, and do not end as they should."""
    expected = {("dead-letters", "list", "--json"): 0, ("changelogs", "check", "--json"): 1}
    failed = []
    for command, code in expected.items():
        done = _command(worker, *command)
        if done.returncode != code or b"Traceback" in done.stderr:
            said = done.stderr.decode(errors="replace")[-300:]
            failed.append(f"emis-streams {' '.join(command)} ended with {done.returncode}, not {code}: {said}")
    return failed


def _command(worker: FaultWorker, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "emis_streams", *arguments],
        capture_output=True,
        cwd=worker.code,
        env={**os.environ, **environment_of(worker.settings)},
        timeout=_COMMAND_SECONDS,
        check=False,
    )


def _unlisted(worker: FaultWorker, places: Iterable[tuple[Hostile, Place]]) -> list[str]:
    """Records of the dead-letter topic that the list does not show."""
    done = _command(worker, "dead-letters", "list", "--json", "--limit", str(_ALL_LETTERS))
    shown = {json.loads(line)["place"] for line in done.stdout.splitlines()}
    wanted = {f"{at.partition}:{at.offset}" for record, at in places if record.outcome is Outcome.LISTED}
    return [f"dead-letters list does not show {place}" for place in sorted(wanted - shown)[:5]]


def _read_after_all(brokers: str, places: Iterable[tuple[Hostile, Place]]) -> list[str]:
    """Topics that nobody should read, where a group has committed: then these records need an outcome as well."""
    unread = {at.topic for record, at in places if record.outcome is Outcome.UNREAD}
    admin = AdminClient({"bootstrap.servers": brokers})
    found = admin.list_consumer_groups(request_timeout=_ADMIN_SECONDS).result()
    groups = [group.group_id for group in found.valid]
    committed = [
        admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=_ADMIN_SECONDS)[group]
        for group in groups
    ]
    read = {tp.topic for future in committed for tp in future.result().topic_partitions if tp.offset >= 0}
    return [f"{topic} is read by a group: what becomes of its records?" for topic in sorted(read & unread)]


def _evidence(
    course: Course,
    services: list[FaultService],
    load: LessonLoad,
    pages: UserPages,
    places: list[tuple[Hostile, Place]],
    broken: list[str],
) -> Evidence:
    broken = [*broken, *pages.wrong[:5]]
    if load.n_refused:
        broken.append(f"{load.n_refused} honest calls got no answer")
    for process in (*services, *course.workers):
        ended = [o for o in process.outages if not o.planned and o.since >= course.began_fault]
        if not process.process.running or ended:
            course.findings.add("lost", process.name, f"hostile records ended {process.name}")
    outcomes = Counter(str(record.outcome) for record, _ in places)
    said = {
        "hostile": len(places),
        **outcomes,
        "accepted": len(load.accepted),
        "unanswered": load.n_refused,
        "pages": pages.n_answers,
    }
    return Evidence(bit=len(places) > 0, said=said, broken=broken)


def _send(producer: Producer, records: list[Hostile]) -> list[tuple[Hostile, Place]]:
    """Where the brokers have those that they took: a compacted topic takes no record without a key."""
    taken: list[tuple[Hostile, Place]] = []
    for record in records:

        def told(error: object, message: Message, record: Hostile = record) -> None:
            if error is None:
                place = Place(str(message.topic()), message.partition() or 0, message.offset() or 0)
                taken.append((record, place))

        headers: list[tuple[str, str | bytes | None]] = [*record.headers]
        partition = _BY_KEY if record.partition is None else record.partition
        producer.produce(record.topic, record.value, record.key, partition, headers=headers, on_delivery=told)
        producer.poll(0)
    producer.flush(_FLUSH_SECONDS)
    return taken


async def _accounted(course: Course, places: list[Place]) -> int:
    """How many of these records never became dead letters."""
    wanted = set(places)

    def missing() -> set[Place]:
        return wanted - {letter.place for letter in stores.dead_letters(course.stage.brokers, 0)}

    async def are_all_there() -> bool:
        return not await asyncio.to_thread(missing)

    with suppress(NotInTime):
        await until(are_all_there, _ACCOUNTED_SECONDS, "each is a dead letter", 0.5)
    return len(await asyncio.to_thread(missing))


async def _shows_users(gateway: FaultService) -> bool:
    """Both services are in the registry, as the gateway reads it."""
    nobody = uuid.uuid4()
    paths = (f"/progress/{nobody}", f"/users/{nobody}/activity")
    return all([(await asyncio.to_thread(gateway.get, path))[0] == 200 for path in paths])


async def _lists_lessons(gateway: FaultService) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        status, _ = await asyncio.to_thread(gateway.get, "/lessons?limit=1")
        return status == 200
    return False


HOSTILE = Row("45", "hostile records on every topic", hostile, needs_work_in_flight=False)
ROWS = [HOSTILE]
