"""The replica's schema is made and kept by migrations, on SQLite and on MariaDB."""

from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from emis_streams import database
from emis_streams.errors import InvalidSetting, Unavailable
from emis_streams.replica import migrate
from emis_streams.replica.schema import metadata
from tests.services import free_port


@pytest.fixture(params=["sqlite", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new folder' / 'replica 100%.db'}"
    url: str = request.getfixturevalue("mariadb_url")
    return url


def tables_of(database_url: str) -> set[str]:
    engine = database.migration_engine(database_url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def execute(database_url: str, *statements: str) -> None:
    engine = database.migration_engine(database_url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_migrated_tables_are_the_ones_that_the_code_knows(database_url: str) -> None:
    migrate.upgrade(database_url)
    engine = database.migration_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "ReplicaSchemaVersion"})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


_DROP_INDEX = "DROP INDEX `ix_TeacherAssignments_AssignmentId`"
AS_IN_0_1_0 = {
    "sqlite": ("ALTER TABLE ReplicaPositions DROP COLUMN WrittenOffset", _DROP_INDEX),
    "mysql": ("ALTER TABLE ReplicaPositions DROP COLUMN WrittenOffset", f"{_DROP_INDEX} ON TeacherAssignments"),
}


def test_tables_of_the_last_release_get_what_is_new_and_keep_its_revision(database_url: str) -> None:
    """It has to find the revision that it knows: workers of both releases run side by side during an upgrade."""
    migrate.upgrade(database_url)
    dialect = "sqlite" if database_url.startswith("sqlite") else "mysql"
    position = "INSERT INTO ReplicaPositions (Topic, `Partition`, NextOffset, TopicId) VALUES ('t', 3, 7, 'id')"
    execute(database_url, *AS_IN_0_1_0[dialect], position)
    for _ in range(2):
        migrate.upgrade(database_url)
        test_migrated_tables_are_the_ones_that_the_code_knows(database_url)
    engine = database.migration_engine(database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM ReplicaSchemaVersion")) == "0001"
        assert connection.scalar(text("SELECT WrittenOffset FROM ReplicaPositions")) == 7
    engine.dispose()


def test_tables_of_a_newer_release_are_left_as_they_are(database_url: str) -> None:
    migrate.upgrade(database_url)
    execute(database_url, "UPDATE ReplicaSchemaVersion SET version_num = '0999'")
    migrate.upgrade(database_url)
    assert tables_of(database_url) == {*metadata.tables, "ReplicaSchemaVersion"}


def upgrade_when(both_are_ready: Barrier, database_url: str) -> None:
    both_are_ready.wait(60)
    migrate.upgrade(database_url)


def test_several_workers_may_start_at_once(database_url: str) -> None:
    context = get_context("spawn")
    both_are_ready = context.Barrier(2)
    workers = [context.Process(target=upgrade_when, args=(both_are_ready, database_url)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert tables_of(database_url) == {*metadata.tables, "ReplicaSchemaVersion"}


def test_an_interrupted_first_migration_is_finished(database_url: str) -> None:
    migrate.upgrade(database_url)
    execute(database_url, "DROP TABLE ReplicaPositions", "DROP TABLE Teachers", "DELETE FROM ReplicaSchemaVersion")
    migrate.upgrade(database_url)
    assert tables_of(database_url) == {*metadata.tables, "ReplicaSchemaVersion"}


def test_a_table_that_was_dropped_alone_is_named_with_the_way_out(database_url: str) -> None:
    migrate.upgrade(database_url)
    execute(database_url, "DROP TABLE ClassInfos")
    with pytest.raises(Unavailable, match="table ClassInfos was dropped from the replica: restore it, or drop all"):
        migrate.upgrade(database_url)


def test_a_server_that_is_not_there_is_waited_for() -> None:
    with pytest.raises(Unavailable, match=r"mysql.*127\.0\.0\.1") as raised:
        migrate.upgrade(f"mysql://emis:secret@127.0.0.1:{free_port()}/emis")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["mysql://localhost", "sqlite://", "sqlite:///:memory:", "nonsense", "postgresql://h/d"]
)
def test_a_url_that_names_no_usable_database_is_an_invalid_setting(url: str) -> None:
    with pytest.raises(InvalidSetting, match="DATABASE_URL="):
        migrate.upgrade(url)


@pytest.mark.parametrize("url", ["mysql://nowhere.invalid/emis", "sqlite:///nowhere/replica.db"])
def test_the_statements_can_be_printed_without_a_database(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    migrate.print_sql(url)
    printed = capsys.readouterr().out
    assert printed.count("CREATE TABLE") == len(metadata.tables) + 1
    assert "ix_ClassInfos_HomeroomTeacherId" in printed
