"""The statements of the writer as text, made once by SQLAlchemy's compiler.

The text goes to the driver as it is, with tuples of values: compiling and processing per row would
cost more than the row. For MySQL it must keep the form that aiomysql sends as one multi-row INSERT:
every value a bare `%s`, and no `AS new` before `ON DUPLICATE KEY` (which SQLAlchemy writes when it
talks to a MySQL from 8.0.20 on; a dialect that was never connected does not). A test holds the two
together, since on MariaDB nobody would see the difference but for a tenth of the speed.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Table, case, func, literal_column, or_
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.dialects.mysql.aiomysql import MySQLDialect_aiomysql
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement

from emis_streams.database import Dialect
from emis_streams.replica.literals import literal_rows
from emis_streams.replica.values import Values

_EARLIER = "CreatedAt"


def upsert(table: Table, dialect: Dialect) -> str:
    """`INSERT` of a row that replaces the stored one, unless that has a higher `Version` (if the table has one).

    `CreatedAt` is the earlier of the two whichever wins: the rule of `rows.merged`.
    """
    return _upsert_mysql(table) if dialect == "mysql" else _upsert_sqlite(table)


def _given(table: Table) -> list[Column[Any]]:
    return [column for column in table.columns if column.computed is None]


def _upsert_mysql(table: Table) -> str:
    """MySQL assigns from left to right and later ones see the new values: so `Version` is the last."""
    changes: list[tuple[str, ColumnElement[Any]]] = [
        (c.name, _winning(c) if "Version" in table.c else _new(c))
        for c in sorted(_given(table), key=lambda c: c.name == "Version")
        if not c.primary_key
    ]
    insert = mysql.insert(table).on_duplicate_key_update(changes)
    names = [c.name for c in _given(table)]
    return _text(insert.compile(dialect=MySQLDialect_aiomysql(), column_keys=names))


def _winning(column: Column[Any]) -> ColumnElement[Any]:
    if column.name == _EARLIER:
        return func.LEAST(_new(column), _stored(column))
    version = column.table.c.Version
    return func.IF(_new(version) >= _stored(version), _new(column), _stored(column))


def _new(column: Column[Any]) -> ColumnElement[Any]:
    return literal_column(f"VALUES(`{column.name}`)")


def _stored(column: Column[Any]) -> ColumnElement[Any]:
    return literal_column(f"`{column.name}`")


def _upsert_sqlite(table: Table) -> str:
    insert = sqlite.insert(table)
    new = insert.excluded
    changes: dict[str, ColumnElement[Any]] = {c.name: new[c.name] for c in _given(table) if not c.primary_key}
    guard = None
    if "Version" in table.c:
        wins = new.Version >= table.c.Version
        guard = or_(wins, new[_EARLIER] < table.c[_EARLIER])
        changes = {name: case((wins, value), else_=table.c[name]) for name, value in changes.items()}
        changes[_EARLIER] = func.min(new[_EARLIER], table.c[_EARLIER])
    upsert = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=changes, where=guard)
    names = [c.name for c in _given(table)]
    return _text(upsert.compile(dialect=SQLiteDialect_aiosqlite(), column_keys=names))


def _text(compiled: SQLCompiler) -> str:
    return str(compiled)


class Upsert:
    """The upsert of one table, executed for many rows at once."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        self.text = upsert(table, dialect)
        self._takes_literals = dialect == "mysql"
        placeholders = ", ".join(["%s"] * len(_given(table)))
        self._before, _, self._after = self.text.partition(f"({placeholders})")

    async def execute(self, connection: AsyncConnection, rows: Sequence[Values]) -> None:
        """Values in the order of the columns that are not computed; raises what the driver raises."""
        literals = literal_rows(rows) if self._takes_literals else None
        if literals is None:
            await connection.exec_driver_sql(self.text, list(rows))
            return
        as_it_is = {"no_parameters": True}
        await connection.exec_driver_sql(self._before + literals + self._after, execution_options=as_it_is)
