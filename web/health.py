"""Health: `/livez`, `/readyz`, `/startupz` for orchestrators, `/health` and `/info` for people and programs."""

import asyncio
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version

import msgspec
from aiohttp import hdrs, web

import emis_streams
from emis_streams import topics
from emis_streams.errors import Unavailable
from emis_streams.health_report import (
    CheckStatus,
    Cpu,
    Health,
    HealthChanges,
    HealthReport,
    InfoReport,
    LiveReport,
    Memory,
    ReadyReport,
)
from emis_streams.node import NODE, Node
from emis_streams.resources import Resources
from emis_streams.services.health import Finding
from emis_streams.settings import ROLES
from web import health_checks
from web.health_checks import View
from web.health_page import health_page, known_page
from web.pages import wants_html
from web.parameters import LANG, takes

routes = web.RouteTableDef()

_resources = Resources()
DATABASE_TIMEOUT_SECONDS = 2.0
JOURNAL_SECONDS = 2.0
"""How often the journal looks: what was different for less than that may have no line."""
_STATUSES: dict[Health, CheckStatus] = {"healthy": "pass", "degraded": "warn", "unhealthy": "fail"}
_NOBODY = "00000000-0000-0000-0000-000000000000"


@routes.get("/livez")
async def livez(_request: web.Request) -> web.Response:
    """Alive: asks nothing of others, so that a failing broker or database restarts nobody."""
    return _json(LiveReport(status="alive", timestamp=datetime.now(UTC)))


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """Ready for requests: 200, else 503 with what is waited for."""
    report = ready_report(request.app[NODE])
    return _json(report, 200 if report.status == "ready" else 503)


@routes.get("/startupz")
async def startupz(request: web.Request) -> web.StreamResponse:
    """Started: what `/readyz` waits for is reached once and stays so."""
    return await readyz(request)


@routes.get("/health")
@takes(LANG)
async def health(request: web.Request) -> web.Response:
    """A check per part: 200 healthy and degraded, 503 unhealthy."""
    if wants_html(request) and (known := known_page(request)) is not None:
        return known
    report = await health_report(request.app[NODE])
    status = 503 if report.status == "unhealthy" else 200
    return health_page(request, report, status) if wants_html(request) else _json(report, status)


@routes.get("/health/journal")
@takes()
async def journal(request: web.Request) -> web.Response:
    """Which check changed its state when, the newest first."""
    return _json(HealthChanges(changes=request.app[NODE].journal.changes))


@routes.get("/info")
@takes()
async def info(request: web.Request) -> web.Response:
    """What runs here."""
    return _json(info_report(request.app[NODE]))


async def health_report(node: Node) -> HealthReport:
    """What `/health` says of this worker now."""
    now = datetime.now(UTC)
    usage = _resources.usage()
    found = node.journal.with_since(health_checks.checks(await _view(node, now)))
    return HealthReport(
        status=health_checks.health(found),
        timestamp=now,
        uptime=round(node.uptime_seconds, 3),
        memory=Memory(used=usage.memory_used_bytes, total=usage.memory_total_bytes, percentage=usage.memory_percent),
        cpu=Cpu(usage=usage.cpu_percent),
        version=emis_streams.__version__,
        roles=_roles(node),
        checks=found,
    )


async def as_told_to_others(node: Node) -> Finding:
    """What the registry, and so the pages of all instances, hear of this worker's health."""
    report = await health_report(node)
    unwell = [name for name, check in report.checks.items() if check.status != "pass"]
    text = f"Checks that do not pass: {', '.join(unwell)}. See /health." if unwell else "All checks of the worker pass."
    return Finding(_STATUSES[report.status], text)


async def keep_journal(node: Node) -> None:
    """Note changes of the checks' states until cancelled, from the first look at the brokers on."""
    node.journal.load()
    node.journal.note_start(emis_streams.__version__, node.now())
    while True:
        if node.lag is None or node.lag.snapshot() is not None:
            report = await health_report(node)
            node.journal.note(report.checks, node.now())
            _note_health(node, report)
        if not node.journal.is_saved:
            await asyncio.to_thread(node.journal.save)
        await asyncio.sleep(JOURNAL_SECONDS)


