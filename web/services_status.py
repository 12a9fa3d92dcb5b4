"""`/services/status` of the gateway: all services that are registered or routed to, and the breakers of their calls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from aiohttp import web

from emis_streams.instance_tracker import FORGET_AFTER
from emis_streams.lag_report import Camel
from emis_streams.node import NODE
from emis_streams.services import registry
from emis_streams.services.admission import Admission
from emis_streams.services.circuit_breaker import RESET, State
from emis_streams.services.gateway import GatewayService
from emis_streams.services.registry import Health, ServiceInfo
from web.access import is_operator
from web.addresses import page_of
from web.circuit_breakers import BreakerReport, Change, PatternsReport, report_of
from web.health_page import HEALTH_LOOKS
from web.help_topics import BREAKER, BROKERS, SERVICE
from web.i18n import Texts
from web.pages import StampedPage, as_json, texts_of, this_second, wants_html
from web.parameters import LANG, takes
from web.verdict import Look, PartState, headline, verdict

routes = web.RouteTableDef()


class ServiceStatus(Camel, frozen=True, kw_only=True):
    """A service: `unhealthy` if none of its instances takes requests."""

    name: str
    status: Health
    is_routed: bool
    """Whether the gateway asks it."""
    instances: tuple[ServiceInfo, ...]
    """Draining ones too."""


class RouteStatus(Camel, frozen=True, kw_only=True):
    """What the gateway passes on of one kind of request. Counts are since the start."""

    service: str
    pattern: str
    under_way: int
    """Calls that are not answered yet."""
    limit: int
    """Calls that may be under way at once, now: fewer while they are slow."""
    max_calls: int
    users: int
    """With calls under way."""
    refused_by_limit: int
    """With 503: as many calls were under way as the service manages."""
    refused_by_share: int
    """With 429: the same user had its share of them."""


class ServicesStatus(Camel, frozen=True, kw_only=True):
    """`GET /services/status`."""

    status: Health
    """Of the worst service that is routed to; not better than `degraded` while the registry cannot be read."""
    timestamp: datetime
    registry_error: str | None
    """Why the registry cannot be read now: what is said of instances is as it was before. None: it can be."""
    services: tuple[ServiceStatus, ...]
    circuit_breakers: dict[str, PatternsReport]
    routes: tuple[RouteStatus, ...]


@routes.get("/services/status")
@takes(LANG)
async def services_status(request: web.Request) -> web.StreamResponse:
    """As the gateway sees them now; it asks nobody."""
    gateway = request.app[NODE].service
    assert isinstance(gateway, GatewayService)
    if not wants_html(request):
        return as_json(status_of(gateway))
    # A breaker that was reset is shown so at once, by the page that the browser is sent to.
    states = "".join(breaker.state[0] for _, _, breaker in gateway.breakers)
    page = StampedPage(request, "services.html", f"{this_second()} {states}")
    known = page.known()
    return page.render(_values(request, status_of(gateway))) if known is None else known


@dataclass(frozen=True)
class _Row:
    """An instance of a service, or a service without any."""

    name: str
    look: Look
    state: str
    where: str = ""
    page: str | None = None
    """Address of its pages."""
    version: str = ""
    since: datetime | None = None
    missing_since: datetime | None = None
    """When it was last heard of."""
    unwell_since: datetime | None = None
    """Since when it is degraded, unhealthy or shutting down, or nobody is there."""
    topic: str = SERVICE
    """What to do about it, if it is not well."""


@dataclass(frozen=True)
class _BreakerRow:
    service: str
    pattern: str
    look: Look
    report: BreakerReport

    @property
    def reset_path(self) -> str:
        return f"/circuit-breakers/{quote(self.service, safe='')}/{quote(self.pattern, safe='')}/reset"

    @property
    def is_closed(self) -> bool:
        return self.report.status is State.CLOSED

    @property
    def last(self) -> Change | None:
        return self.report.history[-1] if self.report.history else None

    @property
    def again_in_seconds(self) -> float | None:
        """Until a call passes, if it is open."""
        at = self.report.next_attempt_at
        return None if at is None else max(0.0, (at - datetime.now(UTC)).total_seconds())

    @property
    def before(self) -> tuple[Change, ...]:
        """The changes before the last one, the newest first."""
        return self.report.history[-2::-1]


def _values(request: web.Request, status: ServicesStatus) -> dict[str, object]:
    t = texts_of(request)
    breakers = _breaker_rows(status)
    missing = _missing_rows(request, status)
    rows = [row for service in status.services for row in _rows(request, service, missing)] + missing
    found = verdict([*map(_row_state, rows), *(_breaker_state(t, breaker) for breaker in breakers)])
    return {
        "status": status,
        "verdict": found,
        "headline": headline(t, found),
        "rows": rows,
        "breakers": breakers,
        "some_open": any(not row.is_closed for row in breakers),
        "may_reset": is_operator(request),
        "breaker_topic": BREAKER,
        "why": lambda change: _why(t, change),
    }


_BREAKER_ORDER = (State.OPEN, State.HALF_OPEN, State.CLOSED)


def _breaker_rows(status: ServicesStatus) -> list[_BreakerRow]:
    """Those that are open come first."""
    rows = [
        _BreakerRow(service, pattern, _BREAKER_LOOKS[report.status], report)
        for service, of in status.circuit_breakers.items()
        for pattern, report in of.patterns.items()
    ]
    return sorted(rows, key=lambda row: (_BREAKER_ORDER.index(row.report.status), row.service, row.pattern))


def _missing_rows(request: web.Request, status: ServicesStatus) -> list[_Row]:
    """Instances that went without leaving, for a day."""
    node = request.app[NODE]
    assert isinstance(node.service, GatewayService)
    t, now = texts_of(request), node.now()
    running = {service.name for service in status.services if service.instances}
    return [
        _Row(
            info.name,
            "warn" if info.name in running else "bad",
            t("instances.missing"),
            f"{info.host}:{info.port}",
            page_of(f"{info.host}:{info.port}", node.settings),
            info.version,
            missing_since=now - timedelta(seconds=seconds),
        )
        for info, seconds in node.service.registry.lapsed()
        if seconds < FORGET_AFTER.total_seconds()
    ]


def _row_state(row: _Row) -> PartState:
    is_draining = row.look == "off" and row.topic == SERVICE  # On purpose.
    part = f"{row.name} {row.where}".strip()
    since = row.missing_since or row.unwell_since
    return PartState(
        part=part, look=row.look, name=part, text=row.state, since=since, topic=row.topic, counts=not is_draining
    )


def _breaker_state(t: Texts, row: _BreakerRow) -> PartState:
    name = t("breakers.call_of", service=row.service, pattern=row.pattern)
    since = row.last.at if row.look != "ok" and row.last is not None else None
    return PartState(
        part=name, look=row.look, name=name, text=t(f"breaker.{row.report.status}"), since=since, topic=BREAKER
    )


def _why(t: Texts, change: Change) -> str:
    """Why a breaker changed its state, in the reader's language; what a service said is as it came."""
    if change.reason == RESET:
        return t("breakers.why.reset")
    return t(f"breakers.why.{change.after}", reason=change.reason)


