"""The circuit breakers of this process, in the second seed's shape with their history, and how one is reset."""

from datetime import UTC, datetime, timedelta

import msgspec
from aiohttp import web

from emis_streams.lag_report import Camel
from emis_streams.node import NODE
from emis_streams.services.breakers import Breakers
from emis_streams.services.circuit_breaker import CircuitBreaker, State
from emis_streams.services.gateway import GatewayService
from web.access import is_operator
from web.pages import as_json, wants_html
from web.parameters import takes

routes = web.RouteTableDef()


class Change(Camel, frozen=True, kw_only=True):
    """Of a breaker's state."""

    at: datetime
    before: State
    after: State
    reason: str


class BreakerReport(Camel, frozen=True, kw_only=True):
    """One breaker, of calls of one pattern of one service."""

    status: State
    failure_count: int
    """In a row: as many as `threshold` open it."""
    success_count: int
    """Since the start, as the other counts."""
    failed_count: int
    slow_count: int
    """Timed out while others were answered: overload, which opens nothing."""
    rejected_count: int
    cancelled_count: int
    threshold: int
    timeout: int
    """Milliseconds until an open one lets a call pass."""
    next_attempt_at: datetime | None
    """Of an open one: from then on a call passes, to find out."""
    history: tuple[Change, ...]
    """The newest at the end."""


class PatternsReport(msgspec.Struct, frozen=True):
    patterns: dict[str, BreakerReport]


@routes.get("/circuit-breakers")
@takes()
async def circuit_breakers(request: web.Request) -> web.Response:
    """All breakers, by service and pattern; none was made for what was never called."""
    service = request.app[NODE].service
    return as_json({} if service is None else report_of(service.breakers))


@routes.post("/circuit-breakers/{service}/{pattern}/reset")
@takes()
async def reset(request: web.Request) -> web.Response:
    """Calls pass again. For operators; where no tokens are set nobody can be told from a stranger.

    A form of a page is answered by the way back to it.
    """
    if not is_operator(request):
        raise web.HTTPForbidden(text="This is for operators: set WEB_TOKENS_FILE, and bring an operator's token.")
    name, pattern = request.match_info["service"], request.match_info["pattern"]
    service = request.app[NODE].service
    known = {} if service is None else {(s, p): breaker for s, p, breaker in service.breakers}
    if (name, pattern) not in known:
        raise web.HTTPNotFound(text=f"No call of {name} {pattern} was made here: it has no breaker.")
    breaker = known[name, pattern]
    breaker.reset()
    if wants_html(request):
        raise web.HTTPSeeOther("/services/status" if isinstance(service, GatewayService) else "/circuit-breakers")
    return as_json(_report(breaker))


def report_of(breakers: Breakers) -> dict[str, PatternsReport]:
    """By service."""
    found: dict[str, PatternsReport] = {}
    for service, pattern, breaker in breakers:
        found.setdefault(service, PatternsReport({})).patterns[pattern] = _report(breaker)
    return found


def _next_attempt_at(breaker: CircuitBreaker) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=breaker.retry_after_seconds)


def _report(breaker: CircuitBreaker) -> BreakerReport:
    status = breaker.state  # First: asking may be what makes it HALF_OPEN.
    return BreakerReport(
        status=status,
        failure_count=breaker.failures_in_row,
        success_count=breaker.counts.succeeded,
        failed_count=breaker.counts.failed,
        slow_count=breaker.counts.slow,
        rejected_count=breaker.counts.rejected,
        cancelled_count=breaker.counts.cancelled,
        threshold=breaker.limits.threshold,
        timeout=round(breaker.limits.open_seconds * 1000),
        next_attempt_at=_next_attempt_at(breaker) if status is State.OPEN else None,
        history=tuple(Change(at=c.at, before=c.before, after=c.after, reason=c.reason) for c in breaker.history),
    )
