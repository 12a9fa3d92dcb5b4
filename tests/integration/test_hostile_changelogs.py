"""Hostile records in the changelogs of real workers: before they start, while they run, at a takeover, for the replica.

The outcome is always the same: no process ends, each honest row is answered and is the last record of its key again,
and what is no row is left out, counted and listed.
"""

import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pytest

from emis_streams.local.readiness import ask
from emis_streams.partitioner import partition_of
from emis_streams.topics import CLASSES, PARTITIONS
from tests.integration import independent, raw_batches
from tests.integration.command_line import emis_streams
from tests.integration.raw_batches import RawRecord, batch_of
from tests.integration.worker_rig import Stack, Worker, a_class, new_id, two_workers
from tests.services import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SESSION_TIMEOUT_SECONDS = 6.0
ALL_ROLES = "ingest,replicate,serve"
NAMES_OF_NO_TEXT: list[tuple[bytes, bytes | None]] = [(b"tr\xc3\xa1ce \xff\xfe", b"\xfe\x00"), (b"\xff", None)]
"""Header names that are not UTF-8."""
UNDER_NO_ID = (b"test", b"", b"\xff\xfe", b"\x00position", b"\x00checked")


def values(class_id: str) -> list[bytes | None]:
    """What people and topic browsers put under a classId; the last one is a tombstone."""
    event = a_class(class_id, "hostile")
    digits = b'{"classId": "%b", "totalStudents": %b}' % (class_id.encode(), b"9" * 400)
    return [json.dumps(event).encode(), b"hello", b"", b"\xff" * 40, digits, b"1" * 400, b"[" * 20_000, None]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Both workers do everything, so that each can take over from the other."""
    folder = tmp_path_factory.mktemp("hostile")
    with two_workers(folder, ALL_ROLES, ALL_ROLES, session_timeout_seconds=SESSION_TIMEOUT_SECONDS) as stack:
        yield stack


class Changelog:
    """The changelog of classes, and honest classes that are there before anybody spoils it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def honest_classes(self, n: int, worker: Worker) -> dict[str, str]:
        """Names by id, once the worker shows them and the database has them."""
        classes = {new_id(): f"honest {k}" for k in range(n)}
        self._stack.send([a_class(class_id, name) for class_id, name in classes.items()])
        await until(lambda: shown(worker, classes) == classes, 60)
        await until(lambda: in_mysql(self._stack, classes) == classes, 60)
        return classes

    async def spoil(self, classes: Collection[str]) -> int:
        """Writes hostile records under these ids, under an unknown one and under none; how many there are to count.

        Each id ends with another one of them.
        """
        batches: list[tuple[str, int, bytes]] = []
        n_counted = len(UNDER_NO_ID)
        for n, class_id in enumerate([*classes, new_id()]):
            found, key = values(class_id), class_id.encode()
            turned = found[n % len(found) :] + found[: n % len(found)]
            of_key = [RawRecord(key, value, NAMES_OF_NO_TEXT if k % 2 else ()) for k, value in enumerate(turned)]
            batches.append((CLASSES.changelog, partition_of(key, PARTITIONS), batch_of(of_key)))
            n_counted += sum(value is not None for value in turned)
        for partition, key in enumerate(UNDER_NO_ID):
            batches.append((CLASSES.changelog, partition, batch_of([RawRecord(key, b"hello", NAMES_OF_NO_TEXT)])))
        assert set(await raw_batches.send_all(self._stack.broker, batches)) == {"NoError"}
        nobody = batch_of([RawRecord(None, b"hello")])
        answer = await raw_batches.send(self._stack.broker, CLASSES.changelog, 0, nobody)
        assert answer != "NoError", "brokers take no record without a key into a compacted topic"
        return n_counted

    def last(self, classes: Collection[str]) -> dict[str, bytes | None]:
        """The last record of each id, which is all that compaction leaves."""
        found = {(m.key() or b"").decode(errors="replace"): m.value() for m in self._records()}
        return {class_id: found.get(class_id) for class_id in classes}

    def _records(self) -> Iterator[Any]:
        return independent.records(self._stack.broker, [CLASSES.changelog])


def in_mysql(stack: Stack, classes: dict[str, str]) -> dict[str, str]:
    kept = independent.kept_in_mysql(stack.database_url, set(classes))
    return {key: str((row.fields or [None])[0]) for (_, key), row in kept.items()}


def shown(worker: Worker, classes: dict[str, str]) -> dict[str, str]:
    """Names by id, as the worker answers."""
    answers = {class_id: worker.get(f"/api/classes/{class_id}") for class_id in classes}
    return {class_id: body["className"] for class_id, (status, body) in answers.items() if status == 200}