def _rows(request: web.Request, service: ServiceStatus, missing: Sequence[_Row]) -> list[_Row]:
    """Of a service; if nobody is there, since the last one was heard of, or since this process looks."""
    t, node = texts_of(request), request.app[NODE]
    assert isinstance(node.service, GatewayService)
    if not service.instances:
        heard = [row.missing_since for row in missing if row.name == service.name and row.missing_since is not None]
        return [_Row(service.name, "bad", t("services.missing"), unwell_since=max(heard, default=node.started_at))]
    settings, now, unwell = node.settings, node.now(), node.service.registry.unwell_seconds()
    found = [
        _Row(
            info.name,
            "off" if info.is_draining else HEALTH_LOOKS[info.health.value],
            t("services.draining") if info.is_draining else t(f"health.{info.health}"),
            f"{info.host}:{info.port}",
            page_of(f"{info.host}:{info.port}", settings),
            info.version,
            info.started_at,
            unwell_since=now - timedelta(seconds=unwell[info.instance]) if info.instance in unwell else None,
        )
        for info in service.instances
    ]
    if node.service.registry.waiting_for is None:
        return found
    # Nobody's heartbeats are read: what was well when the brokers went away may be away, too.
    unknown = t("check.unknown")
    return [replace(row, look="off", state=unknown, topic=BROKERS) if row.look == "ok" else row for row in found]


_BREAKER_LOOKS: dict[State, Look] = {State.CLOSED: "ok", State.HALF_OPEN: "warn", State.OPEN: "bad"}


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
    registry_error = gateway.registry.waiting_for
    found_health = [s.status for s in services if s.is_routed]
    at_best = Health.HEALTHY if registry_error is None else Health.DEGRADED
    worst = max([at_best, *found_health], key=order.index)
    return ServicesStatus(
        status=worst,
        timestamp=datetime.now(UTC),
        registry_error=registry_error,
        services=services,
        circuit_breakers=report_of(gateway.breakers),
        routes=tuple(_route(*key, gateway.admissions[key]) for key in sorted(gateway.admissions)),
    )


def _route(service: str, pattern: str, admission: Admission) -> RouteStatus:
    return RouteStatus(
        service=service,
        pattern=pattern,
        under_way=admission.in_flight,
        limit=admission.limit,
        max_calls=admission.bounds.maximum,
        users=admission.n_users,
        refused_by_limit=admission.refused.limit,
        refused_by_share=admission.refused.share,
    )
