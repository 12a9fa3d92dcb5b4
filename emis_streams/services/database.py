"""A service's own database: what it keeps, what it was asked, and the events it has yet to send, in one transaction.

So a request that comes again is answered as it was before, and an event is sent if, and only if, what it tells of is
kept (the transactional outbox).
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emis_streams import database, topics, tracing
from emis_streams.columns import OPTIONS, TIME
from emis_streams.database_faults import Fault, fault_of, reason_of
from emis_streams.engine.topic_names import require_topic_name
from emis_streams.errors import Unavailable
from emis_streams.services.errors import Refused
from emis_streams.services.messages import Request

metadata = MetaData()
KEY = String(255).with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
"""Compares as bytes, never by a language's rules."""
_LARGE = Text(16_000_000)
_POOL_SIZE = 4
_MOST_EVENT_BYTES = topics.MAX_MESSAGE_BYTES - 1024
"""Room for what the brokers add."""

executed_requests = Table(
    "ExecutedRequests",
    metadata,
    Column("Pattern", KEY, primary_key=True),
    Column("IdempotencyKey", KEY, primary_key=True),
    Column("Fingerprint", String(64), nullable=False),
    Column("Result", _LARGE, nullable=False),
    Column("ExecutedAt", TIME, nullable=False, index=True),
    **OPTIONS,
)
"""What was carried out. `Fingerprint` is the SHA-256 of what was asked, in hexadecimal; `Result` is JSON."""

outbox = Table(
    "Outbox",
    metadata,
    Column("Id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("Topic", String(249), nullable=False),
    Column("EventKey", KEY, nullable=False),
    Column("Event", _LARGE, nullable=False),
    Column("Traceparent", String(55)),
    **OPTIONS,
)
"""Events that the brokers have not acknowledged yet, in their order. (As text: decision 0010.)"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Event(NamedTuple):
    """To be sent once what it tells of is kept."""

    topic: str
    key: str
    value: bytes
    """JSON."""
    traceparent: str | None = None
    """Of what it came about by."""


class Transaction:
    """Of one request: what it changes, and the events that tell of it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.execute = connection.execute
        self._connection = connection
        self.n_events = 0

    async def emit(self, event: Event) -> None:
        """It is sent after the commit, at least once. Raises Refused if no topic would take it, InvalidTopicName."""
        require_topic_name(event.topic)
        if len(event.key) + len(event.value) > _MOST_EVENT_BYTES:
            raise Refused("too-large", f"an event of {len(event.value)} bytes for {event.topic}")
        values = {
            "Topic": event.topic,
            "EventKey": event.key,
            "Event": event.value.decode(),
            "Traceparent": tracing.traceparent(),
        }
        await self._connection.execute(insert(outbox).values(values))
        self.n_events += 1


Work = Callable[[Transaction], Awaitable[Any]]
"""What a request does, in its transaction; returns what is answered."""


class Database:
    """Raises Unavailable from whatever asks it, while it is away."""

    def __init__(self, engine: AsyncEngine, tables: MetaData) -> None:
        self.has_events = asyncio.Event()
        """Set when a transaction with events was committed."""
        self._engine = engine
        self._tables = tables

    @classmethod
    def open(cls, database_url: str, tables: MetaData) -> Self:
        """With connections made when needed; `tables` are the service's own. Raises InvalidSetting."""
        return cls(database.writer_engine(database_url, _POOL_SIZE), tables)

    async def prepare(self) -> None:
        """Makes the tables that are missing."""
        async with self.transaction("making the tables") as connection:
            for tables in (metadata, self._tables):
                await connection.run_sync(tables.create_all)

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self, what: str) -> AsyncIterator[AsyncConnection]:
        """Committed at the end of the block; `what` is what was to be done, if it cannot be."""
        async with _unavailable(what), self._engine.begin() as connection:
            yield connection

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
        fingerprint = hashlib.sha256(request.value).hexdigest()
        async with self._engine.begin() as connection:
            found = (await connection.execute(_executed(request))).one_or_none()
            if found is None:
                transaction = Transaction(connection)
                result = await work(transaction)
                await connection.execute(_note(request, fingerprint, result))
        if found is None:
            if transaction.n_events:
                self.has_events.set()
            return result
        if found.Fingerprint != fingerprint:
            raise Refused("key-reused", f"idempotency key {request.idempotency_key} came with another content")
        return _decode(found.Result)

    async def events(self, most: int) -> list[tuple[int, Event]]:
        """Those that are to be sent, the oldest first, with their ids."""
        async with self.transaction("reading the outbox") as connection:
            rows = (await connection.execute(select(outbox).order_by(outbox.c.Id).limit(most))).all()
        return [(row.Id, Event(row.Topic, row.EventKey, row.Event.encode(), row.Traceparent)) for row in rows]

    async def count_events(self) -> int:
        """How many are still to be sent."""
        async with self.transaction("counting the outbox") as connection:
            return (await connection.execute(select(func.count()).select_from(outbox))).scalar_one()

    async def sent(self, ids: Sequence[int]) -> None:
        """Forgets events that the brokers have."""
        async with self.transaction("emptying the outbox") as connection:
            await connection.execute(delete(outbox).where(outbox.c.Id.in_(ids)))

    async def forget_requests(self, older_than: timedelta) -> None:
        """Who asks again after as long is answered anew."""
        limit = datetime.now(UTC).replace(tzinfo=None) - older_than
        async with self.transaction("forgetting old requests") as connection:
            await connection.execute(delete(executed_requests).where(executed_requests.c.ExecutedAt < limit))


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


def _executed(request: Request) -> Any:
    table = executed_requests.c
    return select(table.Fingerprint, table.Result).where(
        table.Pattern == request.pattern, table.IdempotencyKey == request.idempotency_key
    )


def _note(request: Request, fingerprint: str, result: Any) -> Any:
    return insert(executed_requests).values(
        Pattern=request.pattern,
        IdempotencyKey=request.idempotency_key,
        Fingerprint=fingerprint,
        Result=_encode(result).decode(),
        ExecutedAt=datetime.now(UTC).replace(tzinfo=None),
    )