def counted(worker: Worker) -> dict[str, int]:
    """Records that are no rows, by reader: the metric."""
    answer = ask(worker.settings.host, worker.settings.port, "/metrics")
    text = "" if answer is None else answer.body
    found = re.findall(r'^emis_changelog_invalid_records_total\{reader="([^"]+)"\} (\S+)$', text, re.MULTILINE)
    return {reader: int(float(n)) for reader, n in found}


Rows = Mapping[str, bytes | None]


async def comes_out_right(
    stack: Stack, worker: Worker, classes: dict[str, str], rows: Rows, n_invalid: int, pid: int | None
) -> None:
    """The process goes on; pages, changelog and database have the honest rows; what is none was counted and is told."""
    await until(lambda: counted(worker).get("read-model", 0) >= n_invalid, 60)
    await until(lambda: Changelog(stack).last(classes) == rows, 60, 0.3)
    assert shown(worker, classes) == classes
    await until(lambda: in_mysql(stack, classes) == classes, 60)
    assert worker.process.running
    assert worker.process.pid == pid, "the worker was started again"
    told = worker.get("/health")[1]["checks"]["changelogs"]
    assert told["status"] == "warn"
    assert "emis-streams changelogs check --repair" in told["output"]
    lag = "/api/consumer-lag?history=false"
    await until(lambda: worker.get(lag)[0] == 200)  # It was measured once.
    by_partition = worker.get(lag)[1]["invalidRecords"]
    assert sum(one["count"] for one in by_partition) >= n_invalid


async def test_records_that_are_there_before_a_worker_starts(parts: Stack) -> None:
    """It starts with what it kept, then with an empty folder, as a new node does."""
    stack, worker = parts, parts.ingesting
    worker.start()
    await worker.ready()
    changelog = Changelog(stack)
    classes = await changelog.honest_classes(9, worker)
    rows = changelog.last(classes)
    worker.process.stop()
    n_invalid = await changelog.spoil(classes)
    for is_empty in (False, True):
        if is_empty:
            worker.process.stop()
            shutil.rmtree(worker.data_dir)
        worker.start()
        await worker.ready()
        await comes_out_right(stack, worker, classes, rows, n_invalid, worker.process.pid)


async def test_records_that_arrive_while_a_worker_runs(parts: Stack) -> None:
    stack, worker = parts, parts.ingesting
    worker.start()
    await worker.ready()
    changelog, pid = Changelog(stack), worker.process.pid
    classes = await changelog.honest_classes(9, worker)
    before, rows = counted(worker), changelog.last(classes)
    n_invalid = await changelog.spoil(classes)
    await until(lambda: counted(worker)["read-model"] == before["read-model"] + n_invalid)
    await until(lambda: counted(worker)["tables"] == before["tables"] + n_invalid)
    await until(lambda: counted(worker)["replica"] == before["replica"] + n_invalid)
    await comes_out_right(stack, worker, classes, rows, n_invalid, pid)


async def test_records_that_arrive_while_nobody_owns_the_partition(parts: Stack) -> None:
    """The owner is killed; whoever takes its partitions over finds them."""
    stack, owner, other = parts, parts.ingesting, parts.serving
    for worker in (owner, other):
        worker.start()
        await worker.ready()
    changelog, pid = Changelog(stack), other.process.pid
    classes = await changelog.honest_classes(30, other)
    before, rows = counted(other), changelog.last(classes)
    owner.process.kill()
    n_invalid = await changelog.spoil(classes)
    await until(lambda: counted(other)["read-model"] == before["read-model"] + n_invalid, 60)
    await comes_out_right(stack, other, classes, rows, n_invalid, pid)
    owner.start()
    await owner.ready()
    assert shown(owner, classes) == classes


async def test_what_is_left_is_listed_and_gone_after_the_repair(parts: Stack) -> None:
    worker = parts.ingesting
    worker.start()
    await worker.ready()
    listed = emis_streams(worker.settings, "changelogs", "check", "--json")
    assert listed.returncode == 1, listed.stderr
    keys = {json.loads(line)["key"] for line in listed.stdout.splitlines()}
    assert "test" in keys
    verified = emis_streams(worker.settings, "replica", "verify", "--wait", "30")
    assert b"are no rows" in verified.stdout, verified.stderr
    repaired = emis_streams(worker.settings, "changelogs", "check", "--repair", "--yes")
    assert repaired.returncode == 0, repaired.stderr
    again = emis_streams(worker.settings, "changelogs", "check")
    assert again.returncode == 0, again.stdout
    verified = emis_streams(worker.settings, "replica", "verify", "--wait", "30")
    assert verified.returncode == 0, verified.stdout
    assert worker.process.running
