"""The composition root of a service's process: what `worker.py` is to the teacher workers.

Which service it is, SERVICE says. Only that one's agents, tables and pages are imported, so that they are put to
its app alone.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType

import stamina
from aiohttp import web as aiohttp_web
from faust.web.base import BlueprintManager

import agents
from emis_streams import data_dir, following, health_journal, settings, topics
from emis_streams.app import App, app
from emis_streams.engine import fatal
from emis_streams.engine.door import DOOR
from emis_streams.engine.part import Part
from emis_streams.engine.store import open_or_set_aside
from emis_streams.health_journal import HealthJournal
from emis_streams.lag import LagMonitor, followers_of
from emis_streams.lag_measurement import Watched, watched_by, watched_requests
from emis_streams.node import NODE, Node
from emis_streams.read_model.user_rows import UserRows
from emis_streams.services import health
from emis_streams.services.catalogue import service_class
from emis_streams.services.gateway import GatewayService
from emis_streams.services.service import Service
from emis_streams.settings import Settings
from emis_streams.sync_latency import SyncLatency
from emis_streams.topics import Subject
from web import (
    activity,
    circuit_breakers,
    consumer_lag,
    gateway,
    help,
    metrics,
    pages,
    progress,
    service,
    services_status,
    site,
)

__all__ = ["app"]

PAGES: tuple[ModuleType, ...] = (pages, service, circuit_breakers, help, metrics)
"""Of every service."""


@dataclass(frozen=True)
class Hears:
    """What a service makes of the events of others."""

    subject: Subject
    agent: str
    """Module, imported only where it is to run."""
    page: ModuleType


_REQUESTS_POLL_SECONDS = 5.0
"""Nobody is shown the age of requests: only standstills of 10 s and more are looked for."""

HEARS = {
    "progress": Hears(topics.PROGRESS, "agents.progress", progress),
    "users": Hears(topics.ACTIVITY, "agents.activity", activity),
}
"""By service: the way of its events from topic to page."""


def compose(app: App, config: Settings) -> Node:
    """Puts the service that the settings name to the app."""
    data_dir.keep_private()
    node = Node(settings=config, roles=frozenset())
    kind = service_class(config.service)
    own: Service
    if issubclass(kind, GatewayService):
        own = kind(config, agents.ingest.dead_letter, gateway.services_of())
    else:
        own = kind(config, agents.ingest.dead_letter)
    node.service = own
    node.clock = own.clock
    node.journal = own.journal = HealthJournal(config.data_path / health_journal.FILE_NAME)
    app.parts.append(Part(app, own.name, own.run, own.close))
    app.before_draining.append(own.drain)
    app.waits.append(own.deliberate_wait)
    app.standstills.append(own.standing_still)
    own.standstill = app.standstill
    if own.name in HEARS:
        _add_events(app, config, own, node, HEARS[own.name])
    app.ingests = bool(own.requests.patterns or own.name in HEARS)
    if app.ingests:
        _add_agents(app, own, node)
        _add_lag_monitor(app, config, own, node)
    _add_pages(app, own, node)
    return node


def _add_events(app: App, config: Settings, own: Service, node: Node, hears: Hears) -> None:
    """Agent and table, and a local copy that follows the table's changelog."""
    importlib.import_module(hears.agent)
    copy = open_or_set_aside(config.data_path / "read-model", UserRows)
    copy.on_damage = lambda damaged: fatal.end_process(app, "the local copy", damaged)
    latency = SyncLatency(node.began)
    follower = following.read_model_follower(config, copy, latency, node.clock, [hears.subject])
    node.user_rows = copy
    node.read_model_follower = following.FollowerView(following.READ_MODEL, follower, config.watchdog_timeout_seconds)
    node.sync_latency[following.READ_MODEL] = latency

    async def close() -> None:
        copy.close()

    app.standstills.append(follower.standstill)
    app.parts.append(Part(app, "local copy", follower.follow, close))
    own.not_ready.append(lambda: None if copy.caught_up else "the local copy has not caught up yet")


def _add_lag_monitor(app: App, config: Settings, own: Service, node: Node) -> None:
    """How far behind its group is, and why: events of others, or requests."""
    topics_watched, poll_seconds = _watched_by(own)
    node.lag = LagMonitor(config, lambda: followers_of(node), topics_watched, poll_seconds, node.clock)
    app.parts.append(Part(app, "lag monitor", node.lag.run))
    own.health_checks["consumerLag"] = health.consumer_lag(node.lag.snapshot)
    own.health_checks["changelogs"] = health.changelogs(node.invalid_records)


def _watched_by(own: Service) -> tuple[Watched, float]:
    """What the lag monitor of this service watches, and the seconds between two measurements."""
    if own.name in HEARS:
        return watched_by(own.name), 1.0
    return watched_requests(own.name), _REQUESTS_POLL_SECONDS


def _add_agents(app: App, own: Service, node: Node) -> None:
    node.ingest = agents.ingest
    if own.requests.patterns:
        app.agent(app.slices(topics.request_topic(own.name)), name="requests")(own.serve)

    def not_assigned() -> str | None:
        status = agents.ingest.status()
        if status.caught_up and status.assigned:
            return None
        return "partitions are not assigned yet" if status.waits_for is None else f"not ready: {status.waits_for}"

    own.not_ready.append(not_assigned)


def _add_pages(app: App, own: Service, node: Node) -> None:
    app.web.blueprints = BlueprintManager()  # Faust's own pages would take `/`.
    web_app: aiohttp_web.Application = app.web.web_app
    web_app[NODE] = node
    site.setup(web_app)
    pages.load_templates(web_app)
    for page in PAGES:
        web_app.add_routes(page.routes)
    if own.name in HEARS:
        web_app.add_routes(HEARS[own.name].page.routes)
    if node.lag is not None:
        web_app.add_routes(consumer_lag.routes)
    if isinstance(own, GatewayService):
        web_app.add_routes(services_status.routes)
        web_app.add_routes(gateway.routes_of(own))
        web_app[DOOR].gate = gateway.gate_of(own)


stamina.instrumentation.set_on_retry_hooks([])  # Who calls is told what failed; a retry is no news.
node = compose(app, settings.current())
