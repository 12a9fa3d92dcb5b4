"""Several instances of a service with an outbox on one MariaDB: killed, frozen, and the database with them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pymysql

from tests.faults.checker import lessons
from tests.faults.checker.lessons import Published
from tests.faults.course import Course, Evidence, Row
from tests.faults.lesson_load import LessonLoad
from tests.faults.service_stage import FaultService, service_stage, start_all
from tests.faults.stage import until
from tests.integration import independent

_LIMIT_SECONDS = 60.0
_FROZEN_SECONDS = 13.0
"""Longer than a lease lasts."""
_LESSONS_BETWEEN = 150
_POLL_SECONDS = 0.02


@dataclass
class Scene:
    """The instances, their database and their load."""

    course: Course
    instances: list[FaultService]
    url: str
    load: LessonLoad
    n_unsent: list[int] = field(default_factory=list)
    """Events that were still to be sent when each fault began."""

    def query(self, statement: str) -> list[tuple[object, ...]]:
        at = urlsplit(self.url)
        connection = pymysql.connect(
            host=at.hostname, port=at.port or 0, user=at.username, password=at.password or "", database=at.path[1:]
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def unsent(self) -> int:
        return int(str(self.query("SELECT COUNT(*) FROM Outbox")[0][0]))

    def leader(self) -> FaultService | None:
        """The instance that holds the lease, by its process id."""
        found = self.query("SELECT OwnerText FROM OutboxLease WHERE ExpiresAt > UNIX_TIMESTAMP()")
        pid = re.search(r"pid (\d+)", str(found[0][0])) if found else None
        running = [instance for instance in self.instances if instance.process.running]
        return next((one for one in running if pid and one.process.pid == int(pid[1])), None)

    async def a_leader(self) -> FaultService:
        await until(lambda: self.leader() is not None, _LIMIT_SECONDS, "an instance sends the outbox")
        leader = self.leader()
        assert leader is not None
        return leader

    async def more_lessons(self) -> None:
        wanted = len(self.load.accepted) + _LESSONS_BETWEEN
        await until(lambda: len(self.load.accepted) >= wanted, _LIMIT_SECONDS, "lessons are accepted")

    async def with_events_in_flight(self, fault: Callable[[], None]) -> None:
        """Does it when events wait to be sent."""
        await until(lambda: self.unsent() > 0, _LIMIT_SECONDS, "events are in the outbox", _POLL_SECONDS)
        fault()


Fault = Callable[[Scene], Awaitable[None]]


async def _kill_leader(scene: Scene) -> None:
    leader = await scene.a_leader()
    await scene.with_events_in_flight(leader.kill)
    scene.n_unsent.append(scene.unsent())
    await scene.more_lessons()  # By another one, and before a new one leads.
    leader.start()
    await leader.ready()


async def _freeze_leader(scene: Scene) -> None:
    """It goes on with what it had begun when another one has sent all of that, and newer events."""
    leader = await scene.a_leader()
    await scene.with_events_in_flight(leader.freeze)
    scene.n_unsent.append(scene.unsent())
    await asyncio.sleep(_FROZEN_SECONDS)
    other = await scene.a_leader()
    assert other is not leader
    await scene.more_lessons()
    leader.thaw()


async def _kill_database(scene: Scene) -> None:
    mariadb = scene.course.stage.mariadb
    scene.n_unsent.append(scene.unsent())
    mariadb.process.kill()
    await asyncio.sleep(1.0)
    mariadb.start()


async def _kill_all(scene: Scene) -> None:
    """Each instance and then the database, which comes back first."""
    leader = await scene.a_leader()
    await scene.with_events_in_flight(leader.kill)
    scene.n_unsent.append(scene.unsent())
    for instance in scene.instances:
        instance.kill()
    await _kill_database(scene)
    await start_all(scene.instances)


async def _run(course: Course, n_instances: int, faults: list[Fault]) -> Evidence:
    async with service_stage(course) as services:
        url = services.database("lessons")
        instances = [
            services.add("lessons", f"lessons-{n}", service_database_url=url) for n in range(1, n_instances + 1)
        ]
        gateway = services.add("gateway")
        gateway.start()
        await start_all(instances)
        scene = Scene(course, instances, url, LessonLoad(gateway.port))
        async with scene.load.running():
            for fault in faults:
                await scene.more_lessons()
                await fault(scene)
            await scene.more_lessons()
        await until(lambda: scene.unsent() == 0, _LIMIT_SECONDS, "all events are sent")
        return await evidence(scene, len(faults))


async def evidence(scene: Scene, n_faults: int) -> Evidence:
    kept = [str(row[0]) for row in scene.query("SELECT LessonId FROM Lessons")]
    told = await asyncio.to_thread(_published, scene.course.stage.brokers, scene)
    n_again = lessons.check(scene.load.accepted, kept, told, scene.course.findings)
    return Evidence(
        bit=len(scene.n_unsent) >= n_faults and sum(n > 0 for n in scene.n_unsent) >= n_faults - 1,
        said={
            "accepted": len(scene.load.accepted),
            "kept": len(kept),
            "asked_again": scene.load.n_refused,
            "sent_again": n_again,
            "unsent_at_faults": scene.n_unsent,
        },
    )


def _published(brokers: str, scene: Scene) -> list[Published]:
    """Of this row's users; other rows write to these topics too, and not only text (row 45)."""
    own = {lesson.user_id for lesson in scene.load.accepted}
    records = independent.records(brokers, list(lessons.TOPICS))
    found = [Published(str(r.topic()), (r.key() or b"").decode("utf-8", "replace"), r.value() or b"") for r in records]
    return [record for record in found if record.key in own]


async def two_instances(course: Course) -> Evidence:
    return await _run(course, 2, [_kill_leader, _freeze_leader, _kill_database, _kill_all])


async def three_instances(course: Course) -> Evidence:
    return await _run(course, 3, [_kill_leader, _kill_leader, _freeze_leader, _kill_database, _kill_leader])


TWO_INSTANCES = Row("50", "two instances of a service with an outbox, killed and frozen", two_instances)
ROWS = [
    TWO_INSTANCES,
    Row("51", "three instances of a service with an outbox, killed and frozen", three_instances),
]
