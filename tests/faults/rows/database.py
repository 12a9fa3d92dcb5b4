"""The replica's database: killed, read-only, slow, locked, full of connections, restored, emptied.

Ingestion and pages must not notice any of it; the replica is level again afterwards by itself.
"""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql

from emis_streams.local.ports import HOST
from tests.faults.course import Course, Evidence, Row
from tests.faults.rows.logs import NewLines
from tests.faults.stage import Stage, until

_LOCK_WAIT_SECONDS = 10.0
"""What the replica's sessions set (emis_streams/database.py)."""
_LIMIT_SECONDS = 15.0
_FRESH_LOOK_SECONDS = 0.15
"""InnoDB shows the same transactions again to who asks within 0.1 s of the last time."""


def _connection(stage: Stage, *, as_root: bool = True) -> "pymysql.Connection[Any]":
    """Not through the proxy."""
    user, password = ("root", "") if as_root else ("emis", "emis")
    return pymysql.connect(
        host=HOST, port=stage.mariadb.port, user=user, password=password, database="emis", autocommit=True
    )


@contextmanager
def _root(stage: Stage) -> "Iterator[pymysql.cursors.Cursor]":
    connection = _connection(stage)
    try:
        yield connection.cursor()
    finally:
        connection.close()


def _number(cursor: "pymysql.cursors.Cursor", query: str) -> int:
    cursor.execute(query)
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _n_open_transactions(cursor: "pymysql.cursors.Cursor") -> int:
    return _number(cursor, "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0")


async def _replica_lag(course: Course) -> dict[str, int]:
    """Records behind, of the ingesting group and of the replica's, as a worker tells them."""
    _, body = await asyncio.to_thread(course.workers[0].get, "/api/consumer-lag")
    return {
        group["groupId"]: sum(partition["lag"] or 0 for partition in group["partitions"]) for group in body["groups"]
    }


async def commit_cut(course: Course) -> Evidence:
    """The server commits, and its answer never arrives: whether it did is not known to the replica."""
    proxy = course.stage.db_proxy
    before = proxy.n_cut
    course.stage.set_knobs([proxy], cut_answer_to=b"COMMIT")
    await until(lambda: proxy.n_cut >= before + 3, _LIMIT_SECONDS, "three commits are cut")
    n_cut = proxy.n_cut - before
    course.stage.set_knobs([proxy], cut_answer_to=None)
    healed_at = time.monotonic()
    await course.rest(5)
    return Evidence(bit=n_cut >= 3, healed_at=healed_at, said={"commits_cut": n_cut})


async def killed(course: Course) -> Evidence:
    """SIGKILL while a transaction has written rows and has not committed."""
    stage = course.stage
    stage.set_knobs([stage.db_proxy], latency_seconds=0.1)  # so that transactions last
    n_open = 0
    with _root(stage) as cursor:

        def is_writing() -> bool:
            nonlocal n_open
            n_open = _n_open_transactions(cursor)
            return n_open > 0

        await until(is_writing, _LIMIT_SECONDS, "a transaction has written", _FRESH_LOOK_SECONDS)
        pid = stage.mariadb.process.pid
        stage.mariadb.process.kill()
    stage.set_knobs([stage.db_proxy], latency_seconds=0.0)
    await course.rest(5)
    stage.mariadb.start()
    return Evidence(bit=n_open > 0 and stage.mariadb.process.pid != pid, said={"open_transactions": n_open, "pid": pid})


async def read_only(course: Course) -> Evidence:
    """As a replica that was not promoted, or a failover that went wrong."""
    log = NewLines(course.workers)
    with _root(course.stage) as cursor:
        cursor.execute("SET GLOBAL read_only = ON")
        try:
            await until(lambda: bool(log.with_any(["1290"])), _LIMIT_SECONDS, "a write is refused")
            await course.rest(6)
        finally:
            cursor.execute("SET GLOBAL read_only = OFF")
    refused = log.with_any(["1290"])
    return Evidence(bit=bool(refused), said={"refused": len(refused), "first": refused[0][-160:]})


async def slow(course: Course) -> Evidence:
    """Each piece takes five seconds, either way."""
    course.stage.set_knobs([course.stage.db_proxy], latency_seconds=5.0)
    return await _ingests_without_database(course, 9)


async def hung(course: Course) -> Evidence:
    """The server's process stands still: connections stay open, nothing is answered."""
    process = course.stage.mariadb.process
    process.send_signal(signal.SIGSTOP)
    evidence = await _ingests_without_database(course, 9)
    process.send_signal(signal.SIGCONT)
    return evidence


