"""A service's own database: what it keeps, what it was asked, and the events it has yet to send, in one transaction.

So a request that comes again is answered as it was before, and an event is sent if, and only if, what it tells of is
kept (the transactional outbox).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec
from sqlalchemy import Column, ColumnElement, MetaData, String, Table, delete, insert, literal_column, select
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emis_streams import database, topics
from emis_streams.columns import OPTIONS, TIME
from emis_streams.database_faults import Fault, fault_of, reason_of
from emis_streams.engine.topic_names import require_topic_name
from emis_streams.errors import Unavailable
from emis_streams.services import outbox_store, request_content
from emis_streams.services.errors import Refused
from emis_streams.services.messages import Request
from emis_streams.services.outbox_schema import create_tables
from emis_streams.services.outbox_store import KEY, LARGE, Event, OutboxStore

__all__ = ["Database", "Event", "Transaction", "Work"]

metadata = MetaData()
_POOL_SIZE = 4
_OUTBOX_POOL_SIZE = 3
"""Requests that wait for a connection do not keep events from being sent."""
_FORGOTTEN_AT_ONCE = 500
"""Requests whose keys one transaction deletes: some ten milliseconds of a disk."""
_FORGET_REST = 3.0
"""The rest after such a transaction, as a multiple of its time: forgetting takes a quarter of the writer at most."""

executed_requests = Table(
    "ExecutedRequests",
    metadata,
    Column("Pattern", KEY, primary_key=True),
    Column("IdempotencyKey", KEY, primary_key=True),
    Column("Fingerprint", String(64), nullable=False),
    Column("Result", LARGE, nullable=False),
    Column("ExecutedAt", TIME, nullable=False, index=True),
    **OPTIONS,
)
"""What was carried out. `Fingerprint` is that of what was asked (`request_content.py`); `Result` is JSON."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Transaction:
    """Of one request: what it changes, and the events that tell of it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.execute = connection.execute
        self._connection = connection
        self.n_events = 0

    async def emit(self, event: Event) -> None:
        """It is sent after the commit, at least once. Raises Refused if no topic would take it, InvalidTopicName."""
        require_topic_name(event.topic)
        n_bytes = len(event.key.encode()) + len(event.value)
        if n_bytes > topics.MAX_RECORD_BYTES:
            raise Refused(
                "too-large", f"an event of {n_bytes} bytes for {event.topic}, {topics.MAX_RECORD_BYTES} at most"
            )
        await outbox_store.add(self._connection, event)
        self.n_events += 1


Work = Callable[[Transaction], Awaitable[Any]]
"""What a request does, in its transaction; returns what is answered."""
Now = Callable[[], datetime]
"""With a time zone."""


class Database:
    """Raises Unavailable from whatever asks it, while it is away."""

    def __init__(
        self, engine: AsyncEngine, readers: AsyncEngine, outbox: OutboxStore, tables: MetaData, now: Now
    ) -> None:
        self.has_events = asyncio.Event()
        """Set when a transaction with events was committed."""
        self.outbox = outbox
        self._engine = engine
        self._readers = readers
        self._tables = tables
        self._now = now

    @classmethod
    def open(cls, database_url: str, tables: MetaData, now: Now = lambda: datetime.now(UTC)) -> Self:
        """With connections made when needed; `tables` are the service's own. Raises InvalidSetting.

        `now` is a clock that all instances of the service share, as what they were asked is forgotten by its time.
        """
        outbox = OutboxStore(database.statement_engine(database_url, _OUTBOX_POOL_SIZE))
        return cls(*database.service_engines(database_url, _POOL_SIZE), outbox, tables, now)

    async def prepare(self) -> None:
        """Makes the tables that are missing, and migrates the outbox of an earlier version."""
        async with self.transaction("making the tables") as connection:
            await connection.run_sync(create_tables, metadata, outbox_store.metadata, self._tables)

    async def close(self) -> None:
        await self._readers.dispose()
        await self._engine.dispose()
        await self.outbox.close()

    @asynccontextmanager
    async def reading(self, what: str) -> AsyncIterator[AsyncConnection]:
        """Each statement sees what is committed, and waits for no transaction."""
        async with _unavailable(what), self._readers.connect() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self, what: str) -> AsyncIterator[AsyncConnection]:
        """Committed at the end of the block; `what` is what was to be done, if it cannot be."""
        async with _unavailable(what), self._engine.begin() as connection:
            yield connection

    async def ping(self) -> None:
        """Returns if the database answers."""
        async with self.transaction("asking the database") as connection:
            await connection.execute(select(1))

    async def once(self, request: Request, work: Work) -> Any:
        """The answer to the request: of `work`, or of what was carried out for its key before.

        Raises Refused if the key came with another content, and what `work` raises: then nothing is kept.
        """
        async with _unavailable(request.pattern):
            try:
                return await self._once(request, work)
            except IntegrityError:  # Another instance has carried it out meanwhile.
                return await self._once(request, work)

    async def _once(self, request: Request, work: Work) -> Any:
        async with self._engine.begin() as connection:
            found = (await connection.execute(_executed(request))).one_or_none()
            if found is None:
                transaction = Transaction(connection)
                result = await work(transaction)
                await connection.execute(_note(request, result, self._now()))
        if found is None:
            if transaction.n_events:
                self.has_events.set()
            return result
        if not request_content.is_fingerprint_of(found.Fingerprint, request.value):
            raise Refused("key-reused", f"idempotency key {request.idempotency_key} came with another content")
        return _decode(found.Result)

    async def forget_requests(self, older_than: timedelta, batch_rows: int = _FORGOTTEN_AT_ONCE) -> int:
        """Deletes the keys of requests that were carried out longer ago, and returns how many.

        In batches, each a transaction, with rests between them: the writer is free for others most of the time.
        """
        limit = self._now().replace(tzinfo=None) - older_than
        deletion = _deletion_of_old(self._engine.dialect.name, limit, batch_rows)
        n_forgotten = 0
        while True:
            began = time.monotonic()
            async with self.transaction("forgetting old requests") as connection:
                n_rows = (await connection.execute(deletion)).rowcount
            n_forgotten += n_rows
            if n_rows < batch_rows:
                return n_forgotten
            await asyncio.sleep(_FORGET_REST * (time.monotonic() - began))


@asynccontextmanager
async def _unavailable(what: str) -> AsyncIterator[None]:
    """What the database says while it is away, or has lost its tables, is raised as Unavailable; `what` was to be done.

    What it refuses for good is a mistake of whoever asked.
    """
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        if fault_of(error) in (Fault.AWAY, Fault.SCHEMA):
            raise Unavailable(f"{what}: {reason_of(error)}") from error
        raise


def _deletion_of_old(dialect: str, limit: datetime, n_rows: int) -> Any:
    """Of at most `n_rows` requests before `limit`, found by the index on `ExecutedAt`.

    MySQL takes a LIMIT in DELETE, but not in a subquery of IN; SQLite, as Python has it, the other way round.
    """
    is_old = executed_requests.c.ExecutedAt < limit
    if dialect == "mysql":
        return delete(executed_requests).where(is_old).ext(mysql.limit(n_rows))
    row_id: ColumnElement[int] = literal_column("rowid")
    some = select(row_id).select_from(executed_requests).where(is_old).limit(n_rows)
    return delete(executed_requests).where(row_id.in_(some))


def _executed(request: Request) -> Any:
    table = executed_requests.c
    return select(table.Fingerprint, table.Result).where(
        table.Pattern == request.pattern, table.IdempotencyKey == request.idempotency_key
    )


def _note(request: Request, result: Any, now: datetime) -> Any:
    return insert(executed_requests).values(
        Pattern=request.pattern,
        IdempotencyKey=request.idempotency_key,
        Fingerprint=request_content.fingerprint(request.value),
        Result=_encode(result).decode(),
        ExecutedAt=now.replace(tzinfo=None),
    )
