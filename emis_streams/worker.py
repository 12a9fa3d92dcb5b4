"""The composition root: the only module that brings agents, tables, followers and pages together.

Imported, not discovered: Faust's autodiscovery only logs when a module fails to import, so a broken
agent would vanish. `faust -A emis_streams.worker worker` finds `app` here too.
"""

import asyncio
from types import ModuleType

import stamina
from faust.web.base import BlueprintManager

import agents
import agents.assignments
import agents.classes
import agents.teachers
import web
from emis_streams import data_dir, following, health_journal, instances, settings
from emis_streams.app import App, app
from emis_streams.engine import fatal
from emis_streams.engine.part import Part, together
from emis_streams.engine.store import open_or_set_aside
from emis_streams.engine.writer import Writer
from emis_streams.health_journal import HealthJournal
from emis_streams.lag import LagMonitor, followers_of
from emis_streams.node import NODE, Node
from emis_streams.read_model.model import ReadModel
from emis_streams.replica.reader import ReplicaReader
from emis_streams.replica.writer import ReplicaSink
from emis_streams.services.teacher import TeacherService
from emis_streams.settings import Settings
from emis_streams.sync_latency import SyncLatency
from web.health import as_told_to_others, keep_journal, ready_report

__all__ = ["app"]

AGENTS: tuple[ModuleType, ...] = (agents.classes, agents.teachers, agents.assignments)
PAGES: tuple[ModuleType, ...] = web.PAGES


def compose(app: App, config: Settings) -> Node:
    """Puts the parts that the roles need to the app, and the pages to its web server."""
    data_dir.keep_private()
    node = Node(settings=config, roles=config.roles_enabled())
    node.standstill = app.standstill
    if "ingest" in node.roles:
        node.ingest = agents.ingest
    if "serve" in node.roles:
        _add_read_model(app, config, node)
    if "replicate" in node.roles:
        _add_replica(app, config, node)
    if config.register and "serve" in node.roles:
        _add_registration(app, config, node)
    node.lag = LagMonitor(config, lambda: followers_of(node), clock=node.clock)
    app.parts.append(Part(app, "lag monitor", node.lag.run))
    node.journal = HealthJournal(config.data_path / health_journal.FILE_NAME)
    app.parts.append(Part(app, "health journal", lambda: keep_journal(node)))
    app.parts.append(Part(app, "instances", lambda: instances.watch(node)))
    _add_pages(app, node)
    return node


def _add_read_model(app: App, config: Settings, node: Node) -> None:
    model = open_or_set_aside(config.data_path / "read-model", ReadModel)
    model.on_damage = lambda damaged: fatal.end_process(app, "the local copy", damaged)
    latency = SyncLatency(node.began)
    follower = following.read_model_follower(config, model, latency, node.clock)
    node.read_model = model
    node.read_model_follower = following.FollowerView(following.READ_MODEL, follower, config.watchdog_timeout_seconds)
    node.sync_latency[following.READ_MODEL] = latency
    node.reader = ReplicaReader.open(config.database_url, config.replica_pool_size)

    async def close() -> None:
        model.close()
        assert node.reader is not None
        await node.reader.close()

    app.standstills.append(follower.standstill)
    app.parts.append(Part(app, "read model", together(follower.follow, model.entry_counts.run), close))


def _add_replica(app: App, config: Settings, node: Node) -> None:
    writer = Writer(config.kafka_client())
    sink = ReplicaSink.open(config.database_url, following.RefusedRows(writer))
    latency = SyncLatency(node.began)
    follower = following.replica_follower(config, sink, latency, node.clock)
    node.replica_follower = following.FollowerView(following.REPLICA, follower, config.watchdog_timeout_seconds)
    node.sync_latency[following.REPLICA] = latency

    async def close() -> None:
        await asyncio.gather(sink.close(), writer.stop())

    app.standstills.append(follower.standstill)
    app.parts.append(Part(app, "replica", follower.follow, close))


def _add_registration(app: App, config: Settings, node: Node) -> None:
    """The gateway asks pages of workers that are in the registry."""
    own = TeacherService(config, agents.ingest.dead_letter, node.clock)
    own.not_ready.append(lambda: next(iter(ready_report(node).reasons), None))
    node.service = own
    own.standstill = node.standstill
    own.health_checks["worker"] = lambda: as_told_to_others(node)
    app.standstills.append(own.standing_still)
    app.parts.append(Part(app, "registration", own.run, own.close))
    app.before_draining.append(own.drain)


def _add_pages(app: App, node: Node) -> None:
    app.web.blueprints = BlueprintManager()  # Faust's own pages would take `/`.
    site = app.web.web_app
    site[NODE] = node
    web.setup(site)
    web.load_templates(site)
    for page in PAGES:
        site.add_routes(page.routes)


stamina.instrumentation.set_on_retry_hooks([])  # The engine says itself, once, what it waits for.
node = compose(app, settings.current())