async def _ingests_without_database(course: Course, seconds: float) -> Evidence:
    """Bites if the replica falls behind by what comes meanwhile, and ingestion does not."""
    before = await course.progress()
    await course.rest(seconds)
    lag = await _replica_lag(course)
    after = await course.progress()
    course.stage.proxies.do(course.stage.db_proxy.heal)
    ingested = after.committed - before.committed
    expected = course.row.events_per_second * seconds
    bit = lag["emis-teacher-service-replica"] > 0.3 * expected and ingested > 0.6 * expected
    return Evidence(bit=bit, said={"ingested": ingested, "lag": lag})


async def deadlock(course: Course) -> Evidence:
    """Another one has rows and wants positions, while the replica has positions and wants rows."""
    stage = course.stage
    with _root(stage) as cursor:
        before = _status(cursor, "INNODB_DEADLOCKS")
        _make_heavy(cursor)
        for _ in range(3):
            await _lock_the_other_way(stage)
        deadlocks = _status(cursor, "INNODB_DEADLOCKS") - before
    told = await _lock_rows(course)
    return Evidence(bit=deadlocks > 0 and bool(told), said={"deadlocks_1213": deadlocks, "health": told})


def _status(cursor: "pymysql.cursors.Cursor", name: str) -> int:
    return _number(
        cursor, f"SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = '{name}'"
    )


def _make_heavy(cursor: "pymysql.cursors.Cursor") -> None:
    """The transaction that changed fewer rows is the one that InnoDB gives up: it shall be the replica's."""
    cursor.execute("CREATE TABLE IF NOT EXISTS checks.Ballast (n INT)")


async def _lock_the_other_way(stage: Stage) -> None:
    other = _connection(stage)
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO checks.Ballast SELECT seq FROM seq_1_to_5000")
            cursor.execute("SELECT ClassId FROM ClassInfos FOR UPDATE")
            with _root(stage) as asker:
                waiting = "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'"
                # InnoDB renews what it answers there only if nobody has asked for 0.1 s.
                await until(lambda: _number(asker, waiting) > 0, _LIMIT_SECONDS, "the replica waits", 0.3)
            await asyncio.to_thread(cursor.execute, "SELECT * FROM ReplicaPositions FOR UPDATE")
            cursor.execute("ROLLBACK")
    finally:
        other.close()


async def _lock_rows(course: Course) -> str:
    """Until the replica's patience is over; what health tells then."""
    other = _connection(course.stage)
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT ClassId FROM ClassInfos FOR UPDATE")
            told = await _until_health_tells(course, "1205", _LOCK_WAIT_SECONDS + _LIMIT_SECONDS)
            cursor.execute("ROLLBACK")
    finally:
        other.close()
    return told


async def connections_exhausted(course: Course) -> Evidence:
    """Idle connections of others take all that the server gives."""
    stage = course.stage
    idle: list[pymysql.Connection[Any]] = []
    with _root(stage) as cursor:
        most = _number(cursor, "SELECT @@max_connections")
        cursor.execute("SET GLOBAL max_connections = 20")
        stage.set_knobs([stage.db_proxy], refuse=True)
        stage.proxies.do(stage.db_proxy.cut_all)
        try:
            await asyncio.to_thread(_take_all, stage, idle)
            stage.set_knobs([stage.db_proxy], refuse=False)
            told = await _until_health_tells(course, "Too many connections")
            await course.rest(5)
        finally:
            for connection in idle:
                connection.close()
            cursor.execute(f"SET GLOBAL max_connections = {most}")
    return Evidence(bit=bool(told), said={"taken": len(idle), "health": told})


async def _until_health_tells(course: Course, text: str, limit_seconds: float = _LIMIT_SECONDS) -> str:
    """What the health of a worker says of the replica, when it has this in it."""
    said: list[str] = []

    async def is_told() -> bool:
        reports = await asyncio.gather(*(asyncio.to_thread(worker.get, "/health") for worker in course.workers))
        said[:] = [told for _, body in reports if text in (told := json.dumps(body["checks"].get("replica")))]
        return bool(said)

    await until(is_told, limit_seconds, f"health tells: {text}", 0.3)
    return said[0][:300]


def _take_all(stage: Stage, idle: "list[pymysql.Connection[Any]]") -> None:
    """Connections of workers that were just cut end late: so twice."""
    for _ in range(2):
        try:
            while True:
                idle.append(_connection(stage, as_root=False))
        except pymysql.err.OperationalError as error:
            if error.args[0] != 1040:
                raise
        time.sleep(0.5)


