"""Gateway, lessons, progress and users as processes: what a user sees, and what is left when one of them dies."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

from emis_streams import dead_letters
from emis_streams.topics import LESSON_AVAILABLE, PARTITIONS, USER_ACTIVITY, request_topic
from tests.integration.engine_rig import producer
from tests.integration.open_transaction import open_transaction
from tests.integration.otlp_collector import Collector, collecting
from tests.integration.services_rig import Process, Services, User
from tests.services import until

DIES_BEFORE_PUBLISHING = str(Path(__file__).with_name("dies_before_publishing.py"))


@pytest.fixture(scope="module")
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def services(broker: str, collector: Collector) -> Iterator[Services]:
    with TemporaryDirectory(prefix="emis-services-") as folder:
        yield Services(broker, Path(folder), collector.endpoint)


@pytest.fixture(scope="module")
async def followers(services: Services) -> AsyncIterator[list[Process]]:
    """Progress and users run all the time: what they show is what the lesson service told."""
    await services.make_topics()
    async with AsyncExitStack() as stack:
        names = ("progress", "users")
        yield [await stack.enter_async_context(services.process(name).running()) for name in names]


@pytest.fixture
async def gateway(services: Services, followers: list[Process]) -> AsyncIterator[Process]:
    """Ready or not: it routes to teachers too, and none run here."""
    async with services.process("gateway").running(ready=False) as own:

        async def knows() -> bool:
            _, answer = await own.ask("/services/status")
            found = {s["name"]: len(s["instances"]) for s in answer["services"]} if answer else {}
            return bool(found.get("progress") and found.get("users"))

        await until(knows, 60)
        yield own


@pytest.fixture
def user(gateway: Process) -> User:
    return User(gateway)


async def registered(gateway: Process, name: str) -> None:
    async def is_there() -> bool:
        _, answer = await gateway.ask("/services/status")
        return answer and any(s["name"] == name and s["instances"] for s in answer["services"])

    await until(is_there, 60)


async def test_a_lesson_is_created_found_and_shown_in_progress_and_activity(services: Services, user: User) -> None:
    async with services.process("lessons").running():
        status, lesson = await user.create()
        assert status == 201
        await user.sees({lesson["lessonId"]})
        assert await user.gateway.ask(f"/lessons/{lesson['lessonId']}") == (200, lesson)
        assert (await user.gateway.ask("/lessons?limit=1"))[1]["lessons"] == [lesson]
        assert (await user.gateway.ask(f"/lessons/{uuid4()}"))[0] == 404


async def test_a_transaction_that_holds_requests_is_named_in_the_health_of_the_service(
    services: Services, user: User
) -> None:
    """As workers name one that holds events: partition, state, reason. Requests are answered again when it ends."""
    topic = request_topic("lessons")
    async with services.process("lessons").running() as lessons:

        async def lag_is(status: str, *said: str) -> bool:
            _, health = await lessons.ask("/health")
            check = health["checks"]["consumerLag"]
            return check["status"] == status and all(text in check["output"] for text in said)

        assert (await user.create())[0] == 201
        with open_transaction(services.broker, topic, 3, 1):
            held = (
                "emis-lesson",
                f"{topic}",
                "OPEN_TRANSACTION",
                "An open transaction has held the last stable offset",
            )
            await until(lambda: lag_is("warn", *held), 60)
            assert (await lessons.ask("/api/consumer-lag"))[1]["groups"][0]["state"] == "OPEN_TRANSACTION"
        await until(lambda: lag_is("pass"), 60)
        await user.created(8)


async def test_one_trace_leads_from_the_post_to_the_last_consumer(
    services: Services, user: User, collector: Collector
) -> None:
    """Of all four processes, by the exporter that is used in production."""
    trace_id, outside = uuid4().hex, "b7ad6b7169203331"
    async with services.process("lessons").running():
        status, lesson = await user.create(traceparent=f"00-{trace_id}-{outside}-01")
        assert status == 201
        await user.sees({lesson["lessonId"]})
        await until(lambda: {s.service for s in collector.of(trace_id)} == {"gateway", "lessons", "progress", "users"})
    spans = collector.of(trace_id)
    assert {span.parent_id for span in spans} <= {outside, *(span.span_id for span in spans)}
    assert [span.service for span in spans if span.parent_id == outside] == ["gateway"]


async def test_what_is_no_event_becomes_a_dead_letter_and_the_next_is_shown(services: Services, user: User) -> None:
    async with producer(services.broker) as client:
        for topic in (LESSON_AVAILABLE, USER_ACTIVITY):
            for partition in range(PARTITIONS):
                await client.send_and_wait(topic, b"garbage", b"garbage", partition=partition)
    async with services.process("lessons").running():
        _, lesson = await user.create()
        await user.sees({lesson["lessonId"]})
    letters = [(letter.topic, letter.value) async for letter in dead_letters.letters(services.settings("gateway"))]
    assert {topic: letters.count((topic, b"garbage")) for topic in (LESSON_AVAILABLE, USER_ACTIVITY)} == {
        LESSON_AVAILABLE: PARTITIONS,
        USER_ACTIVITY: PARTITIONS,
    }


async def test_a_post_that_comes_again_creates_one_lesson_also_after_a_restart(services: Services, user: User) -> None:
    async with services.process("lessons").running():
        first = await user.create(key=f"{user.id_}")
        assert first[0] == 201
        assert await user.create(key=f"{user.id_}") == first
        assert (await user.create(key=f"{user.id_}", title="Số thập phân"))[0] == 422
    async with services.process("lessons").running():
        assert await user.create(key=f"{user.id_}") == first
        await user.sees({first[1]["lessonId"]})


async def test_events_of_a_service_that_is_killed_between_commit_and_sending_are_not_lost(
    services: Services, user: User
) -> None:
    dies = services.process("lessons", ("-P", DIES_BEFORE_PUBLISHING))
    async with dies.running():
        created = asyncio.create_task(user.create(key=f"{user.id_}"))
        await dies.ended()
    async with services.process("lessons").running():
        await created  # It may have got no answer; whoever asks again does.
        status, lesson = await user.create(key=f"{user.id_}")
        assert status == 201
        await user.sees({lesson["lessonId"]})


async def test_a_killed_service_opens_the_breaker_and_one_probe_closes_it_when_it_is_back(
    services: Services, user: User
) -> None:
    lessons = services.process("lessons")
    async with lessons.running():
        await user.created(1)
        lessons.process.kill()
    failed = await asyncio.gather(*(user.create() for _ in range(5)))
    assert {status for status, _ in failed} == {504}
    assert await user.breaker() == "OPEN"
    began = time.monotonic()
    status, answer = await user.create()
    assert (status, answer["service"], answer["circuitBreaker"]) == (503, "lessons", "OPEN")
    assert time.monotonic() - began < 0.5  # Promised are 50 ms, on a machine that does nothing else.
    async with services.process("lessons").running():
        await registered(user.gateway, "lessons")

        async def is_created() -> bool:
            return (await user.create())[0] == 201

        await until(is_created, 60, poll_seconds=0.2)
        assert await user.breaker() == "CLOSED"
        _, answer = await user.gateway.ask("/circuit-breakers")
        history = answer["lessons"]["patterns"]["create-lesson"]["history"]
        assert [(change["before"], change["after"]) for change in history][-2:] == [
            ("OPEN", "HALF_OPEN"),
            ("HALF_OPEN", "CLOSED"),
        ]


async def test_replies_that_are_late_lost_or_come_twice_cost_time_and_nothing_else(
    services: Services, user: User
) -> None:
    misbehaving = ("-m", "emis_streams", "run", "tests.integration.misbehaving:MisbehavingLessons")
    async with services.process("lessons", misbehaving).running():
        keys = [f"{how}-{user.id_}" for how in ("late", "lost", "twice")]
        answers = await asyncio.gather(*(user.create(key=key) for key in keys))
        assert [status for status, _ in answers] == [201, 201, 201]
        assert [await user.create(key=key) for key in keys] == answers
        await user.sees({lesson["lessonId"] for _, lesson in answers})
        assert await user.breaker() == "CLOSED"


async def test_a_gateway_that_is_killed_in_mid_request_leaves_one_lesson(
    services: Services, followers: list[Process]
) -> None:
    lessons, dies = services.process("lessons"), services.process("gateway")
    async with lessons.running(), dies.running(ready=False):
        user = User(dies)

        async def is_answered() -> bool:
            return (await dies.ask("/lessons?limit=1"))[0] == 200

        await until(is_answered, 60)
        asking = [asyncio.create_task(user.create(key=f"{user.id_}-{n}")) for n in range(20)]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        dies.process.kill()
        await asyncio.wait(asking)
        async with services.process("gateway").running(ready=False) as follows:
            again = User(follows, user.id_)
            await registered(follows, "progress")
            answers = await asyncio.gather(*(again.create(key=f"{user.id_}-{n}") for n in range(20)))
            assert {status for status, _ in answers} == {201}
            await again.sees({lesson["lessonId"] for _, lesson in answers})


async def test_a_service_that_is_told_to_stop_is_gone_at_once_and_what_it_was_asked_is_done_once(
    services: Services, user: User
) -> None:
    keys = [f"{user.id_}-{n}" for n in range(5)]
    async with services.process("lessons").running():
        asked = [asyncio.create_task(user.create(key=key)) for key in keys]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    _, answer = await user.gateway.ask("/services/status")
    assert next(s for s in answer["services"] if s["name"] == "lessons")["instances"] == []
    await asyncio.wait(asked)
    async with services.process("lessons").running():
        lessons = set()
        for key in keys:  # Who got no answer asks again.
            lessons.add((await until(lambda key=key: created(user, key)))["lessonId"])
        assert len(lessons) == len(keys)
        await user.sees(lessons)


async def created(user: User, key: str) -> dict[str, str] | None:
    status, lesson = await user.create(key=key)
    return lesson if status == 201 else None


async def test_a_wrong_name_of_a_service_ends_with_what_there_is(services: Services) -> None:
    wrong = services.process("lessons", ("-m", "emis_streams", "run", "lesons"))
    wrong.process.start()
    await wrong.ended()
    assert wrong.process.returncode == 2
    assert "none of gateway, users, lessons, progress" in wrong.process.log_tail()
