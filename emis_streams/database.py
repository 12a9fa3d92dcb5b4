"""Engines and pools for the database that DATABASE_URL names: MySQL (or MariaDB) or SQLite.

The URL's driver is left to us: aiomysql and aiosqlite in workers, PyMySQL and sqlite3 for migrations.
"""

import sqlite3
import warnings
from pathlib import Path
from typing import Any, Literal

import pymysql
import stamina
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from emis_streams.database_urls import parse
from emis_streams.secret_urls import masked

Dialect = Literal["mysql", "sqlite"]

CONNECT_TIMEOUT_SECONDS = 5
LOCK_WAIT_SECONDS = 10
_RECYCLE_SECONDS = 1800
"""Below the 8 hours after which MySQL closes idle connections, and what proxies often allow."""

_SESSION = f"SET SESSION sql_mode = 'TRADITIONAL', time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}"
"""Strict, whatever the server's own mode is: too long a text must be an error and not be cut. (All of
these any user may set; `max_error_count` for one needs a privilege in MySQL 8.)"""

_VALUES_IS_DEPRECATED = r"'VALUES function' is deprecated"
"""MySQL's warning about each `VALUES(col)` of each statement (statements.py says why it is used)."""


def shown(url: URL) -> str:
    """The URL without its password, for messages."""
    return masked(url.render_as_string(hide_password=False))


def dialect_of(url: URL) -> Dialect:
    return "mysql" if url.get_backend_name() == "mysql" else "sqlite"


def writer_engine(database_url: str, pool_size: int) -> AsyncEngine:
    """For the one writer: its transactions hold the lock from their start (SQLite), see what is committed (MySQL)."""
    url = parse(database_url)
    if dialect_of(url) == "mysql":
        warnings.filterwarnings("ignore", _VALUES_IS_DEPRECATED, pymysql.err.Warning)
        return create_async_engine(
            _with_driver(url, "mysql+aiomysql"), **_mysql(pool_size), isolation_level="READ COMMITTED"
        )
    engine = create_async_engine(_with_driver(url, "sqlite+aiosqlite"), **_sqlite(url, pool_size))
    _take_lock_at_begin(engine.sync_engine)
    return engine


def statement_engine(database_url: str, pool_size: int) -> AsyncEngine:
    """Each statement is a transaction of its own, which nobody has to open and close."""
    url = parse(database_url)
    autocommit = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
    if dialect_of(url) == "mysql":
        return create_async_engine(_with_driver(url, "mysql+aiomysql"), **_mysql(pool_size), **autocommit)
    return create_async_engine(_with_driver(url, "sqlite+aiosqlite"), **_sqlite(url, pool_size), **autocommit)


def service_engines(database_url: str, pool_size: int) -> tuple[AsyncEngine, AsyncEngine]:
    """Of a service's own database: one for transactions, and one for reading, which waits for no transaction.

    On SQLite all transactions take one connection, and wait for it in their order: SQLite's own waiting for its lock
    is polling, which takes seconds while many wait. What is committed is on the disk: a client was told so.
    """
    url = parse(database_url)
    if dialect_of(url) == "mysql":
        return writer_engine(database_url, pool_size), statement_engine(database_url, pool_size)
    writer = create_async_engine(_with_driver(url, "sqlite+aiosqlite"), **_sqlite(url, 1))
    _take_lock_at_begin(writer.sync_engine, "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL")
    return writer, statement_engine(database_url, pool_size)


def migration_engine(database_url: str, answer_seconds: float | None = None) -> Engine:
    """For migrations, which Alembic runs synchronously.

    `answer_seconds`: MySQL's longest silence; None: statements that change tables may take hours.
    """
    url = parse(database_url)
    if dialect_of(url) == "mysql":
        arguments = {**_mysql(1)["connect_args"], "read_timeout": answer_seconds}
        return create_engine(_with_driver(url, "mysql+pymysql"), connect_args=arguments)
    engine = create_engine(_with_driver(url, "sqlite+pysqlite"), **_sqlite(url, 1))
    _take_lock_at_begin(engine)
    _use_write_ahead_log(engine)
    return engine


def _with_driver(url: URL, drivername: str) -> URL:
    return url.set(drivername=drivername)


def _mysql(pool_size: int) -> dict[str, Any]:
    return {
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": CONNECT_TIMEOUT_SECONDS,
        "pool_recycle": _RECYCLE_SECONDS,
        "pool_pre_ping": True,
        "connect_args": {
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "init_command": _SESSION,
        },
    }


def _sqlite(url: URL, pool_size: int) -> dict[str, Any]:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    return {
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": CONNECT_TIMEOUT_SECONDS,
        "connect_args": {"timeout": LOCK_WAIT_SECONDS, "isolation_level": None},
    }


def _take_lock_at_begin(engine: Engine, *pragmas: str) -> None:
    """SQLite: a transaction has the writer's lock from its start.

    (With the driver's own rule it would begin at the first INSERT: what was read before could have changed.)
    """

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in pragmas or ("PRAGMA synchronous = NORMAL",):
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _use_write_ahead_log(engine: Engine) -> None:
    """SQLite: readers go on while the writer writes. The file remembers it, so the migration that makes it says it.

    SQLite does not wait for a lock here, so two workers that start together need patience.
    """

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        for attempt in stamina.retry_context(on=sqlite3.OperationalError, attempts=None, timeout=LOCK_WAIT_SECONDS):
            with attempt:
                connection.execute("PRAGMA journal_mode = WAL").close()
