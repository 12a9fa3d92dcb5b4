"""The worker as a process: events become pages and rows, whatever is killed, stopped or sent meanwhile."""

import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emis_streams.producer import EventProducer
from emis_streams.topics import APP_ID, REPLICA_GROUP
from tests.integration import bad_events, independent, raw_batches
from tests.integration.independent import Kept, Key, differences, progress
from tests.integration.worker_rig import (
    Country,
    Stack,
    Worker,
    a_class,
    a_teacher,
    an_assignment,
    new_id,
    producing,
    two_workers,
)
from tests.services import free_port, settings_for, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SESSION_TIMEOUT_SECONDS = 6.0
STALE_AFTER_SECONDS = 1.5
MAX_GROWTH_BYTES = 400 * 2**20
"""Of a worker that is sent batches of 30 MiB: they are there packed, unpacked and decoded."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    times = {"session_timeout_seconds": SESSION_TIMEOUT_SECONDS, "stale_after_seconds": STALE_AFTER_SECONDS}
    with two_workers(tmp_path_factory.mktemp("workers"), **times) as stack:
        yield stack


@pytest.fixture
async def stack(parts: Stack) -> Stack:
    await parts.running()
    return parts


async def test_events_become_a_teachers_page(stack: Stack) -> None:
    teacher_id, class_id, homeroom_id, unknown_id = (new_id() for _ in range(4))
    async with EventProducer(stack.serving.settings) as producer:
        for event in (
            an_assignment(teacher_id, class_id),
            an_assignment(teacher_id, unknown_id),
            a_teacher(teacher_id),
            a_class(class_id, "10A1"),
            a_class(homeroom_id, "11B2", homeroomTeacherId=teacher_id),
        ):
            await producer.send(event)

    def page() -> Any:
        status, body = stack.serving.get(f"/api/teachers/{teacher_id}")
        return body if status == 200 and len(body["classAssignments"]) == 3 and not body["stale"] else None

    found = await until(page)
    shown = [(c["className"], c["role"], c["isHomeroom"], c["known"]) for c in found["classAssignments"]]
    assert sorted(shown[:2]) == [("10A1", "subject-teacher", False, True), ("11B2", "homeroom", True, True)]
    assert shown[2] == (None, "subject-teacher", False, False)
    assert (found["fullName"], found["source"]) == ("Nguyễn Thị Ánh", "local")
    assert found["ageSeconds"] < STALE_AFTER_SECONDS
    assert stack.serving.get(f"/api/teachers/{new_id()}")[0] == 404


async def test_partitions_are_owned_by_the_address_of_a_worker(stack: Stack) -> None:
    """The serving worker sees by the brokers which worker ingests and which writes the database."""
    ingesting = f"127.0.0.1:{stack.ingesting.settings.port}"

    def owners() -> dict[str, set[str | None]]:
        groups = (stack.serving.get("/api/consumer-lag")[1] or {}).get("groups", [])
        return {g["groupId"]: {(p["owner"] or {}).get("clientId") for p in g["partitions"]} for g in groups}

    await until(lambda: owners() == {APP_ID: {ingesting}, REPLICA_GROUP: {ingesting}}, 60)


async def test_an_assignment_that_moves_is_shown_at_the_new_teacher_only(stack: Stack) -> None:
    """Teachers of different partitions; nobody sends a delete for the former one."""
    former, new, class_id, assignment_id = (new_id() for _ in range(4))
    before, after = (an_assignment(teacher_id, class_id, assignment_id) for teacher_id in (former, new))

    def shown(teacher_id: str) -> Any:
        status, body = stack.serving.get(f"/api/teachers/{teacher_id}")
        return [c["assignmentId"] for c in body["classAssignments"]] if status == 200 else None

    stack.send([a_teacher(former), a_teacher(new), before])
    await until(lambda: (shown(former), shown(new)) == ([assignment_id], []))
    stack.send([after])
    await until(lambda: (shown(former), shown(new)) == ([], [assignment_id]))


async def test_a_killed_worker_leaves_table_changelog_read_model_and_database_equal_to_the_fold_of_the_sources(
    stack: Stack,
) -> None:
    country, all_killed = Country(seed=1, n_classes=10_000), threading.Event()
    sending = threading.Thread(target=stack.send, args=(country.events_at_least_until(all_killed), 3_000))
    before = progress(stack.broker).committed
    sending.start()
    for killed in ((stack.ingesting, stack.serving), (stack.ingesting,)):
        at = await until(partial(_under_way, stack, before + 1_500), 60, 0.02)
        for worker in killed:
            worker.process.kill()
        assert at.committed < at.end, "nothing was under way: the test shows nothing"
        before = at.committed
        for worker in killed:
            worker.start()
    all_killed.set()
    sending.join()
    await until(stack.has_ingested, 60)
    expected = independent.fold_of_sources(stack.broker, {*country.classes, *country.teachers})
    assert len(expected) > 15_000
    await until(lambda: not differences(independent.kept_in_mysql(stack.database_url), expected), 60, 1.0)
    await stack.running()
    _check_answers(stack.serving, expected, country.classes[:60])
    stack.stop()
    assert (stack.ingesting.process.returncode, stack.serving.process.returncode) == (0, 0)
    changelog = independent.rows_in_changelogs(stack.broker)
    tables = independent.rows_in_tables(stack.ingesting.data_dir)
    assert differences({key: independent.kept_in(row) for key, row in tables.items()}, expected) == {}
    assert {key: changelog[key] for key in expected} == {key: tables[key] for key in expected}
    read_model = independent.rows_in_read_model(stack.serving.data_dir)
    assert {key: read_model[key] for key in expected} == {key: tables[key] for key in expected}


def _under_way(stack: Stack, at_least: int) -> Any:
    at = progress(stack.broker)
    return at if at_least < at.committed < at.end else None


def _check_answers(worker: Worker, expected: dict[Key, Kept], class_ids: list[str]) -> None:
    for class_id in class_ids:
        fields = expected["classes", class_id].fields
        status, body = worker.get(f"/api/classes/{class_id}")
        if fields is None:
            assert status == 410, class_id
        else:
            assert (body["className"], body["totalStudents"], body["homeroomTeacherId"]) == (
                fields[0],
                fields[3],
                fields[5],
            )


# -- records that cannot be used ----------------------------------------------------------------


async def test_records_that_cannot_be_used_are_kept_as_they_came_and_cost_nobody_else(stack: Stack) -> None:
    kinds, aborted_id = bad_events.produced(), new_id()
    neighbours = [bad_events.a_neighbour(f"neighbour {n}") for n in range(2 * len(kinds))]
    begun, counted, had = progress(stack.broker), stack.events_counted(), stack.ingesting.peak_bytes()
    bad_events.abort(stack.broker, aborted_id)
    batches = [batch for n, kind in enumerate(kinds) for batch in kind.among(neighbours[2 * n : 2 * n + 2], n % 10)]
    answers = await raw_batches.send_all(stack.broker, batches)
    assert set(answers) == {"NoError"}
    await until(stack.has_ingested, 60)
    letters = bad_events.letters(stack.broker)
    for kind in kinds:
        bad_events.check_letters(kind, letters[kind.id])
        await until(partial(bad_events.is_answered, kind, stack.serving))
    for neighbour in neighbours:
        await stack.shows_class(neighbour.class_id, neighbour.name)
    assert stack.serving.get(f"/api/classes/{aborted_id}")[0] == 404
    counts = {outcome: n - counted[outcome] for outcome, n in stack.events_counted().items()}
    n_markers = 1
    assert sum(counts.values()) == len(batches) == progress(stack.broker).end - begun.end - 1 - n_markers
    assert counts["refused"] == sum(map(len, letters.values())) == sum(kind.n_refused for kind in kinds)
    assert stack.ingesting.peak_bytes() - had < MAX_GROWTH_BYTES


async def test_the_brokers_refuse_what_is_no_batch_and_what_is_too_large(stack: Stack) -> None:
    """Such records never reach a worker; here the list of bad events says why."""
    end = progress(stack.broker).end
    batches = [("emis.class.created", 0, refused.batch) for refused in bad_events.REFUSED_BY_BROKERS]
    answers = await raw_batches.send_all(stack.broker, batches)
    expected = {refused.id: refused.error for refused in bad_events.REFUSED_BY_BROKERS}
    assert dict(zip(expected, answers, strict=True)) == expected
    assert progress(stack.broker).end == end


async def test_the_offset_moves_over_a_refused_record_only_when_the_dead_letter_is_there(stack: Stack) -> None:
    await until(stack.has_ingested)
    for _ in range(3):
        n_letters = len(list(independent.records(stack.broker, ["emis.dead-letter"])))
        before = progress(stack.broker).end
        with producing(stack.broker) as producer:
            producer.produce("emis.class.updated", b"no event", new_id().encode())
        await until(partial(stack.has_ingested, before + 1), 30, 0)
        assert len(list(independent.records(stack.broker, ["emis.dead-letter"]))) == n_letters + 1


# -- what goes away -----------------------------------------------------------------------------


async def test_answers_say_how_old_they_can_be_while_ingestion_stands_still(stack: Stack) -> None:
    class_id = new_id()
    stack.send([a_class(class_id, "before")])
    await stack.shows_class(class_id, "before")

    def age() -> float:
        return float(stack.serving.get(f"/api/classes/{class_id}")[1]["ageSeconds"])

    await until(lambda: not stack.serving.get(f"/api/classes/{class_id}")[1]["stale"])
    stack.ingesting.process.send_signal(signal.SIGSTOP)
    try:
        stack.send([a_class(class_id, "after", "updated")])
        first = await until(lambda: age() if age() > 0.5 else None)
        await until(lambda: age() > first + 0.5)
        await until(lambda: stack.serving.get(f"/api/classes/{class_id}")[1]["stale"])
        assert stack.serving.get(f"/api/classes/{class_id}")[1]["className"] == "before"
    finally:
        stack.ingesting.process.send_signal(signal.SIGCONT)
    await stack.shows_class(class_id, "after")
    await until(lambda: not stack.serving.get(f"/api/classes/{class_id}")[1]["stale"])
    assert age() < STALE_AFTER_SECONDS


async def test_without_its_database_a_worker_ingests_and_answers_and_says_so(stack: Stack) -> None:
    class_id = new_id()
    stack.send([a_class(class_id, "before")])
    await stack.shows_class(class_id, "before")
    stack.mariadb.stop()
    try:
        stack.send([a_class(class_id, "meanwhile", "updated")])
        await stack.shows_class(class_id, "meanwhile")
        await until(stack.has_ingested)

        def degraded() -> Any:
            status, body = stack.ingesting.get("/health")
            return body if status == 200 and body["status"] == "degraded" else None

        assert (await until(degraded))["checks"]["replica"]["status"] == "fail"
        stack.send([a_class(class_id, "still meanwhile", "updated")])
        await stack.shows_class(class_id, "still meanwhile")
    finally:
        stack.mariadb.start()

    def in_database() -> bool:
        row = independent.kept_in_mysql(stack.database_url).get(("classes", class_id))
        return row is not None and row.fields is not None and row.fields[0] == "still meanwhile"

    await until(in_database, 60)
    await until(lambda: stack.ingesting.get("/health")[1]["checks"]["replica"]["status"] == "pass")
    assert stack.ingesting.process.running


# -- what is missing or wrong at the start ------------------------------------------------------


async def test_without_brokers_a_worker_says_so_keeps_trying_and_answers_from_the_database(
    stack: Stack, tmp_path: Path
) -> None:
    teacher_id, class_id = new_id(), new_id()
    stack.send([a_teacher(teacher_id), a_class(class_id, "10A1"), an_assignment(teacher_id, class_id)])
    await until(
        lambda: ("assignments", teacher_id) in {(k, i[:36]) for k, i in independent.kept_in_mysql(stack.database_url)}
    )
    nobody = f"127.0.0.1:{free_port()}"
    alone = Worker("alone", settings_for(nobody, tmp_path / "alone", database_url=stack.database_url))
    alone.start()
    try:
        await until(lambda: alone.get(f"/api/teachers/{teacher_id}")[0] == 200)
        _, body = alone.get(f"/api/teachers/{teacher_id}")
        assert (body["source"], body["ageSeconds"], body["stale"]) == ("mysql", None, True)
        assert alone.get("/readyz")[0] == 503
        assert alone.get("/livez")[0] == 200
        told = [line for line in alone.log().splitlines() if nobody in line]
        assert told
        tried = datetime.now(UTC)
        await until(lambda: (datetime.now(UTC) - tried).total_seconds() > 3)
        assert alone.process.running
        assert "Traceback" not in alone.log()
        assert [line for line in alone.log().splitlines() if nobody in line] == told, "once is enough"
    finally:
        alone.process.stop()
