"""Consumer lag: JSON at `/api/consumer-lag`; at `/consumer-lag` the page for browsers, the JSON for all others."""

import time
from typing import Any

import msgspec
from aiohttp import hdrs, web

from emis_streams.health_report import ConsumerLag
from emis_streams.lag_report import LagReport, LatencySummary
from emis_streams.node import NODE, Node
from web.lag_page import lag_page
from web.lag_table import FILTER, ONLY, OPEN, SORT
from web.pages import wants_html
from web.parameters import LANG, one_of, takes
from web.problems import problem

routes = web.RouteTableDef()

HISTORY = one_of("history", ("true", "false"), "true")
RETRY_AFTER_SECONDS = 1


@routes.get("/api/consumer-lag")
@takes(HISTORY)
async def consumer_lag_json(request: web.Request) -> web.Response:
    """The last measurement; `?history=false` leaves the trend out. 503 before the first."""
    return _as_json(request)


@routes.get("/consumer-lag")
@takes(HISTORY, ONLY, SORT, FILTER, OPEN, LANG)
async def consumer_lag_page(request: web.Request) -> web.StreamResponse:
    """HTML only if Accept names text/html."""
    return lag_page(request) if wants_html(request) else _as_json(request)


def _as_json(request: web.Request) -> web.Response:
    found = consumer_lag(request.app[NODE], with_history=HISTORY.of(request) == "true")
    if found is None:
        response = problem(503, "Not measured yet", "The brokers were not asked yet; this takes about a second.")
        response.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_SECONDS)
        return response
    return web.Response(
        body=msgspec.json.encode(found),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store"},
    )


def consumer_lag(node: Node, with_history: bool = True) -> ConsumerLag | None:
    """What is known of lag now; None before the first measurement."""
    report = None if node.lag is None else node.lag.snapshot()
    if report is None or node.lag is None:
        return None
    return ConsumerLag(
        **_fields(report),
        sync_latency=sync_latencies(node),
        invalid_records=node.invalid_records(),
        history=tuple(node.lag.history()) if with_history else (),
    )


async def lag_report(node: Node) -> dict[str, Any]:
    """The JSON of `/api/consumer-lag` as plain data; empty before the first measurement."""
    found = consumer_lag(node)
    return {} if found is None else msgspec.to_builtins(found)


def sync_latencies(node: Node) -> dict[str, LatencySummary]:
    """Of each follower of this worker, with the threshold of the settings marked."""
    now, threshold = time.monotonic(), node.settings.sync_latency_threshold_seconds
    return {name: latency.summary(now, threshold) for name, latency in node.sync_latency.items()}


def _fields(report: LagReport) -> dict[str, Any]:
    return {name: getattr(report, name) for name in report.__struct_fields__}
