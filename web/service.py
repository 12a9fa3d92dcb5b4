"""What every service tells of itself: probes, health, and what it is."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version

import msgspec
from aiohttp import web

import emis_streams
from emis_streams.health_report import Check, HealthChanges, HealthReport, LiveReport, ReadyReport
from emis_streams.lag_report import Camel
from emis_streams.node import NODE
from emis_streams.services.gateway import GatewayService
from emis_streams.services.registry import ServiceInfo
from emis_streams.services.service import Service
from web.help_topics import help_links, topic_of_check
from web.pages import as_json
from web.parameters import LANG, takes

routes = web.RouteTableDef()


class ServiceReport(Camel, frozen=True, kw_only=True):
    """`GET /info`."""

    service: ServiceInfo
    version: str
    git_commit: str | None
    python_version: str
    faust_version: str
    uptime: float
    """Seconds."""


@routes.get("/")
@takes(LANG)
async def root(request: web.Request) -> web.StreamResponse:
    """To what there is to see."""
    raise web.HTTPSeeOther("/services/status" if isinstance(_service(request), GatewayService) else "/health")


@routes.get("/livez")
async def livez(_request: web.Request) -> web.Response:
    """Alive: asks nothing of others, so that a failing broker or database restarts nobody."""
    return as_json(LiveReport(status="alive", timestamp=datetime.now(UTC)))


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """Ready for requests: 200, else 503 with what is waited for."""
    service = _service(request)
    reasons = ["it is being stopped"] if service.is_draining else service.waits_for()
    report = ReadyReport(status="not-ready" if reasons else "ready", reasons=tuple(reasons), warnings=())
    return as_json(report, 503 if reasons else 200)


@routes.get("/startupz")
async def startupz(request: web.Request) -> web.StreamResponse:
    """As `/readyz`: what that waits for is reached once."""
    return await readyz(request)


@routes.get("/health")
@takes()
async def health(request: web.Request) -> web.Response:
    """A check per part: 200 healthy and degraded, 503 unhealthy."""
    report = with_links(await _service(request).get_health())
    return as_json(report, 503 if report.status == "unhealthy" else 200)


def with_links(report: HealthReport) -> HealthReport:
    """The report with what to do about each check that is not well; of a service's own checks, all entries. Pure."""
    checks = {name: msgspec.structs.replace(check, links=_links(check)) for name, check in report.checks.items()}
    return msgspec.structs.replace(report, checks=checks)


def _links(check: Check) -> dict[str, str]:
    topic = topic_of_check(check.status, check.output_key)
    return {"help": "/help"} if topic is None and check.status != "pass" else help_links(topic)


@routes.get("/health/journal")
@takes()
async def journal(request: web.Request) -> web.Response:
    """Which check changed its state when, the newest first."""
    return as_json(HealthChanges(changes=_service(request).journal.changes))


@routes.get("/info")
@takes()
async def info(request: web.Request) -> web.Response:
    """What runs here."""
    service = _service(request)
    report = ServiceReport(
        service=service.get_service_info(),
        version=emis_streams.__version__,
        git_commit=service.config.git_commit or None,
        python_version=platform.python_version(),
        faust_version=version("faust-streaming"),
        uptime=round(service.uptime_seconds, 3),
    )
    return as_json(report)


def _service(request: web.Request) -> Service:
    service = request.app[NODE].service
    assert service is not None
    return service