async def small_packets(course: Course) -> Evidence:
    """The server takes less in one piece than a statement of many rows has: that is waited out, and told."""
    stage = course.stage
    with _root(stage) as cursor:
        most, buffer = _number(cursor, "SELECT @@max_allowed_packet"), _number(cursor, "SELECT @@net_buffer_length")
        cursor.execute("SET GLOBAL net_buffer_length = 1024")  # As much is always taken.
        cursor.execute("SET GLOBAL max_allowed_packet = 1024")
        stage.set_knobs([stage.db_proxy], refuse=True)
        stage.proxies.do(stage.db_proxy.cut_all)
        await course.rest(4)
        stage.set_knobs([stage.db_proxy], refuse=False)
        await course.rest(5)
        try:  # Often it is the end of the connection that is told, which the server has closed after it.
            told = await _until_health_tells(course, "the replica's database")
            lag = await _replica_lag(course)
        finally:
            cursor.execute(f"SET GLOBAL max_allowed_packet = {most}")
            cursor.execute(f"SET GLOBAL net_buffer_length = {buffer}")
            stage.proxies.do(stage.db_proxy.cut_all)
    return Evidence(bit=bool(told), said={"health": told, "lag": lag})


async def restored(course: Course) -> Evidence:
    """The application is locked out, an old dump is put in the place of the database, and it may come in again."""
    stage = course.stage
    dump = await asyncio.to_thread(_client, stage, "mariadb-dump", "--single-transaction", "emis")
    await course.rest(5)
    stage.set_knobs([stage.db_proxy], refuse=True)
    stage.proxies.do(stage.db_proxy.cut_all)
    with _root(stage) as cursor:
        last = _kept_offsets(cursor)
        await asyncio.to_thread(_client, stage, "mariadb", "emis", given=dump)
        restored_to = _kept_offsets(cursor)
    stage.set_knobs([stage.db_proxy], refuse=False)
    return Evidence(bit=restored_to < last, said={"offsets_before": last, "offsets_restored": restored_to})


def _kept_offsets(cursor: "pymysql.cursors.Cursor") -> int:
    return _number(cursor, "SELECT COALESCE(SUM(NextOffset), 0) FROM ReplicaPositions")


def _client(stage: Stage, program: str, *args: str, given: bytes | None = None) -> bytes:
    command = [program, "--no-defaults", f"--host={HOST}", f"--port={stage.mariadb.port}", "--user=root", *args]
    done = subprocess.run(command, input=given, capture_output=True, check=True, timeout=60, env=dict(os.environ))
    return done.stdout


async def emptied(course: Course) -> Evidence:
    """All rows of a table are deleted; then all tables with their positions; then the tables themselves are dropped."""
    stage = course.stage
    n_removed: list[int] = []
    with _root(stage) as cursor:
        n_removed.append(cursor.execute("DELETE FROM ClassInfos"))
        await until(lambda: _has_filled(cursor, n_removed[0]), 20, "ClassInfos is filled again", 0.2)
        tables = ("ClassInfos", "Teachers", "TeacherAssignments", "ReplicaPositions")
        n_removed.append(sum(cursor.execute(f"DELETE FROM {table}") for table in tables))
        await until(lambda: _has_filled(cursor, n_removed[0]), 20, "everything is filled again", 0.2)
        cursor.execute(f"DROP TABLE {', '.join((*tables, 'ReplicaSchemaVersion'))}")
        n_removed.append(_number(cursor, _N_TABLES) == 0)
        await until(lambda: _number(cursor, _N_TABLES) == 5, 20, "the tables are made again", 0.1)
    stage.watch_versions()
    return Evidence(bit=all(n_removed), said={"rows_deleted": n_removed[:2], "tables_dropped": bool(n_removed[2])})


_N_TABLES = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'emis'"


def _has_filled(cursor: "pymysql.cursors.Cursor", n_rows: int) -> bool:
    return _number(cursor, "SELECT COUNT(*) FROM ClassInfos") >= n_rows


ROWS = [
    Row("16", "the answer to MySQL's COMMIT is cut", commit_cut, in_ci=True),
    Row("16a", "MySQL is killed within a transaction", killed),
    Row("17", "MySQL is read-only", read_only),
    Row("18", "MySQL is slow", slow),
    Row("18a", "MySQL hangs", hung),
    Row("19", "deadlocks and lock waits in MySQL", deadlock),
    Row("20", "all of MySQL's connections are taken", connections_exhausted),
    Row("22", "MySQL takes small packets only", small_packets),
    Row("23", "MySQL is restored to an old backup", restored),
    Row("emptied", "MySQL is emptied while it runs", emptied),
]
