"""The composition root of a service's process: what `worker.py` is to the teacher workers.

Which service it is, SERVICE says. Only that one's agents, tables and pages are imported, so that they are put to
its app alone.
"""

from types import ModuleType

from aiohttp import web as aiohttp_web
from faust.web.base import BlueprintManager

import agents
from emis_streams import settings
from emis_streams.app import App, app
from emis_streams.engine.part import Part
from emis_streams.engine.watchdog import Watchdog
from emis_streams.node import NODE, Node
from emis_streams.services import messages
from emis_streams.services.catalogue import service_class
from emis_streams.services.gateway import GatewayService
from emis_streams.services.service import Service
from emis_streams.settings import Settings
from web import circuit_breakers, gateway, metrics, pages, service, services_status, site

__all__ = ["app"]

PAGES: tuple[ModuleType, ...] = (pages, service, circuit_breakers, metrics)
"""Of every service."""


def compose(app: App, config: Settings) -> Node:
    """Puts the service that the settings name to the app."""
    node = Node(settings=config, roles=frozenset())
    kind = service_class(config.service)
    own: Service
    if issubclass(kind, GatewayService):
        own = kind(config, agents.ingest.dead_letter, gateway.services_of())
    else:
        own = kind(config, agents.ingest.dead_letter)
    node.service = own
    app.parts.append(Part(app, own.name, own.run, own.close))
    app.before_draining.append(own.drain)
    if app.ingests:
        _add_agents(app, own, node)
    _add_pages(app, own, node)
    return node


def _add_agents(app: App, own: Service, node: Node) -> None:
    node.ingest = agents.ingest
    app.parts.append(Watchdog(app))
    if own.requests.patterns:
        app.agent(app.slices(messages.request_topic(own.name)), name="requests")(own.serve)

    def not_assigned() -> str | None:
        status = agents.ingest.status()
        return None if status.caught_up and status.assigned else "partitions are not assigned yet"

    own.not_ready.append(not_assigned)


def _add_pages(app: App, own: Service, node: Node) -> None:
    app.web.blueprints = BlueprintManager()  # Faust's own pages would take `/`.
    web_app: aiohttp_web.Application = app.web.web_app
    web_app[NODE] = node
    site.setup(web_app)
    for page in PAGES:
        web_app.add_routes(page.routes)
    if isinstance(own, GatewayService):
        web_app.add_routes(services_status.routes)
        web_app.add_routes(gateway.routes_of(own))


node = compose(app, settings.current())
