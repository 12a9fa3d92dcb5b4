"""`/metrics` for Prometheus, and how long requests take, by route."""

import asyncio
import time
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import AbstractResource
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from emis_streams.engine.door import DOOR
from emis_streams.metrics import LagCollector, registry
from emis_streams.node import NODE
from web.limits import DoorCollector
from web.parameters import takes
from web.problems import Handler
from web.request_labels import UNKNOWN_ROUTE, method_of, route_of

routes = web.RouteTableDef()

REGISTRY: web.AppKey[CollectorRegistry] = web.AppKey("metrics_registry", CollectorRegistry)
LAG: web.AppKey[LagCollector] = web.AppKey("lag_collector", LagCollector)
DURATIONS: web.AppKey["Durations"] = web.AppKey("request_durations", object)  # type: ignore[arg-type]

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True)
class Collected(Collector):
    """Families that were collected already, as the encoders take them."""

    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families


class Durations(Collector):
    """A histogram by method, route and status. prometheus_client's own takes 1.5 µs more of every answer: for locks
    that one loop does not need."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, AbstractResource | None, int], _Series] = {}
        self._by_labels: dict[tuple[str, str, str], _Series] = {}

    def observe(self, request: web.Request, status: int, seconds: float) -> None:
        """What no route takes is one route, and what is no method is one method, so that labels stay few."""
        resource = request.match_info.route.resource
        series = self._of.get((request.method, resource, status)) or self._series(request, resource, status)
        series.counts[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        series.sum_seconds += seconds

    def _series(self, request: web.Request, resource: AbstractResource | None, status: int) -> "_Series":
        method = method_of(request)
        labels = (method, route_of(request) or UNKNOWN_ROUTE, str(status))
        series = self._by_labels.setdefault(labels, _Series())
        if method == request.method:  # Clients make up as many others as they like.
            self._of[method, resource, status] = series
        return series

    def collect(self) -> list[Metric]:
        family = HistogramMetricFamily(
            "emis_http_request_duration_seconds",
            "Time to answer, by the route's template.",
            labels=["method", "route", "status"],
        )
        for labels, series in self._by_labels.items():
            bounds = [*map(floatToGoString, BUCKETS_SECONDS), "+Inf"]
            family.add_metric(labels, list(zip(bounds, accumulate(series.counts), strict=True)), series.sum_seconds)
        return [family]


class _Series:
    __slots__ = ("counts", "sum_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_SECONDS) + 1)
        self.sum_seconds = 0.0


@routes.get("/metrics")
@takes()
async def metrics(request: web.Request) -> web.Response:
    """The text format, or OpenMetrics if the Accept header asks for it."""
    encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
    # Collected here, where the node's parts live. What may be many lines is made in a thread, so that no request waits:
    # the lag report has several for each partition of each group.
    of_node, lag = list(request.app[REGISTRY].collect()), request.app[LAG]
    body = await asyncio.to_thread(lambda: encode(Collected([*of_node, *lag.collect()])))
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


@web.middleware
async def durations(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Times every request."""
    started = time.perf_counter()
    status = 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as error:
        status = error.status
        raise
    finally:
        request.app[DURATIONS].observe(request, status, time.perf_counter() - started)


def setup(app: web.Application) -> None:
    """Make an application count its requests; `app[NODE]` and a door must be there. Before `problems.setup`."""
    own = registry(app[NODE])
    own.register(DoorCollector(app[DOOR]))
    app[REGISTRY] = own
    app[LAG] = LagCollector(app[NODE])
    app[DURATIONS] = Durations()
    own.register(app[DURATIONS])
    app.middlewares.append(durations)
