"""A span for each HTTP request, child of the caller's if it sends a `traceparent`."""

from aiohttp import web
from opentelemetry.trace import SpanKind

from emis_streams import tracing
from web.problems import Handler


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Named by the route's template: paths hold ids."""
    resource = request.match_info.route.resource
    route = "" if resource is None else resource.canonical
    attributes = {"http.request.method": request.method, "http.route": route}
    parent = tracing.parent_of(request.headers.get(tracing.TRACEPARENT))
    with tracing.span(f"{request.method} {route}", SpanKind.SERVER, attributes, parent) as span:
        response = await handler(request)
        if span is not None:
            span.set_attribute("http.response.status_code", response.status)
        return response


def setup(app: web.Application) -> None:
    """If this process traces at all."""
    if tracing.is_on():
        app.middlewares.append(traced)
