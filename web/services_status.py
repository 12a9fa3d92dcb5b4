"""`/services/status` of the gateway: all services that are registered or routed to, and the breakers of their calls."""

from datetime import UTC, datetime

from aiohttp import web

from emis_streams.lag_report import Camel
from emis_streams.node import NODE
from emis_streams.services import registry
from emis_streams.services.gateway import GatewayService
from emis_streams.services.registry import Health, ServiceInfo
from web.circuit_breakers import PatternsReport, report_of
from web.pages import as_json

routes = web.RouteTableDef()


class ServiceStatus(Camel, frozen=True, kw_only=True):
    """A service: `unhealthy` if none of its instances takes requests."""

    name: str
    status: Health
    is_routed: bool
    """Whether the gateway asks it."""
    instances: tuple[ServiceInfo, ...]
    """Draining ones too."""


class ServicesStatus(Camel, frozen=True, kw_only=True):
    """`GET /services/status`."""

    status: Health
    """Of the worst service that is routed to."""
    timestamp: datetime
    services: tuple[ServiceStatus, ...]
    circuit_breakers: dict[str, PatternsReport]


@routes.get("/services/status")
async def services_status(request: web.Request) -> web.StreamResponse:
    """As the gateway sees them now; it asks nobody."""
    gateway = request.app[NODE].service
    assert isinstance(gateway, GatewayService)
    return as_json(status_of(gateway))


def status_of(gateway: GatewayService) -> ServicesStatus:
    """Of every service that is registered or needed, sorted by name."""
    found = gateway.registry.get_all()
    names = sorted({info.name for info in found} | set(gateway.needs))
    services = tuple(
        ServiceStatus(
            name=name,
            status=registry.health_check(gateway.registry, name),
            is_routed=name in gateway.needs,
            instances=tuple(info for info in found if info.name == name),
        )
        for name in names
    )
    order = list(Health)
    worst = max((s.status for s in services if s.is_routed), key=order.index, default=Health.HEALTHY)
    return ServicesStatus(
        status=worst,
        timestamp=datetime.now(UTC),
        services=services,
        circuit_breakers=report_of(gateway.breakers),
    )
