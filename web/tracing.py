"""A span for each HTTP request, child of the caller's if it sends a `traceparent`."""

from aiohttp import web
from opentelemetry.trace import SpanKind

from emis_streams import tracing
from web.problems import Handler
from web.request_labels import OTHER_METHOD, method_of, route_of


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Named as OpenTelemetry's conventions say: by method and the route's template, never by what clients make up."""
    method, route = method_of(request), route_of(request)
    attributes = {"http.request.method": method}
    if route is not None:
        attributes["http.route"] = route
    if method == OTHER_METHOD:
        attributes["http.request.method_original"] = request.method
    parent = tracing.parent_of(request.headers.get(tracing.TRACEPARENT))
    with tracing.span(_name_of(method, route), SpanKind.SERVER, attributes, parent) as span:
        response = await handler(request)
        if span is not None:
            span.set_attribute("http.response.status_code", response.status)
        return response


def _name_of(method: str, route: str | None) -> str:
    shown = "HTTP" if method == OTHER_METHOD else method
    return shown if route is None else f"{shown} {route}"


def setup(app: web.Application) -> None:
    """If this process traces at all."""
    if tracing.is_on():
        app.middlewares.append(traced)
