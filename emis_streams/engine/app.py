"""A Faust app with the engine in it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from typing import Any

import faust
import stamina
from faust.app.base import BootStrategy
from faust.types import AgentT
from mode import CrashingSupervisor
from mode.types import ServiceT

from emis_streams.engine import declarations, fatal, hints
from emis_streams.engine.agent import Agent, Stream, check_agent_function, check_channel
from emis_streams.engine.assignor import Assignor
from emis_streams.engine.catch_up import TableManager
from emis_streams.engine.closing import end_tls_at_once
from emis_streams.engine.config_error import ConfigError
from emis_streams.engine.options import Options
from emis_streams.engine.slices import SliceSchema
from emis_streams.engine.table import Table
from emis_streams.engine.topic_names import require_topic_name
from emis_streams.engine.transport import Consumer
from emis_streams.engine.watchdog import Watchdog
from emis_streams.engine.web import Web


class Boot(BootStrategy):
    """What a worker starts. Faust's own producer is not needed: the engine has its writer."""

    enable_kafka_producer = False
    app: "App"

    def sensors(self) -> Iterable[ServiceT]:
        """With what runs beside Faust's own services, also where there is no web server."""
        return [*super().sensors(), *self._watchdog(), *self.app.parts]

    def _watchdog(self) -> Iterable[ServiceT]:
        return [] if self.app.watchdog is None else [self.app.watchdog]

    def agents(self) -> Iterable[ServiceT]:
        return super().agents() if self.app.ingests else []

    def kafka_consumer(self) -> Iterable[ServiceT]:
        return [self.app.consumer] if self.app.ingests else []

    def kafka_conductor(self) -> Iterable[ServiceT]:
        return super().kafka_conductor() if self.app.ingests else []

    def tables(self) -> Iterable[ServiceT]:
        return super().tables() if self.app.ingests else []


class App(faust.App):
    """`App(id, broker="slices://host:port", datadir=…, engine_options=Options(…))`: agents get slices.

    All other arguments are Faust's settings. What of them the engine cannot do, and what of agents and tables does not
    fit together, ends the process at its start with exit code 2; what a single declaration shows raises ConfigError.
    """

    mundane_level = "debug"

    BootStrategy = Boot

    def __init__(self, *args: Any, engine_options: Options | None = None, ingests: bool = True, **kwargs: Any) -> None:
        self.engine_options = engine_options or Options()
        hints.use(self.engine_options.hints)
        self.readers: dict[str, str] = {}
        """Which agent reads a topic, by its name."""
        self.ingests = ingests
        """Whether this worker joins the group and runs the agents; else it only serves pages."""
        self.parts: list[ServiceT] = []
        """Services of the application that start before the web views and the consumer, and without them."""
        self.before_draining: list[Callable[[], Awaitable[None]]] = []
        """Called first of all when the worker is told to stop."""
        self.waits: list[Callable[[], str | None]] = []
        """Each tells what the application waits for on purpose now, slices with it; None: nothing."""
        self.standstills: list[Callable[[float, float], str | None]] = []
        """Each gets a monotonic time and a limit in seconds, and tells what has stood still for longer; or None."""
        defaults: dict[str, Any] = {
            "store": "slices://",
            "Agent": Agent,
            "Stream": Stream,
            "PartitionAssignor": Assignor,
            "Table": Table,
            "TableManager": TableManager,
            "agent_supervisor": CrashingSupervisor,
            "consumer_auto_offset_reset": "earliest",
            "stream_wait_empty": True,
            "table_standby_replicas": 0,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
        }
        end_tls_at_once()
        stamina.instrumentation.set_on_retry_hooks([])  # The engine says itself what it waits for.
        super().__init__(*args, **{**defaults, **kwargs})

    @cached_property
    def watchdog(self) -> Watchdog | None:
        """None if the options say none."""
        return None if self.engine_options.watchdog_timeout_seconds is None else Watchdog(self)

    def standstill(self) -> str | None:
        """What makes no progress though it should, as the watchdog sees it; None: nothing."""
        return None if self.watchdog is None else self.watchdog.standstill()

    def _new_web(self) -> Web:
        return Web(self)

    def slices(self, *topics: str) -> Any:
        """The channel of an agent: slices of these topics' records, acknowledged by the slice itself.

        Raises InvalidTopicName.
        """
        for name in topics:
            require_topic_name(name)
        return self.topic(*topics, schema=SliceSchema(key_type=bytes, value_type=bytes), acks=False)

    def agent(self, channel: Any = None, *, name: str | None = None, concurrency: int = 1, **kwargs: Any) -> Any:
        """Decorator of an `async def` that iterates over slices: `@app.agent(app.slices("topic"))`.

        Raises ConfigError.
        """

        def declare(function: Any) -> Any:
            called = name or str(getattr(function, "__name__", function))
            check_agent_function(called, function)
            self._check_agent(called, channel, concurrency, kwargs)
            of_slices = self.slices(channel) if isinstance(channel, str) else channel
            for topic in getattr(of_slices, "topics", ()):
                self._note_reader(topic, called)
            declared: Any = super(App, self).agent(of_slices, name=name, **kwargs)
            return declared(function)

        return declare

    def _check_agent(self, name: str, channel: Any, concurrency: int, others: dict[str, Any]) -> None:
        if channel is None:
            raise ConfigError(f"agent {name} reads no topic: @app.agent(app.slices('topic'))")
        check_channel(f"agent {name}", channel)
        if concurrency != 1 or others.get("isolated_partitions"):
            raise ConfigError(
                f"agent {name}: concurrency and isolated_partitions are not supported: two slices of a partition would "
                "read and write the same rows at once; start more workers"
            )

    def _note_reader(self, topic: str, name: str) -> None:
        other = self.readers.setdefault(topic, name)
        if other != name:
            raise ConfigError(
                f"agents {other} and {name} both read {topic}: a slice is done as soon as one of them says so; "
                "let one agent do both"
            )

    def GlobalTable(self, name: str, **_kwargs: Any) -> Any:
        raise ConfigError(f"table {name}: the engine has no global tables: follow the changelog (engine.Follower)")

    def SetTable(self, name: str, **_kwargs: Any) -> Any:
        raise ConfigError(f"table {name}: the engine has no tables of sets: keep a row for each member")

    SetGlobalTable = SetTable

    async def on_first_start(self) -> None:
        try:
            declarations.check(self)
        except ConfigError as error:
            fatal.end_process(self, "it cannot start", error)
        await super().on_first_start()

    def _create_directories(self) -> None:
        self.conf.tabledir.mkdir(parents=True, exist_ok=True)

    async def on_stop(self) -> None:
        """Faust waits for what was begun before it tells anybody (`on_before_shutdown`)."""
        for call in self.before_draining:
            await call()
        await super().on_stop()

    async def _on_agent_error(self, agent: AgentT, exc: BaseException) -> None:
        """Faust would go on with the next event: what this one holds would be lost."""
        if not isinstance(exc, asyncio.CancelledError):
            fatal.end_process(self, f"agent {agent.name} failed", exc)

    @property
    def slice_consumer(self) -> Consumer:
        consumer = self.consumer
        assert isinstance(consumer, Consumer)
        return consumer
