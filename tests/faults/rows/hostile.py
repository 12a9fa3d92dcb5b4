"""Hostile records on every topic, while workers, gateway and services go on with honest load and honest calls."""

import asyncio
from contextlib import suppress

import aiohttp
from confluent_kafka import Message, Producer

from tests.faults.checker import stores
from tests.faults.checker.truth import Place
from tests.faults.course import Course, Evidence, Row
from tests.faults.hostile_records import Hostile, of_every_topic
from tests.faults.lesson_load import LessonLoad
from tests.faults.sends import a_producer
from tests.faults.service_stage import FaultService, service_stage, start_all
from tests.faults.stage import NotInTime, until

_FLUSH_SECONDS = 30.0
_ACCOUNTED_SECONDS = 60.0
_N_USERS = 4
_LESSONS_AFTERWARDS = 40


async def hostile(course: Course) -> Evidence:
    async with service_stage(course) as stage:
        names = ("lessons", "progress", "users", "gateway")
        services = [stage.add(name) for name in names]
        gateway = services[-1]
        await start_all(services[:-1])
        gateway.start()
        load = LessonLoad(gateway.port, n_users=_N_USERS)
        await until(lambda: _lists_lessons(gateway), 60, "the gateway answers")
        with suppress(TimeoutError):  # Of a service that has ended: told below.
            async with load.running():
                await until(lambda: len(load.accepted) >= _N_USERS, 60, "lessons are accepted")
                n_before = len(load.accepted)
                places = await asyncio.to_thread(_send, a_producer(course.stage.brokers), list(of_every_topic()))
                n_missing = await _accounted(course, [place for record, place in places if record.is_dead_letter])
                with suppress(NotInTime):
                    await until(lambda: len(load.accepted) >= n_before + _LESSONS_AFTERWARDS, 30, "calls are answered")
        return _evidence(course, services, load, places, n_missing)


def _evidence(
    course: Course, services: list[FaultService], load: LessonLoad, places: list[tuple[Hostile, Place]], n_missing: int
) -> Evidence:
    broken = [] if not load.n_refused else [f"{load.n_refused} honest calls got no answer"]
    for process in (*services, *course.workers):
        if not process.process.running or any(not outage.planned for outage in process.outages):
            course.findings.add("lost", process.name, f"hostile records ended {process.name}")
    if n_missing:
        broken.append(f"{n_missing} hostile records are neither used nor dead letters")
    said = {"hostile": len(places), "accepted": len(load.accepted), "unanswered": load.n_refused}
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
        producer.produce(record.topic, record.value, record.key, headers=headers, on_delivery=told)
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


async def _lists_lessons(gateway: FaultService) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        status, _ = await asyncio.to_thread(gateway.get, "/lessons?limit=1")
        return status == 200
    return False


HOSTILE = Row("45", "hostile records on every topic", hostile, needs_work_in_flight=False)
ROWS = [HOSTILE]
