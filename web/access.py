"""Who gets an answer: the Host must be one of ours, no other site may post, and where tokens are set, one is needed."""

import base64
import binascii
import ipaddress
from collections.abc import Callable
from functools import lru_cache

from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from emis_streams.exposure import Tokens, allowed_names, own_names, tokens_of
from emis_streams.node import NODE
from web.problems import Handler

PROBES = frozenset({"/livez", "/readyz", "/startupz"})
"""For orchestrators, under any name: they say only whether this worker is alive and ready."""
PUBLIC = PROBES | {"/static/{name}"}
OPERATORS_ONLY = frozenset(
    {
        *("/health", "/health/journal", "/info", "/metrics", "/consumer-lag", "/api/consumer-lag", "/circuit-breakers"),
        *("/dead-letters", "/api/dead-letters", "/dead-letters/{place}", "/api/dead-letters/{place}"),
        *("/instances", "/api/instances"),
        "/services/status",  # On the gateway.
    }
)

Check = Callable[[web.Request], None]
"""Raises web.HTTPException for a request that gets no answer."""

_BEARER = (hdrs.WWW_AUTHENTICATE, 'Bearer realm="emis-streams"')
_BASIC = (hdrs.WWW_AUTHENTICATE, 'Basic realm="emis-streams", charset="UTF-8"')
"""Browsers ask for user and password: any user, the token as the password."""
_REMEMBERED_HOSTS = 256
_SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
_OWN_SITE = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site: a page of ours, or nobody's (a person, or no browser)."""


def setup(app: web.Application) -> None:
    """Make an application refuse strangers; after `problems.setup`, so that refusals are told as problems."""
    settings = app[NODE].settings
    names, tokens = allowed_names(settings), tokens_of(settings)
    checks = [_of_own_site(own_names(settings))]
    if names is not None:
        checks.insert(0, _of_hosts(names))
    if tokens is not None:
        checks.append(_with(tokens))

    @web.middleware
    async def admitted(request: web.Request, handler: Handler) -> web.StreamResponse:
        for check in checks:
            check(request)
        return await handler(request)

    app.middlewares.append(admitted)


def is_operator(request: web.Request) -> bool:
    """Whether an operator's token came with it; False where no tokens are set."""
    tokens = tokens_of(request.app[NODE].settings)
    return tokens is not None and tokens.access(_token_of(request)) == "operator"


def sees_operations(request: web.Request) -> bool:
    """Whether who asks may see health, lag and dead letters: everybody where no tokens are set, else an operator."""
    return tokens_of(request.app[NODE].settings) is None or is_operator(request)


def is_opened(request: web.Request) -> bool:
    """Whether somebody opens a page; False if an open one asks for itself again (browsers say so)."""
    return request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"


def _of_own_site(own: frozenset[str]) -> Check:
    """A browser sends along whom it asks for; `own` are the names that operators gave (behind a proxy)."""

    def own_site(request: web.Request) -> None:
        if request.method in _SAFE_METHODS or request.match_info.http_exception is not None:
            return
        site = request.headers.get("Sec-Fetch-Site", "none")
        if site not in _OWN_SITE or not all(_is_own(origin, request, own) for origin in _origins(request)):
            raise web.HTTPForbidden(text="A page of another site may not send this: Origin and Sec-Fetch-Site say so.")
        if request.body_exists and request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="The body must be JSON, with Content-Type: application/json.")
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise web.HTTPUnsupportedMediaType(text="The body must not be compressed: leave out Content-Encoding.")

    return own_site


def _origins(request: web.Request) -> list[str]:
    return request.headers.getall(hdrs.ORIGIN, [])


def _is_own(origin: str, request: web.Request, own: frozenset[str]) -> bool:
    """Whether an Origin names this very server: its Host with the port, or a name in `own` without one."""
    try:
        url = URL(origin)
        host, explicit, port = url.host, url.explicit_port, url.port
    except ValueError:
        return False
    if host is None or url.scheme not in ("http", "https"):
        return False
    authority = url.authority.lower()
    given = request.headers.get(hdrs.HOST, "").lower()
    if host.lower() in own and explicit is None:
        return True
    return given in (authority, f"{authority}:{port}" if explicit is None else authority)


def _of_hosts(names: frozenset[str]) -> Check:
    """A page elsewhere whose name suddenly leads here (DNS rebinding) sends its own name as Host."""

    @lru_cache(maxsize=_REMEMBERED_HOSTS)
    def is_ours(host: str) -> bool:
        name = _name_of(host)
        return name in names or _is_address(name)

    def hosts(request: web.Request) -> None:
        host = request.headers.get(hdrs.HOST)
        if host is not None and not is_ours(host) and _place(request) not in PROBES:
            raise web.HTTPMisdirectedRequest(
                text="This worker does not answer under that name: WEB_ALLOWED_HOSTS lists those that it does."
            )

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


def _with(tokens: Tokens) -> Check:
    def bearers(request: web.Request) -> None:
        place = _place(request)
        if place in PUBLIC:
            return
        access = tokens.access(_token_of(request))
        if access is None:
            raise web.HTTPUnauthorized(
                text="A token is needed: Authorization: Bearer, or as the password of Basic.",
                headers=_challenges(request),
            )
        if access != "operator" and (place in OPERATORS_ONLY or request.method not in _SAFE_METHODS):
            raise web.HTTPForbidden(text="This is for operators; the token is a reader's.")

    return bearers


def _challenges(request: web.Request) -> CIMultiDict[str]:
    """Without Basic for a page that is open and asks for itself: the browser would ask for a password at each turn."""
    return CIMultiDict([_BEARER, _BASIC] if is_opened(request) else [_BEARER])


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
