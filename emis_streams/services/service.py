"""The base of all services: what one is called, what it answers, and its life from start to stop.

initialise clients → initialise resources → register health checks → register → … → drain → deregister → clean up
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar

import msgspec
from aiokafka.errors import KafkaError
from sqlalchemy import MetaData

import emis_streams
from emis_streams import topics
from emis_streams.broker_clock import BrokerClock
from emis_streams.engine.patience import Waiting
from emis_streams.engine.slices import Slice
from emis_streams.errors import Unavailable
from emis_streams.health_journal import HealthJournal
from emis_streams.health_report import HealthReport
from emis_streams.resources import Resources
from emis_streams.services import health
from emis_streams.services.breakers import Breakers
from emis_streams.services.circuit_breaker import Limits
from emis_streams.services.client import CallOptions, ServiceClient
from emis_streams.services.database import Database
from emis_streams.services.errors import NotSent
from emis_streams.services.health import HealthCheck
from emis_streams.services.kafka_carrier import KafkaCarrier, Sender
from emis_streams.services.messages import ReplyTo
from emis_streams.services.outbox import OutboxPublisher
from emis_streams.services.registry import Health, ServiceInfo
from emis_streams.services.registry_topic import TopicRegistry
from emis_streams.services.replies import Replies
from emis_streams.services.requests import DeadLetter, Handler, Requests
from emis_streams.settings import Settings

logger = logging.getLogger(__name__)

Run = Callable[[], Coroutine[Any, Any, None]]
"""What goes on beside a service, until it is cancelled."""
Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])

_LAST_WORD_SECONDS = 2.0
"""Most time to tell the registry of leaving: if nobody hears it, the lease runs out."""
_READY_POLL_SECONDS = 0.1
_HANDLER_SHARE = 0.75
"""Of the watchdog's time: a handler that does not end is given up before the process would be."""
_REQUESTS_KEPT = timedelta(days=7)
_FORGET_SECONDS = 3_600.0
_ANSWERS = "_answers_pattern"


def answers(pattern: str, type_: type) -> Callable[[Method], Method]:
    """Decorator of a service's method: it answers requests of this pattern, whose value is JSON of that type.

    The method gets what is asked for and the `Request`; it returns what JSON can say, or raises Refused or Unavailable.
    """

    def mark(method: Method) -> Method:
        setattr(method, _ANSWERS, (pattern, type_))
        return method

    return mark


