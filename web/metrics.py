"""`/metrics` for Prometheus, and how long requests take, by route."""

import asyncio
import time
from dataclasses import dataclass

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

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


class Durations:
    """A histogram by method, route and status; its children are remembered, so that a request costs little."""

    def __init__(self, own: CollectorRegistry) -> None:
        self._histogram = Histogram(
            "emis_http_request_duration_seconds",
            "Time to answer, by the route's template.",
            ["method", "route", "status"],
            buckets=BUCKETS_SECONDS,
            registry=own,
        )
        self._children: dict[tuple[str, str, int], Histogram] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        child = self._children.get((method, route, status))
        if child is None:
            child = self._histogram.labels(method, route, str(status))
            self._children[method, route, status] = child
        child.observe(seconds)


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
    """Time every request; what no route takes is one route, so that labels stay few."""
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
        route = route_of(request) or UNKNOWN_ROUTE
        request.app[DURATIONS].observe(method_of(request), route, status, time.perf_counter() - started)


def setup(app: web.Application) -> None:
    """Make an application count its requests; `app[NODE]` and a door must be there. Before `problems.setup`."""
    own = registry(app[NODE])
    own.register(DoorCollector(app[DOOR]))
    app[REGISTRY] = own
    app[LAG] = LagCollector(app[NODE])
    app[DURATIONS] = Durations(own)
    app.middlewares.append(durations)
