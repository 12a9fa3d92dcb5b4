"""A snapshot of the source fills and repairs the classes, and never undoes what is newer here."""

import asyncio
import json
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from emis_streams import events, rows, topics
from emis_streams.producer import EventProducer, records_of
from emis_streams.read_topic import records_to_end
from emis_streams.settings import Settings
from tests.integration.command_line import emis_streams

NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)


def a_class(name: str = "Lớp 10A1", at: datetime = NOON, class_id: str | None = None) -> dict[str, Any]:
    """A line of a snapshot."""
    return {
        "classId": class_id or str(uuid.uuid4()),
        "className": name,
        "grade": "Khối 10",
        "academicYear": "2026-2027",
        "totalStudents": 40,
        "schoolId": None,
        "homeroomTeacherId": None,
        "updatedAt": at.isoformat(),
    }


def snapshot_of(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def row_of(line: dict[str, Any], event_type: str = "emis.class.updated") -> bytes:
    """The row that the table has after an event that says what the line says."""
    said = {name: value for name, value in line.items() if name != "updatedAt"}
    event = {**said, "eventId": str(uuid.uuid4()), "eventType": event_type, "timestamp": line["updatedAt"]}
    (record,) = records_of([event])
    decoded = events.decode(record.contract, [record.key], [record.value], [2**41])
    return rows.pack(decoded.versions[0], events.created_of(decoded.versions[0]), decoded.bodies[0])


async def keep(settings: Settings, *lines: dict[str, Any], event_type: str = "emis.class.updated") -> None:
    """Writes rows to the changelog, as the table does."""
    async with EventProducer(settings) as producer:
        for line in lines:
            await producer.send_record(topics.CLASSES.changelog, line["classId"].encode(), row_of(line, event_type))


async def sent(settings: Settings, kind: str, class_id: str) -> list[dict[str, Any]]:
    """Events of a class on a topic."""
    topic = f"emis.class.{kind}"
    records = [record async for group in records_to_end(settings, topic) for record in group]
    return [json.loads(record.value) for record in records if record.key == class_id.encode()]


async def test_an_unknown_class_is_created_with_the_time_of_the_snapshot(no_worker: Settings) -> None:
    line = a_class()
    done = emis_streams(no_worker, "sync", "-", stdin=snapshot_of(line))
    assert "sent 1 created, 0 updated, 0 deleted" in done.stdout.decode(), done.stderr
    (event,) = await sent(no_worker, "created", line["classId"])
    assert {name: event[name] for name in line if name != "updatedAt"} == {
        name: value for name, value in line.items() if name != "updatedAt"
    }
    assert datetime.fromisoformat(event["timestamp"]) == NOON


async def test_a_class_that_is_newer_in_the_snapshot_is_updated(no_worker: Settings) -> None:
    old = a_class("Lớp cũ")
    new = a_class("Lớp mới", NOON + timedelta(seconds=1), old["classId"])
    await keep(no_worker, old)
    done = emis_streams(no_worker, "sync", "-", stdin=snapshot_of(new))
    assert "sent 0 created, 1 updated" in done.stdout.decode(), done.stderr
    assert [e["className"] for e in await sent(no_worker, "updated", old["classId"])] == ["Lớp mới"]


async def test_what_is_newer_here_stays_and_is_reported(no_worker: Settings, tmp_path: Path) -> None:
    new = a_class("Lớp mới", NOON + timedelta(seconds=1))
    await keep(no_worker, new)
    report = tmp_path / "report.ndjson"
    old = a_class("Lớp cũ", NOON, new["classId"])
    done = emis_streams(no_worker, "sync", "-", "--report", str(report), stdin=snapshot_of(old))
    assert "1 newer here" in done.stdout.decode(), done.stderr
    assert {"state": "newer here", "classId": new["classId"]} in map(json.loads, report.read_bytes().splitlines())
    assert await sent(no_worker, "updated", new["classId"]) == []


async def test_the_same_content_is_not_sent_again(no_worker: Settings) -> None:
    line = a_class()
    await keep(no_worker, line)
    done = emis_streams(no_worker, "sync", "-", stdin=snapshot_of({**line, "updatedAt": "2026-10-01T00:00:00Z"}))
    assert "sent 0 created, 0 updated, 0 deleted; 1 unchanged" in done.stdout.decode(), done.stderr


async def test_a_class_deleted_here_comes_back_unless_that_is_newer_than_the_snapshot(no_worker: Settings) -> None:
    early, same, late = a_class(), a_class(), a_class()
    await keep(no_worker, early, same, late, event_type="emis.class.deleted")
    times = {early["classId"]: "2026-09-05T11:59:59Z", late["classId"]: "2026-09-05T12:00:01Z"}
    lines = [{**line, "updatedAt": times.get(line["classId"], line["updatedAt"])} for line in (early, same, late)]
    done = emis_streams(no_worker, "sync", "-", stdin=snapshot_of(*lines))
    assert "sent 2 created, 0 updated" in done.stdout.decode(), done.stderr
    assert await sent(no_worker, "created", early["classId"]) == []
    assert len(await sent(no_worker, "created", late["classId"])) == 1
    (event,) = await sent(no_worker, "created", same["classId"])
    assert datetime.fromisoformat(event["timestamp"]) == NOON + timedelta(microseconds=1), "a later time wins only"


async def test_of_two_states_of_one_second_the_snapshot_is_right(no_worker: Settings) -> None:
    here = a_class("Lớp cũ", NOON + timedelta(milliseconds=250))
    await keep(no_worker, here)
    there = a_class("Lớp mới", NOON, here["classId"])
    done = emis_streams(no_worker, "sync", "-", stdin=snapshot_of(there))
    assert "sent 0 created, 1 updated" in done.stdout.decode(), done.stderr
    (event,) = await sent(no_worker, "updated", here["classId"])
    assert (event["className"], event["timestamp"]) == ("Lớp mới", "2026-09-05T12:00:00.250000Z")


async def test_what_is_lacking_is_deleted_at_its_own_time_if_that_is_of_the_snapshots_second(
    no_worker: Settings, all_known: list[dict[str, Any]]
) -> None:
    newest = max(datetime.fromisoformat(line["updatedAt"]) for line in all_known) + timedelta(days=1)
    newest = newest.replace(microsecond=0)
    gone, other = a_class("gone", newest + timedelta(milliseconds=300)), a_class("other", newest)
    await keep(no_worker, gone)
    done = emis_streams(no_worker, "sync", "-", "--delete-missing", stdin=snapshot_of(*all_known, other))
    assert "1 deleted" in done.stdout.decode(), done.stderr
    (event,) = await sent(no_worker, "deleted", gone["classId"])
    assert datetime.fromisoformat(event["timestamp"]) == newest + timedelta(milliseconds=300)


async def test_a_dry_run_sends_nothing_and_ends_with_one(no_worker: Settings) -> None:
    line = a_class()
    done = emis_streams(no_worker, "sync", "-", "--dry-run", stdin=snapshot_of(line))
    assert done.returncode == 1
    assert "would send 1 created" in done.stdout.decode()
    assert await sent(no_worker, "created", line["classId"]) == []


async def test_doing_it_twice_sends_the_same_event_ids(no_worker: Settings) -> None:
    line = a_class()
    for _ in range(2):  # nobody ingests here, so that the class stays unknown
        emis_streams(no_worker, "sync", "-", stdin=snapshot_of(line))
    first, second = await sent(no_worker, "created", line["classId"])
    assert first == second


async def test_bad_lines_are_reported_and_cost_no_other_line(no_worker: Settings) -> None:
    good = a_class()
    bad = [{**a_class(), "updatedAt": "yesterday"}, {**a_class(), "classId": "10A1"}, {**a_class(), "className": ""}]
    done = emis_streams(no_worker, "sync", "-", stdin=snapshot_of(*bad, good) + b"nope")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stderr.decode().splitlines()] == [
        "line 1",
        "line 2",
        "line 3",
        "line 5",
    ]
    assert "sent 1 created" in done.stdout.decode()
    assert "4 lines refused" in done.stdout.decode()


