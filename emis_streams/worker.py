"""The composition root: the only module that brings agents, tables, followers and pages together.

Imported, not discovered: Faust's autodiscovery only logs when a module fails to import, so a broken
agent would vanish. `faust -A emis_streams.worker worker` finds `app` here too.
"""

import os
from collections.abc import Sequence

import stamina
from aiokafka import TopicPartition
from faust.web.base import BlueprintManager

import agents.assignments
import agents.classes
import agents.teachers
from emis_streams import metrics, rows, topics
from emis_streams.app import App, app
from emis_streams.engine.follower import Follower, Sink
from emis_streams.engine.part import Part
from emis_streams.errors import Unavailable
from emis_streams.lag import LagMonitor, SyncLatency, followers_of
from emis_streams.node import NODE, FollowerStatus, Node
from emis_streams.read_model.model import ReadModel
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.settings import Settings, current
from web import PAGES, setup

__all__ = ["app"]

stamina.instrumentation.set_on_retry_hooks([])  # The engine says itself, once, what it waits for.


class FollowerView:
    """A follower as the pages see it."""

    def __init__(self, name: str, follower: Follower) -> None:
        self._name = name
        self._follower = follower

    def status(self) -> FollowerStatus:
        positions = {(tp.topic, tp.partition): at for tp, at in self._follower.next_offsets.items()}
        return FollowerStatus(
            name=self._name,
            caught_up=self._follower.caught_up,
            positions=positions,
            records_total=self._follower.records_total,
            waiting_for=self._follower.waiting_for,
        )


def compose(app: App, config: Settings) -> Node:
    """Puts the parts that the roles need to the app, and its pages to its web server."""
    node = Node(settings=config, roles=config.roles_enabled())
    if "ingest" in node.roles:
        node.ingest = agents.ingest
    if "serve" in node.roles:
        _add_read_model(app, config, node)
    if "replicate" in node.roles:
        _add_replica(app, config, node)
    node.lag = LagMonitor(config, lambda: followers_of(node))
    app.parts.append(Part(app, "lag monitor", node.lag.run))
    app.web.blueprints = BlueprintManager()  # Faust's own pages would take `/`.
    app.web.web_app[NODE] = node
    setup(app.web.web_app)
    for page in PAGES:
        app.web.web_app.add_routes(page.routes)
    return node