def _note_health(node: Node, report: HealthReport) -> None:
    failing = (node.journal.not_well_since(name) for name, check in report.checks.items() if check.status != "pass")
    node.health = report.status
    node.health_since = min((since for since in failing if since is not None), default=None)


async def _view(node: Node, now: datetime) -> View:
    following = node.read_model_follower
    read_model = None if following is None else following.status()
    threshold = node.settings.sync_latency_threshold_seconds
    return View(
        now=now,
        settings=node.settings,
        report=None if node.lag is None else node.lag.snapshot(),
        ingest=None if node.ingest is None else node.ingest.status(),
        read_model=read_model,
        replica=None if node.replica_follower is None else node.replica_follower.status(),
        has_reader=read_model is None or read_model.caught_up or await _database_answers(node),
        latencies={name: latency.summary(time.monotonic(), threshold) for name, latency in node.sync_latency.items()},
        usage=_resources.usage(),
        skew_seconds=node.clock.skew_seconds(),
        standstill=node.standstill(),
        invalid=node.invalid_records(),
        uptime_seconds=node.uptime_seconds,
    )


async def _database_answers(node: Node) -> bool:
    if node.reader is None:
        return False
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS):
            await node.reader.teacher(_NOBODY, limit=1)
    except (Unavailable, TimeoutError):
        return False
    return True


def ready_report(node: Node) -> ReadyReport:
    """Serving: the local copy reached the end seen at the start; ingesting: partitions and tables caught up once."""
    reasons, warnings = [], []
    if "serve" in node.roles and (node.read_model_follower is None or not node.read_model_follower.status().caught_up):
        reasons.append("the read model has not reached the end of the changelogs seen at the start")
    if "ingest" in node.roles:
        status = None if node.ingest is None else node.ingest.status()
        if status is None or not status.caught_up:
            waits_for = None if status is None else status.waits_for
            because = "" if waits_for is None else f": {waits_for}"
            reasons.append(f"partitions are not assigned and caught up yet{because}")
        elif status.rebalancing:
            because = "" if status.waits_for is None else f": {status.waits_for}"
            warnings.append(f"the consumer group is rebalancing{because}")
        elif status.waits_for is not None:
            warnings.append(status.waits_for)
    for follower in (node.read_model_follower, node.replica_follower):
        followed = None if follower is None else follower.status()
        if followed is not None and (waits_for := followed.waits_for) is not None:
            warnings.append(f"the {followed.name} waits: {waits_for}")
    standstill = node.standstill()
    if standstill is not None:  # Pages go on without an ingesting side, and say how old they are.
        (warnings if "serve" in node.roles else reasons).append(f"no progress: {standstill}")
    return ReadyReport(status="not-ready" if reasons else "ready", reasons=tuple(reasons), warnings=tuple(warnings))


def info_report(node: Node) -> InfoReport:
    """Versions, roles, topics and groups."""
    return InfoReport(
        name=topics.APP_ID,
        version=emis_streams.__version__,
        git_commit=node.settings.git_commit or None,
        python_version=platform.python_version(),
        faust_version=version("faust-streaming"),
        roles=_roles(node),
        group_ids=(topics.APP_ID, topics.REPLICA_GROUP),
        topics=tuple(t.name for t in topics.source_topics()),
        changelogs=tuple(t.name for t in topics.changelog_topics()),
        dead_letter_topic=topics.DEAD_LETTER,
        started_at=node.started_at,
        uptime=round(node.uptime_seconds, 3),
    )


def _roles(node: Node) -> tuple[str, ...]:
    return tuple(role for role in ROLES if role in node.roles)


def _json(body: msgspec.Struct, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store"},
    )