@pytest.fixture
async def all_known(no_worker: Settings) -> list[dict[str, Any]]:
    """Lines for all classes in the changelog: one hundred of this test, and what other tests left."""
    await keep(no_worker, *[a_class() for _ in range(100)])
    newest: dict[str, bytes] = {}
    async for group in records_to_end(no_worker, topics.CLASSES.changelog):
        for record in group:
            key = record.key.decode()
            newest[key] = rows.merged(record.value, newest.get(key))
    return [_line_of(class_id, row) for class_id, row in newest.items() if not rows.is_deleted(row)]


def _line_of(class_id: str, row: bytes) -> dict[str, Any]:
    body = rows.body_of(row, rows.ClassRow)
    assert body is not None
    return {**a_class(body.class_name, rows.event_time(row), class_id), "totalStudents": body.total_students}


async def test_what_the_snapshot_lacks_is_reported_and_deleted_only_on_wish(
    no_worker: Settings, all_known: list[dict[str, Any]]
) -> None:
    lacking, *rest = sorted(all_known, key=lambda line: str(line["updatedAt"]))
    only_told = emis_streams(no_worker, "sync", "-", stdin=snapshot_of(*rest))
    assert only_told.returncode == 1
    assert "0 deleted" in only_told.stdout.decode()
    assert "1 not in the snapshot" in only_told.stdout.decode()
    assert await sent(no_worker, "deleted", lacking["classId"]) == []
    done = emis_streams(no_worker, "sync", "-", "--delete-missing", stdin=snapshot_of(*rest))
    assert done.returncode == 0, done.stderr
    assert "1 deleted" in done.stdout.decode()
    (event,) = await sent(no_worker, "deleted", lacking["classId"])
    assert datetime.fromisoformat(event["timestamp"]) >= NOON