class Service:
    """One process's service: a subclass says its name, port and tables, and has methods that answer patterns."""

    name: ClassVar[str]
    port: ClassVar[int]
    """Of its web views, unless PORT says another."""
    tables: ClassVar[MetaData | None] = None
    """Of its own database, if it has one."""
    asks: ClassVar[bool] = True
    """Whether it sends requests to other services, and so reads their replies."""

    @classmethod
    def database_url(cls, config: Settings) -> str | None:
        """Where its own database is; None if it has none."""
        if cls.tables is None:
            return None
        return config.service_database_url or f"sqlite:///{config.data_path / f'{cls.name}.db'}"

    def __init__(self, config: Settings, dead_letter: DeadLetter, clock: BrokerClock | None = None) -> None:
        """`dead_letter` keeps requests that nobody can answer; `clock` is the process's. Raises InvalidSetting."""
        client = config.kafka_client()
        self.config = config
        self.clock = clock or BrokerClock()
        """What is kept, sent or compared with other machines goes by the brokers' time."""
        self.started_at = datetime.now(UTC)
        """By the brokers' clock, once it is known."""
        self._began = time.monotonic()
        self.is_draining = False
        self.has_started = asyncio.Event()
        """Clients and resources are initialised."""
        self.sender = Sender(client)
        self.replies = Replies(client, ReplyTo(topics.reply_topic(self.name), config.reply_partition))
        limits = Limits(threshold=config.circuit_breaker_threshold, open_seconds=config.circuit_breaker_timeout / 1000)
        self.breakers = Breakers(limits)
        self.client = ServiceClient(KafkaCarrier(self.sender, self.replies, self.clock), self.breakers)
        self.registry = TopicRegistry(client, self.sender, clock=self.clock)
        handler_seconds = _HANDLER_SHARE * config.watchdog_timeout_seconds
        self.requests = Requests(self.sender, dead_letter, clock=self.clock, handler_seconds=handler_seconds)
        for pattern, type_, handler in self._handlers():
            self.requests.answers(pattern, type_)(handler)
        self.database = self._database()
        self.health_checks: dict[str, HealthCheck] = {}
        self.journal = HealthJournal()
        """Which of these checks changed its state when; one with a file is kept over restarts."""
        self.standstill: Callable[[], str | None] = lambda: None
        """What makes no progress though it should: the watchdog of the process says it."""
        self.not_ready: list[Callable[[], str | None]] = []
        """Each says what is waited for until requests can be answered; None: nothing."""
        self._along: list[Run] = []
        self.publisher: OutboxPublisher | None = None
        """Of its outbox, once resources are initialised."""
        self._health = Health.HEALTHY
        self._resources = Resources()
        self._waiting = Waiting(lambda text: logger.warning("%s: %s", self.name, text))

    # -- what a service may add -----------------------------------------------------------------

    async def initialise_clients(self) -> None:
        """Connects what others are called with."""
        await self._waiting.for_(self.sender.start, KafkaError, OSError)
        await self._waiting.for_(self._learn_the_brokers_time, NotSent)
        self.run_along(self.registry.run)
        if self.asks:
            self.run_along(self.replies.run)

    async def initialise_resources(self) -> None:
        """Makes ready what the service itself needs."""
        if self.database is None:
            return
        await self._waiting.for_(self.database.prepare, Unavailable)
        self.publisher = OutboxPublisher(
            self.database.outbox, self.database.has_events, self.config.kafka_client(), self.name
        )
        self.run_along(self.publisher.run)
        self.run_along(self._forget_requests)

    def register_health_checks(self) -> None:
        """Adds to `health_checks` what `/health` tells."""
        self.health_checks["brokers"] = health.brokers(self._broken_off, can_do_without=not self.requests.patterns)
        if self.database is not None:
            self.health_checks["database"] = health.database(self.database)
        if self.publisher is not None:
            self.health_checks["outbox"] = health.outbox(self.own_database.outbox, self.publisher)
        self.health_checks["clock"] = health.clock(self.clock)
        self.health_checks["circuitBreakers"] = health.circuit_breakers(self.breakers)
        self.health_checks["progress"] = health.progress(lambda: self.standstill(), self.requests)
        self.health_checks["memory"] = health.memory(self._resources)

    async def clean_up_resources(self) -> None:
        """Closes what `initialise_resources` opened."""
        if self.database is not None:
            await self.database.close()

    def run_along(self, run: Run) -> None:
        """To be called while initialising: runs as long as the service; what it raises ends the process."""
        self._along.append(run)

    @property
    def own_database(self) -> Database:
        """Of a service that has `tables`."""
        assert self.database is not None, f"{type(self).__name__}.tables is None"
        return self.database

    # -- others ---------------------------------------------------------------------------------

    async def emit_to_service(self, service: str, pattern: str, data: Any, options: CallOptions | None = None) -> None:
        """See ServiceClient.emit."""
        await self.client.emit(service, pattern, data, options)

    async def send_to_service(self, service: str, pattern: str, data: Any, options: CallOptions | None = None) -> Any:
        """See ServiceClient.send."""
        if not self.asks:
            raise TypeError(f"{type(self).__name__}.asks is False: it reads no replies")
        return await self.client.send(service, pattern, data, options)

    # -- what it tells of itself ----------------------------------------------------------------

    def get_service_info(self) -> ServiceInfo:
        """As others find it in the registry."""
        return ServiceInfo(
            name=self.name,
            version=emis_streams.__version__,
            host=self.config.reached_at,
            port=self.config.port,
            started_at=self.started_at,
            patterns=tuple(self.requests.patterns),
            is_draining=self.is_draining,
            instance_name=self.config.instance_name,
            health=self._health,
        )

    async def get_health(self) -> HealthReport:
        """By all its health checks, asked now; the journal notes what has changed."""
        report = await health.report(self.health_checks, self.uptime_seconds, self._resources.usage())
        self._health = Health(report.status)
        self.journal.note(report.checks, self.clock.now())
        return msgspec.structs.replace(report, checks=self.journal.with_since(report.checks))

    @property
    def uptime_seconds(self) -> float:
        return time.monotonic() - self._began

    def waits_for(self) -> list[str]:
        """What is not there yet that answering needs; empty: it is ready."""
        if not self.has_started.is_set():
            return [f"clients and resources are not initialised: {self._waiting.reason or 'just begun'}"]
        found = [self.standstill(), *(reason() for reason in self.not_ready)]
        if self.asks and not self.replies.positioned.is_set():
            reason = self.replies.waiting_for
            found.append(f"the end of the reply topic is not known yet{f': {reason}' if reason else ''}")
        return [reason for reason in found if reason is not None]

    def deliberate_wait(self) -> str | None:
        """What it waits for on purpose now, requests with it; None: nothing."""
        within_seconds = self.config.watchdog_timeout_seconds
        return self._waiting.reason or self.requests.waits_for() or self.sender.waits_for(within_seconds)

    def standing_still(self, now: float, limit_seconds: float) -> str | None:
        """What of it makes no progress for longer than the limit, by a monotonic time; None: nothing."""
        found = [self.requests.standstill(now, limit_seconds), self.registry.standstill(now, limit_seconds)]
        if self.asks:
            found.append(self.replies.standstill(now, limit_seconds))
        if self.publisher is not None:
            found.append(self.publisher.standstill(now, limit_seconds))
        return next((reason for reason in found if reason is not None), None)

    # -- its life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Raises only what no waiting mends."""
        self.journal.load()
        await self.initialise_clients()
        self.journal.note_start(emis_streams.__version__, self.clock.now())
        await self.initialise_resources()
        self.register_health_checks()
        self.has_started.set()
        async with asyncio.TaskGroup() as group:
            for run in (*self._along, self._stay_registered):
                group.create_task(run())

    async def serve(self, slices: AsyncIterable[Slice]) -> None:
        """The agent of its request topic."""
        await self.has_started.wait()
        await self.requests.serve(slices)

    async def drain(self) -> None:
        """Before anything stops: others are told to ask elsewhere, what was begun is finished."""
        self.is_draining = True
        await self._tell(self.registry.register)

    async def close(self) -> None:
        """After what was begun is finished."""
        await self._tell(self.registry.deregister)
        await self.clean_up_resources()
        await self.sender.stop()

    async def _learn_the_brokers_time(self) -> None:
        """Before any request: how long it has been in the log is known by it.

        What it takes is a record that the brokers acknowledge: that this instance is not there yet.
        """
        await self.registry.deregister(self.get_service_info())
        self.started_at = self.clock.now() - timedelta(seconds=self.uptime_seconds)

    async def _stay_registered(self) -> None:
        while self.waits_for():
            await asyncio.sleep(_READY_POLL_SECONDS)
        await self.registry.beat(self._told)

    async def _told(self) -> ServiceInfo:
        await self.get_health()
        if not self.journal.is_saved:
            await asyncio.to_thread(self.journal.save)
        return self.get_service_info()

    async def _tell(self, how: Callable[[ServiceInfo], Awaitable[None]]) -> None:
        if not self.has_started.is_set():
            return
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await how(self.get_service_info())
        except (NotSent, TimeoutError) as reason:
            logger.warning("%s: the registry does not hear that it goes: %s", self.name, reason or "no answer")

    async def _forget_requests(self) -> None:
        assert self.database is not None
        while True:
            with suppress(Unavailable):  # An hour later is soon enough.
                await self.database.forget_requests(_REQUESTS_KEPT)
            await asyncio.sleep(_FORGET_SECONDS)

    def _broken_off(self) -> str | None:
        """Why brokers cannot be reached now."""
        return self._waiting.reason or self.registry.waiting_for or (self.replies.waiting_for if self.asks else None)

    def _handlers(self) -> Iterator[tuple[str, type, Handler[Any]]]:
        for attribute in dir(type(self)):
            found = getattr(getattr(type(self), attribute), _ANSWERS, None)
            if found is not None:
                yield (*found, getattr(self, attribute))

    def _database(self) -> Database | None:
        """Raises InvalidSetting."""
        url = self.database_url(self.config)
        return None if url is None or self.tables is None else Database.open(url, self.tables, self.clock.now)
