"""Brings the replica's schema to the newest version (Alembic); may be called by several workers at once."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from emis_streams import database, database_urls
from emis_streams.database_faults import reason_of
from emis_streams.errors import Unavailable
from emis_streams.replica.additions import add_missing
from emis_streams.replica.schema import metadata

VERSION_TABLE = "ReplicaSchemaVersion"
_FOLDER = Path(__file__).parent
_LOCK_NAME = "emis-streams-replica-migrate"
_LOCK_WAIT_SECONDS = 60
ANSWER_SECONDS = 20.0
"""A server that accepts connections and answers nothing is given up after so long."""
logging.getLogger("alembic").setLevel(logging.WARNING)  # It would tell at each look that there was nothing to do.
_one_at_a_time = Lock()
"""Alembic keeps what it is doing in module variables."""


def upgrade(database_url: str) -> None:
    """Makes or changes the tables; does nothing if they are as they should be, or if a newer release changed them.

    Raises Unavailable while the database cannot be reached, InvalidSetting for a URL that cannot be one.
    """
    engine = database.migration_engine(database_url)
    try:
        _require_answer(database_url)
        with _one_at_a_time, engine.connect() as connection, _alone(connection), connection.begin():
            config = _config()
            config.attributes["connection"] = connection
            if not _is_of_newer_release(connection, config):
                command.upgrade(config, "head")
            _check_tables(connection)
            add_missing(connection)
    except (SQLAlchemyError, OSError) as error:
        where = database.shown(engine.url)
        raise Unavailable(
            f"the replica's schema could not be brought up to date at {where}: {reason_of(error)}"
        ) from error
    finally:
        engine.dispose()


def _require_answer(database_url: str) -> None:
    """Raises SQLAlchemyError if the server answers nothing: the statements of migrations have no time-out."""
    probe = database.migration_engine(database_url, ANSWER_SECONDS)
    try:
        with probe.connect() as connection:
            connection.execute(text("SELECT 1"))
    finally:
        probe.dispose()


def _is_of_newer_release(connection: Connection, config: Config) -> bool:
    """Whether the schema has a revision that this release does not know: both run side by side during an upgrade."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    return not known.issuperset(context.get_current_heads())


def _check_tables(connection: Connection) -> None:
    """(Some databases keep names in lower case.)"""
    existing = {name.casefold() for name in inspect(connection).get_table_names()}
    missing = [name for name in metadata.tables if name.casefold() not in existing]
    if missing:
        raise Unavailable(
            f"table {missing[0]} was dropped from the replica: restore it, or drop all of the replica's tables,"
            " ReplicaSchemaVersion too; they are then made and filled again"
        )


def print_sql(database_url: str) -> None:
    """Writes the statements of all migrations to stdout, without a connection: for whoever must run them by hand."""
    config = _config()
    config.attributes["dialect"] = database.dialect_of(database_urls.parse(database_url))
    command.upgrade(config, "head", sql=True)


def _config() -> Config:
    config = Config(_FOLDER / "alembic.ini")
    config.set_main_option("script_location", str(_FOLDER / "migrations").replace("%", "%%"))
    return config


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """One worker at a time: MySQL commits after each DDL statement, so a transaction would not keep others out.

    In SQLite the transaction itself does (`BEGIN IMMEDIATE`).
    """
    if connection.dialect.name != "mysql":
        yield
        return
    name = {"name": _LOCK_NAME, "wait": _LOCK_WAIT_SECONDS}
    got = connection.scalar(text("SELECT GET_LOCK(CONCAT(:name, '.', MD5(DATABASE())), :wait)"), name)
    connection.commit()
    if got != 1:
        raise Unavailable(f"another worker has been changing the replica's schema for {_LOCK_WAIT_SECONDS} s")
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            connection.execute(text("SELECT RELEASE_LOCK(CONCAT(:name, '.', MD5(DATABASE())))"), name)
            connection.commit()
