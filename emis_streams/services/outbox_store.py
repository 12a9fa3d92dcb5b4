"""The outbox in a service's database: events that the brokers have not acknowledged yet, and the lease to send them.

An event is inserted in the transaction whose change it describes, and deleted once the brokers have acknowledged it.
One instance at a time holds the lease. The lease only avoids contention: what keeps a late instance from sending is
the brokers' fence of transactional ids (decision 0019).
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emis_streams import tracing
from emis_streams.columns import OPTIONS
from emis_streams.database_faults import waited_for

metadata = MetaData()
KEY = String(255).with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
"""Compares as bytes, never by a language's rules."""
LARGE = Text(16_000_000)
MOST_COUNTED = 10_000
"""Events; that there are more makes no difference, and counting a million takes seconds each time."""
LEASE_SECONDS = 10
"""A leader that is killed is succeeded after this."""

outbox = Table(
    "Outbox",
    metadata,
    Column("Id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("Topic", String(249), nullable=False),
    Column("EventKey", KEY, nullable=False),
    Column("Event", LARGE, nullable=False),
    Column("Traceparent", String(55)),
    Column("Token", String(32)),
    Column("AddedAt", DateTime, server_default=func.current_timestamp()),
    sqlite_autoincrement=True,
    **OPTIONS,
)
"""In the order of `Id`. (Events are text: decision 0010.)

`Token` is random and identifies the row where `Id` may not: InnoDB before MariaDB 10.2.4 and MySQL 8 gives a number
again after a restart, SQLite without AUTOINCREMENT at once. It is null in rows of versions before 0.9.
"""

lease = Table(
    "OutboxLease",
    metadata,
    Column("Name", String(10), primary_key=True),
    Column("OutboxId", String(32), nullable=False),
    Column("Owner", String(32), nullable=False),
    Column("OwnerText", String(255), nullable=False),
    Column("ExpiresAt", BigInteger, nullable=False),
    **OPTIONS,
)
"""One row. `ExpiresAt` is Unix time in seconds by the database's clock; `OutboxId` names the outbox to the brokers."""

_ROW = "outbox"


class Event(NamedTuple):
    """To be sent once the change that it describes is committed."""

    topic: str
    key: str
    value: bytes
    """JSON."""
    traceparent: str | None = None
    """Of the span in which it was emitted."""


class Pending(NamedTuple):
    """A row of the outbox."""

    id: int
    token: str | None
    event: Event


@dataclass(frozen=True)
class Backlog:
    """What is still to be sent."""

    n_events: int
    """MOST_COUNTED at most."""
    oldest_seconds: float
    """Age of the oldest event by the database's clock; 0 without events."""


async def add(connection: AsyncConnection, event: Event) -> None:
    """Inserts the event in the caller's transaction."""
    values = {
        "Topic": event.topic,
        "EventKey": event.key,
        "Event": event.value.decode(),
        "Traceparent": tracing.traceparent(),
        "Token": uuid4().hex,
    }
    await connection.execute(insert(outbox).values(values))


class OutboxStore:
    """For the publisher. Each method raises Unavailable while the database is away.

    Statements are transactions of their own: a process that is frozen in the middle holds no locks of the database.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """`engine` commits each statement by itself."""
        self._engine = engine
        self._owner = uuid4().hex

    async def close(self) -> None:
        await self._engine.dispose()

    async def events(self, most: int) -> list[Pending]:
        """Those to be sent next, the oldest first."""
        async with waited_for("reading the outbox"), self._engine.begin() as connection:
            rows = (await connection.execute(select(outbox).order_by(outbox.c.Id).limit(most))).all()
        return [
            Pending(row.Id, row.Token, Event(row.Topic, row.EventKey, row.Event.encode(), row.Traceparent))
            for row in rows
        ]

    async def delete(self, sent: Sequence[Pending]) -> None:
        """Deletes these rows, never another one that has got one of their numbers since."""
        tokens = [row.token for row in sent if row.token is not None]
        is_same = or_(outbox.c.Token.in_(tokens), outbox.c.Token.is_(None))
        statement = delete(outbox).where(outbox.c.Id.in_([row.id for row in sent]), is_same)
        async with waited_for("deleting sent events from the outbox"), self._engine.begin() as connection:
            await connection.execute(statement)

    async def backlog(self) -> Backlog:
        """How much is still to be sent; the oldest event is the first one."""
        first = select(outbox.c.AddedAt).order_by(outbox.c.Id).limit(1).scalar_subquery()
        some = select(outbox.c.Id).limit(MOST_COUNTED).subquery()
        statement = select(func.count(), first, _current_timestamp()).select_from(some)
        async with waited_for("counting the outbox"), self._engine.begin() as connection:
            n_events, oldest, now = (await connection.execute(statement)).one()
        return Backlog(n_events, max(0.0, (now - oldest).total_seconds()) if oldest else 0.0)

    async def take_lease(self) -> str | None:
        """Takes or renews the lease for LEASE_SECONDS; the id of the outbox, None if another instance holds the lease.

        An expiry further away than any lease lasts is one of before the database's clock went back.
        """
        now = _now_seconds(self._engine)
        is_free = or_(
            lease.c.Owner == self._owner, lease.c.ExpiresAt <= now, lease.c.ExpiresAt > now + 2 * LEASE_SECONDS
        )
        values = {"Owner": self._owner, "OwnerText": _own_text(), "ExpiresAt": now + LEASE_SECONDS}
        taking = update(lease).where(lease.c.Name == _ROW, is_free).values(values)
        reading = select(lease.c.OutboxId, lease.c.Owner).where(lease.c.Name == _ROW)
        async with waited_for("taking the outbox's lease"), self._engine.begin() as connection:
            await connection.execute(taking)
            found = (await connection.execute(reading)).one_or_none()
        if found is None:
            await self._add_lease()
            return await self.take_lease()
        return found.OutboxId if found.Owner == self._owner else None

    async def release_lease(self) -> None:
        """So that the next instance need not wait until it expires."""
        statement = update(lease).where(lease.c.Owner == self._owner).values(Owner="", OwnerText="", ExpiresAt=0)
        async with waited_for("releasing the outbox's lease"), self._engine.begin() as connection:
            await connection.execute(statement)

    async def lease_holder(self) -> str | None:
        """Host and process of the instance that holds the lease now; None if none does."""
        statement = select(lease.c.OwnerText).where(
            lease.c.Name == _ROW, lease.c.ExpiresAt > _now_seconds(self._engine)
        )
        async with waited_for("reading the outbox's lease"), self._engine.begin() as connection:
            return (await connection.execute(statement)).scalar_one_or_none()

    async def _add_lease(self) -> None:
        values = {"Name": _ROW, "OutboxId": uuid4().hex, "Owner": "", "OwnerText": "", "ExpiresAt": 0}
        async with waited_for("adding the outbox's lease"), self._engine.begin() as connection:
            with suppress(IntegrityError):  # Another instance has added it meanwhile.
                await connection.execute(insert(lease).values(values))


def _own_text() -> str:
    return f"{socket.gethostname()} (pid {os.getpid()})"[:255]


def _now_seconds(engine: AsyncEngine) -> ColumnElement[int]:
    if engine.dialect.name == "sqlite":
        return cast(func.strftime("%s", "now"), Integer)
    return func.unix_timestamp(type_=BigInteger)


def _current_timestamp() -> ColumnElement[Any]:
    """In the type of `AddedAt`, to the second."""
    return func.current_timestamp(type_=DateTime)