async def test_a_class_that_may_be_newer_than_the_snapshot_is_not_deleted(
    no_worker: Settings, all_known: list[dict[str, Any]]
) -> None:
    young = a_class("Lớp mới mở", NOON + timedelta(days=30))
    await keep(no_worker, young)
    done = emis_streams(no_worker, "sync", "-", "--delete-missing", stdin=snapshot_of(*all_known))
    assert "0 deleted" in done.stdout.decode(), done.stderr
    assert await sent(no_worker, "deleted", young["classId"]) == []
    later = (NOON + timedelta(days=60)).isoformat()
    done = emis_streams(no_worker, "sync", "-", "--delete-missing", "--taken-at", later, stdin=snapshot_of(*all_known))
    assert len(await sent(no_worker, "deleted", young["classId"])) == 1, done.stderr


async def test_a_snapshot_that_is_cut_short_deletes_nothing(
    no_worker: Settings, all_known: list[dict[str, Any]]
) -> None:
    half = snapshot_of(*all_known[: len(all_known) // 2])
    done = emis_streams(no_worker, "sync", "-", "--delete-missing", stdin=half)
    assert done.returncode == 1
    assert "nothing deleted: the snapshot lacks" in done.stderr.decode()
    assert "0 deleted" in done.stdout.decode()


def test_an_empty_snapshot_deletes_nothing(no_worker: Settings, all_known: list[dict[str, Any]]) -> None:
    done = emis_streams(no_worker, "sync", "-", "--delete-missing", "--most-deletes", "100")
    assert done.returncode == 1
    assert "the snapshot has no class" in done.stderr.decode()


def test_a_snapshot_with_refused_lines_deletes_nothing(no_worker: Settings, all_known: list[dict[str, Any]]) -> None:
    done = emis_streams(no_worker, "sync", "-", "--delete-missing", stdin=snapshot_of(*all_known[1:]) + b"{}")
    assert done.returncode == 1
    assert "nothing deleted: 1 line was refused" in done.stderr.decode()


async def answer_whole(request: web.Request) -> web.StreamResponse:
    return web.Response(body=request.app[BODY])


async def answer_half(request: web.Request) -> web.StreamResponse:
    body = request.app[BODY]
    response = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.close()
    return response


BODY: web.AppKey[bytes] = web.AppKey("body", bytes)


async def sync_from(settings: Settings, body: bytes, path: str) -> "subprocess.CompletedProcess[bytes]":
    """Runs sync with a URL of a server that has this snapshot, whole and cut short."""
    app = web.Application()
    app[BODY] = body
    app.router.add_get("/whole", answer_whole)
    app.router.add_get("/half", answer_half)
    async with TestServer(app) as server:
        return await asyncio.to_thread(emis_streams, settings, "sync", str(server.make_url(path)))


async def test_a_snapshot_behind_an_address_is_read(no_worker: Settings) -> None:
    lines = [a_class(f"Lớp {n}") for n in range(2_000)]
    done = await sync_from(no_worker, snapshot_of(*lines), "/whole")
    assert "sent 2,000 created" in done.stdout.decode(), done.stderr
    assert [e["className"] for e in await sent(no_worker, "created", lines[-1]["classId"])] == ["Lớp 1999"]


async def test_an_address_that_does_not_answer_200_is_told(no_worker: Settings) -> None:
    done = await sync_from(no_worker, b"", "/nowhere")
    assert done.returncode == 1
    assert "answers 404 Not Found, not 200" in done.stderr.decode()


async def test_a_download_that_breaks_off_is_told(no_worker: Settings) -> None:
    done = await sync_from(no_worker, snapshot_of(*[a_class() for _ in range(2_000)]), "/half")
    assert done.returncode == 1
    assert "could not be read to its end" in done.stderr.decode()


def test_a_file_that_is_not_there_is_wrong_use(no_worker: Settings, tmp_path: Path) -> None:
    done = emis_streams(no_worker, "sync", str(tmp_path / "nowhere.ndjson"))
    assert done.returncode == 2
    assert "No such file" in done.stderr.decode()
