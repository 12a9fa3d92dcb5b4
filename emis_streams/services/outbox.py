"""Publishes the events of a service's database in their order, and deletes them once the brokers have them.

Any number of instances may share a database: one of them leads, the others stand by and take over when it is gone.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from emis_streams import topics
from emis_streams.engine.patience import Waiting
from emis_streams.errors import Unavailable
from emis_streams.services.errors import NotSent
from emis_streams.services.outbox_producer import OutboxProducer
from emis_streams.services.outbox_store import LEASE_SECONDS, Backlog, OutboxStore, Pending

logger = logging.getLogger(__name__)

_MOST_AT_ONCE = 500
_LOOK_SECONDS = 0.25
"""Events of another instance, or of before a restart, wake nobody."""
_RENEW_SECONDS = LEASE_SECONDS / 4
_DATABASE_SECONDS = 10.0
"""A database that answers nothing, not even an error, is taken for one that is away."""
_STEP_SECONDS = 60.0
"""Most time until opening a producer, sending and deleting have said that they cannot."""
_LAST_SECONDS = 1.0


@dataclass
class Counts:
    sent: int = 0


class OutboxPublisher:
    """`run` publishes until cancelled, at least once: a crash between sending and deleting causes a resend."""

    def __init__(self, store: OutboxStore, has_events: asyncio.Event, client: Mapping[str, Any], service: str) -> None:
        """`has_events` is set when an event was committed; `client`: arguments of every Kafka client."""
        self.counts = Counts()
        self.backlog: Backlog | None = None
        """As last seen, a few seconds ago."""
        self.last_progress = time.monotonic()
        """When it last sent an event, or found that there was nothing to do."""
        self._store = store
        self._has_events = has_events
        self._client = client
        self._service = service
        self._producer: OutboxProducer | None = None
        self._outbox_id = ""
        self._leads_until = 0.0
        self._at_once = _MOST_AT_ONCE
        self._sending = Waiting(lambda text: logger.warning("outbox: %s", text))
        self._leasing = Waiting(lambda text: logger.warning("outbox: %s", text))

    @property
    def is_leader(self) -> bool:
        """Whether this instance holds the lease."""
        return time.monotonic() < self._leads_until

    @property
    def waiting_for(self) -> str | None:
        """Why nothing can be sent now; None if nothing keeps it from sending."""
        return self._sending.reason or self._leasing.reason

    def standstill(self, now: float, limit_seconds: float) -> str | None:
        """Why nothing is sent for longer than the limit, by a monotonic time; None: it is, or is waited for."""
        if self.waiting_for is not None or now - self.last_progress <= limit_seconds + _STEP_SECONDS:
            return None
        return f"the outbox has made no progress for {now - self.last_progress:.0f} s"

    async def run(self) -> None:
        """Raises non-retryable errors only."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_lease())
                group.create_task(self._publish())
        finally:
            await self._close_producer()
            with suppress(Unavailable, TimeoutError):  # It expires.
                await asyncio.wait_for(self._store.release_lease(), _LAST_SECONDS)

    # -- the lease ------------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        while True:
            await self._leasing.for_(self._renew, Unavailable)
            await asyncio.sleep(_RENEW_SECONDS)

    async def _renew(self) -> None:
        began = time.monotonic()
        async with _answers_in_time():
            outbox_id = await self._store.take_lease()
            self.backlog = await self._store.backlog()
        was_leader, self._leads_until = self.is_leader, 0.0
        if outbox_id is None:
            if was_leader:
                logger.warning("outbox: another instance has taken over sending")
            return
        self._outbox_id, self._leads_until = outbox_id, began + LEASE_SECONDS
        if not was_leader:
            logger.info("outbox: this instance sends the events")
            self._has_events.set()

    # -- sending --------------------------------------------------------------------------------

    async def _publish(self) -> None:
        while True:
            self._has_events.clear()
            await self._sending.for_(self._send_all, NotSent, Unavailable)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._has_events.wait(), _LOOK_SECONDS)

    async def _send_all(self) -> None:
        """Sends what there is while this instance leads. After an error the next producer fences this one."""
        try:
            while self.is_leader and (events := await self._next_events()):
                await self._send(events)
        except BaseException:
            await self._close_producer()
            raise
        if not self.is_leader:
            await self._close_producer()
        self.last_progress = time.monotonic()

    async def _next_events(self) -> list[Pending]:
        """Read after earlier producers are fenced: none of them sends an event later than this one does."""
        if self._producer is None:
            self._producer = await OutboxProducer.open(
                self._client, topics.outbox_transactional_id(self._service, self._outbox_id)
            )
        async with _answers_in_time():
            return await self._store.events(self._at_once)

    async def _send(self, events: list[Pending]) -> None:
        assert self._producer is not None
        try:
            await self._producer.send([pending.event for pending in events])
        except NotSent:
            self._at_once = max(1, self._at_once // 2)  # Brokers may be too slow for so many within the time-out.
            raise
        async with _answers_in_time():
            await self._store.delete(events)
        self._at_once = min(_MOST_AT_ONCE, 2 * self._at_once)
        self.counts.sent += len(events)
        self.last_progress = time.monotonic()

    async def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()


@asynccontextmanager
async def _answers_in_time() -> AsyncIterator[None]:
    """Raises Unavailable if the database takes longer than _DATABASE_SECONDS."""
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            yield
    except TimeoutError:
        raise Unavailable(f"the database has not answered for {_DATABASE_SECONDS:g} s") from None
