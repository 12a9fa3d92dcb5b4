"""The replica's workers need a user who may change rows, but no table, once somebody else has made the tables."""

import pytest
from aiokafka import TopicPartition
from sqlalchemy import text

from emis_streams import database
from emis_streams.engine.follower import Position
from emis_streams.errors import Unavailable
from emis_streams.local import MariaDb
from emis_streams.replica import migrate
from emis_streams.replica.reader import ReplicaReader
from emis_streams.replica.writer import ReplicaSink
from tests.replica_rows import CLASSES, TOPIC_ID, class_row, id_of, slice_of
from tests.services import unique

RIGHTS = "SELECT, INSERT, UPDATE, DELETE"


async def refuse(tp: TopicPartition, _key: bytes, _row: bytes, reason: str) -> None:
    raise AssertionError(f"{tp}: {reason}")


def as_user(mariadb: MariaDb, owner_url: str) -> str:
    """URL of a new user of the same database with rights to rows only."""
    name = owner_url.rpartition("/")[2]
    user = unique("rows").replace("-", "_")
    mariadb.execute(f"CREATE USER '{user}'@'%' IDENTIFIED BY '{user}'; GRANT {RIGHTS} ON `{name}`.* TO '{user}'@'%';")
    return mariadb.url(name, user=user, password=user)


async def test_a_user_without_rights_to_tables_writes_and_reads_rows(mariadb: MariaDb, mariadb_url: str) -> None:
    migrate.upgrade(mariadb_url)
    url = as_user(mariadb, mariadb_url)
    sink, reader = ReplicaSink.open(url, refuse), ReplicaReader.open(url, 1)
    try:
        await sink.positions([CLASSES])
        await sink.apply([slice_of(CLASSES, {id_of(50): class_row(1)}, 7)])
        assert await sink.positions([CLASSES]) == {CLASSES: Position(7, TOPIC_ID)}
        found = await reader.class_(id_of(50))
        assert getattr(found, "class_name", None) == "10A1"
    finally:
        await sink.close()
        await reader.close()
    engine = database.migration_engine(url)
    with engine.connect() as connection, pytest.raises(Exception, match="DROP command denied"):
        connection.execute(text("DROP TABLE ClassInfos"))
    engine.dispose()


async def test_without_tables_it_waits_and_says_which_right_is_missing(mariadb: MariaDb, mariadb_url: str) -> None:
    sink = ReplicaSink.open(as_user(mariadb, mariadb_url), refuse)
    try:
        with pytest.raises(Unavailable, match=r"CREATE command denied"):
            await sink.positions([CLASSES])
    finally:
        await sink.close()
