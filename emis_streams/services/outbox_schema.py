"""Makes a service's tables, and brings the outbox of earlier versions up to date, events and their order kept.

An earlier version may still be running on the same database: it names its columns, so it works on with the new table.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, MetaData, Table, inspect, text
from sqlalchemy.schema import CreateColumn, CreateTable

from emis_streams.errors import Unavailable
from emis_streams.services.outbox_store import outbox

_LOCK_NAME = "emis-streams-service-tables"
_LOCK_WAIT_SECONDS = 30
_ADDED = (outbox.c.Token, outbox.c.AddedAt)
"""Columns that e687981's table lacks."""


def create_tables(connection: Connection, *tables: MetaData) -> None:
    """Makes the tables that are missing and migrates the outbox, one instance at a time.

    Raises Unavailable if another instance does the same for longer than 30 s, and sqlalchemy.exc.SQLAlchemyError.
    """
    with _alone(connection):
        for some in tables:
            some.create_all(connection)
        if connection.dialect.name == "sqlite":
            _migrate_sqlite(connection)
        else:
            _migrate_mysql(connection)


def _migrate_sqlite(connection: Connection) -> None:
    """SQLite cannot add AUTOINCREMENT to a table: a new one takes its place, in the caller's transaction."""
    found = connection.scalar(text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'Outbox'"))
    if "AUTOINCREMENT" in str(found).upper() and not _missing_columns(connection):
        return
    replacement = outbox.to_metadata(MetaData(), name="OutboxNew")
    kept = [column.name for column in outbox.columns if column.name in _names(connection)]
    columns = ", ".join(f'"{name}"' for name in kept)
    connection.execute(text('DROP TABLE IF EXISTS "OutboxNew"'))
    connection.execute(CreateTable(replacement))
    connection.execute(text(f'INSERT INTO "OutboxNew" ({columns}) SELECT {columns} FROM "Outbox" ORDER BY "Id"'))
    connection.execute(text('DROP TABLE "Outbox"'))
    connection.execute(text('ALTER TABLE "OutboxNew" RENAME TO "Outbox"'))


def _migrate_mysql(connection: Connection) -> None:
    """Waits shortly for transactions that use the table; the caller tries again."""
    missing = _missing_columns(connection)
    if not missing:
        return
    connection.execute(text(f"SET SESSION lock_wait_timeout = {_LOCK_WAIT_SECONDS}"))
    for name in missing:
        column = CreateColumn(outbox.c[name]).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {_quoted(connection, outbox)} ADD COLUMN {column}"))


def _missing_columns(connection: Connection) -> list[str]:
    found = _names(connection)
    return [column.name for column in _ADDED if column.name not in found]


def _names(connection: Connection) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(outbox.name)}


def _quoted(connection: Connection, table: Table) -> str:
    return connection.dialect.identifier_preparer.format_table(table)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """MySQL commits after each DDL statement; in SQLite the caller's transaction (`BEGIN IMMEDIATE`) is enough."""
    if connection.dialect.name == "sqlite":
        yield
        return
    name = {"name": _LOCK_NAME, "wait": _LOCK_WAIT_SECONDS}
    got = connection.scalar(text("SELECT GET_LOCK(CONCAT(:name, '.', MD5(DATABASE())), :wait)"), name)
    if got != 1:
        raise Unavailable(f"another instance has been making the service's tables for {_LOCK_WAIT_SECONDS} s")
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            connection.execute(text("SELECT RELEASE_LOCK(CONCAT(:name, '.', MD5(DATABASE())))"), name)
