"""Who gets an answer: the Host must be one of ours, and where tokens are set, the bearer must have one."""

import base64
import binascii
import ipaddress
from functools import lru_cache

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from multidict import CIMultiDict

from emis_streams.exposure import Tokens, allowed_names, tokens_of
from emis_streams.node import NODE
from web.problems import Handler

PROBES = frozenset({"/livez", "/readyz", "/startupz"})
"""For orchestrators, under any name: they say only whether this worker is alive and ready."""
PUBLIC = PROBES | {"/static"}
OPERATORS_ONLY = frozenset(
    {
        *("/health", "/info", "/metrics", "/consumer-lag", "/api/consumer-lag", "/circuit-breakers"),
        "/services/status",  # On the gateway.
    }
)

_CHALLENGES = CIMultiDict(
    [
        (hdrs.WWW_AUTHENTICATE, 'Bearer realm="emis-streams"'),
        (hdrs.WWW_AUTHENTICATE, 'Basic realm="emis-streams", charset="UTF-8"'),
    ]
)
"""Browsers ask for user and password: any user, the token as the password."""
_REMEMBERED_HOSTS = 256


def setup(app: web.Application) -> None:
    """Make an application refuse strangers; after `problems.setup`, so that refusals are told as problems."""
    settings = app[NODE].settings
    names = allowed_names(settings)
    if names is not None:
        app.middlewares.append(_of_hosts(names))
    tokens = tokens_of(settings)
    if tokens is not None:
        app.middlewares.append(_with(tokens))


def is_operator(request: web.Request) -> bool:
    """Whether an operator's token came with it; False where no tokens are set."""
    tokens = tokens_of(request.app[NODE].settings)
    return tokens is not None and tokens.access(_token_of(request)) == "operator"


def _of_hosts(names: frozenset[str]) -> Middleware:
    """A page elsewhere whose name suddenly leads here (DNS rebinding) sends its own name as Host."""

    @lru_cache(maxsize=_REMEMBERED_HOSTS)
    def is_ours(host: str) -> bool:
        name = _name_of(host)
        return name in names or _is_address(name)

    @web.middleware
    async def hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get(hdrs.HOST)
        if host is not None and _place(request) not in PROBES and not is_ours(host):
            raise web.HTTPMisdirectedRequest(
                text="This worker does not answer under that name: WEB_ALLOWED_HOSTS lists those that it does."
            )
        return await handler(request)

    return hosts


def _name_of(host: str) -> str:
    """The Host without its port, in lower case."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).strip("[]").removesuffix(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with(tokens: Tokens) -> Middleware:
    @web.middleware
    async def bearers(request: web.Request, handler: Handler) -> web.StreamResponse:
        place = _place(request)
        if place in PUBLIC:
            return await handler(request)
        access = tokens.access(_token_of(request))
        if access is None:
            raise web.HTTPUnauthorized(
                text="A token is needed: Authorization: Bearer, or as the password of Basic.", headers=_CHALLENGES
            )
        if access != "operator" and place in OPERATORS_ONLY:
            raise web.HTTPForbidden(text="This is for operators; the token is a reader's.")
        return await handler(request)

    return bearers


def _place(request: web.Request) -> str:
    """The route's template, whatever the path was spelled like; empty where nothing is."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical


def _token_of(request: web.Request) -> str:
    """The token of the Authorization header; empty, which no token is, without one."""
    scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(given, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
