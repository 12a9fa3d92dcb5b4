"""Events → table → changelog → MariaDB rows, by one worker, until the replica has everything."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pymysql  # type: ignore[import-untyped]

from benchmarks.data import SOURCES
from benchmarks.stage import Stage
from benchmarks.tables import TIME_AND_RANK_BYTES, SourceFold, Versions, compare
from benchmarks.watching import Progress, watch
from emis_streams import topics
from emis_streams.local.process import Child

_NO_SUCH_TABLE = 1146


def run(stage: Stage, child: Child, most_seconds: float) -> None:
    """The worker (roles ingest and replicate) has just been started on empty tables; reports and checks."""
    places = stage.brokers.places(SOURCES)
    goal = sum(stage.brokers.ends(places).values())
    with _connection(stage.database_url) as database:
        measured = _Measured(stage, database, goal)
        progress, usage = watch(child, measured.how_far, goal, most_seconds, stage.say)
        kept = _versions(database)
    fold = SourceFold(stage.brokers).catch_up()
    verdict = compare(kept, fold, fold)
    figures: dict[str, Any] = {
        "events_per_second": progress.rate(0.05, 1.0),
        "records_per_second": measured.records.rate(0.05, 1.0),
        "rows_per_second": len(kept) * 0.95 / (progress.second_of(goal) - progress.second_of(0.05 * goal)),
        "events": progress.done,
        "rows": len(kept),
        "seconds": progress.moments[-1][0],
        "cpu_seconds": usage.cpu_seconds,
        "rss_max_mb": usage.rss_max_bytes / 2**20,
        "table_equal": verdict.equal,
        "table_said": verdict.said,
    }
    stage.results.add("pipeline", contender="ours", label="emis-streams, ROLES=ingest,replicate", **figures)
    stage.say(
        f"pipeline into MariaDB: {figures['events_per_second']:,.0f} events/s,"
        f" {figures['records_per_second']:,.0f} changelog records/s, {len(kept):,} rows: {verdict.said}"
    )


class _Measured:
    """How many source events the replica covers.

    Its positions are in the changelog; as that grows along with what is committed of the sources, the
    same share of both is taken. The end is exact: all committed and all of the changelog in MariaDB.
    """

    def __init__(self, stage: Stage, database: "pymysql.Connection[Any]", goal: int) -> None:
        self._brokers = stage.brokers
        self._database = database
        self._goal = goal
        self._sources = stage.brokers.places(SOURCES)
        self._changelog = stage.brokers.places([topics.CLASSES.changelog])
        self.records = Progress([(0.0, 0)])
        self._begin: float | None = None

    def how_far(self) -> int:
        now = time.monotonic()
        self._begin = self._begin or now
        replicated = _positions(self._database)
        self.records.note(now - self._begin, replicated)
        committed = sum(self._brokers.committed(topics.APP_ID, self._sources).values())
        written = sum(self._brokers.ends(self._changelog).values())
        if replicated == 0 or written == 0:
            return 0
        if committed == self._goal and replicated == written:
            return self._goal
        return min(self._goal - 1, committed * replicated // written)


@contextmanager
def _connection(url: str) -> Iterator["pymysql.Connection[Any]"]:
    at = urlsplit(url)
    connection = pymysql.connect(
        host=at.hostname or "",
        port=at.port or 3306,
        user=at.username,
        password=at.password or "",
        database=at.path.strip("/"),
        autocommit=True,
    )
    try:
        yield connection
    finally:
        connection.close()


def _positions(database: "pymysql.Connection[Any]") -> int:
    with database.cursor() as cursor:
        try:
            cursor.execute(
                "SELECT COALESCE(SUM(NextOffset), 0) FROM ReplicaPositions WHERE Topic = %s", [topics.CLASSES.changelog]
            )
        except pymysql.err.ProgrammingError as error:
            if error.args[0] == _NO_SUCH_TABLE:
                return 0  # the worker has not made its tables yet
            raise
        found = cursor.fetchone()
    return int(found[0]) if found else 0


def _versions(database: "pymysql.Connection[Any]") -> Versions:
    with database.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute("SELECT ClassId, Version, SourceEventId FROM ClassInfos")
        return {
            class_id.encode(): bytes.fromhex(version)[:TIME_AND_RANK_BYTES] + bytes.fromhex(event_id.replace("-", ""))
            for class_id, version, event_id in cursor
        }
