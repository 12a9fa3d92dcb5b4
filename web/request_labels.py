"""What a request is called in metrics and traces: one of few names, whatever method and path a client sends."""

from aiohttp import hdrs, web

OTHER_METHOD = "_OTHER"
"""As OpenTelemetry's conventions for HTTP call a method that they do not know."""
UNKNOWN_ROUTE = "unknown"


def method_of(request: web.Request) -> str:
    """GET, POST and the other methods of RFC 9110 and RFC 5789; `_OTHER` for all else."""
    return request.method if request.method in hdrs.METH_ALL else OTHER_METHOD


def route_of(request: web.Request) -> str | None:
    """The template of its path, which holds no ids; None if no route takes it."""
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical
