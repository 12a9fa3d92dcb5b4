"""All instances of workers and services on one page: who is there, how each is, and who is missing since when."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from emis_streams import instances
from emis_streams.instance_tracker import Instance, Source
from emis_streams.lag_report import Camel
from emis_streams.node import NODE
from emis_streams.settings import Settings
from web.addresses import page_of
from web.help_topics import BROKERS, SERVICE
from web.i18n import Texts
from web.pages import as_json, render, texts_of, wants_html
from web.parameters import LANG, takes
from web.verdict import Look, PartState, headline, verdict

routes = web.RouteTableDef()

_HEALTH_LOOKS: dict[str, Look] = {"healthy": "ok", "degraded": "warn", "unhealthy": "bad"}


class InstancesReport(Camel, frozen=True, kw_only=True):
    """`GET /api/instances`."""

    instances: tuple[Instance, ...]
    """Missing ones first."""
    reads_registry: bool
    """Whether this process reads the registry (REGISTER=true), which tells of services and of workers that serve."""
    registry_error: str | None
    """Why it cannot be read now: what it told of instances is as it was before. None: it can be."""


@dataclass(frozen=True)
class Row:
    """An instance in the reader's language."""

    instance: Instance
    look: Look
    state: str
    page: str | None
    """Address of its pages."""
    since: datetime | None = None
    """Since when it is not well, or shutting down; None if it is well, or if that is not known."""
    topic: str | None = None
    """What to do about it; None if it is well."""


@dataclass(frozen=True)
class Known:
    """Which sources tell of instances now."""

    sources: Collection[Source]
    brokers_away_since: datetime | None = None


@routes.get("/api/instances")
@takes()
async def instances_json(request: web.Request) -> web.StreamResponse:
    """All instances that this worker knows of."""
    return as_json(_report(request))


@routes.get("/instances")
@takes(LANG)
async def instances_page(request: web.Request) -> web.StreamResponse:
    """The page for browsers, as JSON for all others."""
    report = _report(request)
    if not wants_html(request):
        return as_json(report)
    t = texts_of(request)
    node = request.app[NODE]
    known = Known(instances.sources_known(node), node.journal.not_well_since("brokers"))
    rows = rows_of(t, report.instances, node.settings, known)
    found = verdict([_state(row) for row in rows])
    values = {
        "rows": rows,
        "verdict": found,
        "headline": headline(t, found),
        "reads_registry": report.reads_registry,
    }
    return render(request, "instances.html", values)


def _report(request: web.Request) -> InstancesReport:
    node = request.app[NODE]
    instances.note(node)
    service = node.service
    return InstancesReport(
        instances=tuple(node.instances.all()),
        reads_registry=service is not None,
        registry_error=None if service is None else service.registry.waiting_for,
    )


def rows_of(t: Texts, found: tuple[Instance, ...], settings: Settings, known: Known) -> list[Row]:
    """What the page shows of each. Pure."""
    return [_row(t, one, settings, known) for one in found]


def _row(t: Texts, one: Instance, settings: Settings, known: Known) -> Row:
    page = page_of(one.address or one.name, settings)
    if one.missing_since is not None:
        return Row(one, "bad", t("instances.missing"), page, one.missing_since, SERVICE)
    if not set(one.sources) & set(known.sources):  # Whoever told of it is away, and it may be, too.
        return Row(one, "off", t("check.unknown"), page, known.brokers_away_since, BROKERS)
    if one.is_draining:
        return Row(one, "off", t("services.draining"), page, one.health_since, SERVICE)
    if one.health is not None:
        look = _HEALTH_LOOKS[one.health]
        state = t(f"health.{one.health}")
        return Row(one, look, state, page, *(() if look == "ok" else (one.health_since, SERVICE)))
    return Row(one, "ok", t("instances.there"), page)


def _state(row: Row) -> PartState:
    name = f"{row.instance.service} {row.instance.name}"
    on_purpose = row.look == "off" and row.instance.is_draining
    return PartState(
        part=name, look=row.look, name=name, text=row.state, since=row.since, topic=row.topic, counts=not on_purpose
    )
