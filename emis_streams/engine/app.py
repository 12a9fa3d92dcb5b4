"""A Faust app with the engine in it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.types import AgentT
from mode import CrashingSupervisor
from mode.types import ServiceT

from emis_streams.engine import fatal
from emis_streams.engine.assignor import Assignor
from emis_streams.engine.catch_up import TableManager
from emis_streams.engine.closing import end_tls_at_once
from emis_streams.engine.options import Options
from emis_streams.engine.slices import SliceSchema
from emis_streams.engine.table import Table
from emis_streams.engine.topic_names import require_topic_name
from emis_streams.engine.transport import Consumer
from emis_streams.engine.web import Web


class Boot(BootStrategy):
    """What a worker starts. Faust's own producer is not needed: the engine has its writer."""

    enable_kafka_producer = False
    app: "App"

    def web_components(self) -> Iterable[ServiceT]:
        return [*super().web_components(), *self.app.parts]

    def agents(self) -> Iterable[ServiceT]:
        return super().agents() if self.app.ingests else []

    def kafka_consumer(self) -> Iterable[ServiceT]:
        return [self.app.consumer] if self.app.ingests else []

    def kafka_conductor(self) -> Iterable[ServiceT]:
        return super().kafka_conductor() if self.app.ingests else []

    def tables(self) -> Iterable[ServiceT]:
        return super().tables() if self.app.ingests else []


class App(faust.App):
    """`App(id, engine_options=Options(…), broker="slices://host:port", …)`: agents get slices."""

    mundane_level = "debug"

    BootStrategy = Boot

    def __init__(self, *args: Any, engine_options: Options, ingests: bool = True, **kwargs: Any) -> None:
        self.engine_options = engine_options
        self.ingests = ingests
        """Whether this worker joins the group and runs the agents; else it only serves pages."""
        self.parts: list[ServiceT] = []
        """Services of the application that start with the web views, before and without the consumer."""
        self.before_draining: list[Callable[[], Awaitable[None]]] = []
        """Called first of all when the worker is told to stop."""
        defaults: dict[str, Any] = {
            "store": "slices://",
            "PartitionAssignor": Assignor,
            "Table": Table,
            "TableManager": TableManager,
            "agent_supervisor": CrashingSupervisor,
            "consumer_auto_offset_reset": "earliest",
            "stream_wait_empty": True,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
        }
        end_tls_at_once()
        super().__init__(*args, **{**defaults, **kwargs})

    def _new_web(self) -> Web:
        return Web(self)

    def slices(self, *topics: str) -> Any:
        """The channel of an agent: slices of these topics' records, acknowledged by the slice itself.

        Raises InvalidTopicName.
        """
        for name in topics:
            require_topic_name(name)
        return self.topic(*topics, schema=SliceSchema(key_type=bytes, value_type=bytes), acks=False)

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
