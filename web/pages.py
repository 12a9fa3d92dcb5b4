"""How every page is made: in the reader's language, from a template, with the status that JSON would have."""

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import aiohttp_jinja2
import jinja2
import msgspec
from aiohttp import web

from emis_streams.node import NODE, Node
from emis_streams.services.gateway import GatewayService
from web.access import OPERATORS_ONLY, is_opened, sees_operations
from web.freshness import FRESHNESS, Freshness
from web.i18n import COOKIE, Texts, choose

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
TEMPLATES = _HERE / "templates"
YEAR_SECONDS = 365 * 24 * 3600
Audience = Literal["operators", "teachers"]
"""Teachers see no words of operations: neither in the menu nor in the foot of the page."""

routes = web.RouteTableDef()
routes.static("/static", STATIC)


def setup(app: web.Application) -> None:
    """Make an application able to render pages and to say how old answers are; `app[NODE]` must be there."""
    aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    app[FRESHNESS] = Freshness(app[NODE])


def load_templates(app: web.Application) -> None:
    """Compiles all templates now: else the first reader of each page waits for it, and all others meanwhile."""
    environment = aiohttp_jinja2.get_env(app)
    for name in environment.list_templates():
        environment.get_template(name)


READERS_SECONDS = 15
"""How often a page about teachers and classes is asked for again: many have one open, and few of them change."""
OPERATORS_SECONDS = 2
"""The same of a page about this system."""
LANGUAGE_HEADER = "Page-Language"
"""An open page asks for itself in the language that it is in, whatever was chosen elsewhere since."""

Answer = Literal["page", "absent", "waiting", "error"]
"""What an answer is to an open page: its content; that there is nothing, for certain; that this cannot be told yet;
or an error, which never takes the place of what is shown. `web/static/refresh.js` goes by it."""

NAVIGATION = (("/", "nav.overview"), ("/consumer-lag", "nav.lag"), ("/health", "nav.health"))
"""Addresses and names of a teacher worker's pages."""
OPERATIONS = "/health"
"""Where operators start from pages for teachers."""
GATEWAY_NAVIGATION = (("/services/status", "nav.services"),)
SERVICE_NAVIGATION = (("/consumer-lag", "nav.lag"),)


def _navigation(node: Node) -> tuple[tuple[str, str], ...]:
    """Only what is served there: some services have no pages, and show those of errors only."""
    if node.service is None or node.roles:
        return NAVIGATION
    if isinstance(node.service, GatewayService):
        return GATEWAY_NAVIGATION
    return () if node.lag is None else SERVICE_NAVIGATION


def _shown_navigation(
    pages: tuple[tuple[str, str], ...], shows_operations: bool, audience: Audience
) -> list[tuple[str, str]]:
    """What of the menu a reader sees: on pages for teachers, operators get one way to all that is theirs."""
    everybody = [page for page in pages if page[0] not in OPERATORS_ONLY]
    if audience == "operators":
        return list(pages) if shows_operations else everybody
    return [*everybody, (OPERATIONS, "nav.operations")] if shows_operations else everybody


def _what_it_is(node: Node) -> str:
    if node.service is not None and not node.roles:
        return node.service.name
    return ", ".join(role for role in ("ingest", "replicate", "serve") if role in node.roles)


def as_json(answer: object, status: int = 200) -> web.Response:
    """A JSON answer of anything that msgspec can encode."""
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")


def wants_html(request: web.Request) -> bool:
    """Whether a browser asks: only if the Accept header names text/html; all others get JSON."""
    return "text/html" in request.headers.get("Accept", "")


def texts_of(request: web.Request) -> Texts:
    """The texts in the language of who asks."""
    accepted = request.headers.get("Accept-Language", "")
    asked = request.headers.get(LANGUAGE_HEADER) or request.query.get("lang")
    return Texts(choose(asked, request.cookies.get(COOKIE), accepted))


def render(
    request: web.Request,
    template: str,
    values: dict[str, Any],
    status: int = 200,
    live: bool = True,
    *,
    every_seconds: int = OPERATORS_SECONDS,
    answer: Answer = "page",
    audience: Audience = "operators",
) -> web.Response:
    """A page; with `live` an open one asks for itself again after `every_seconds`, and goes by what `answer` says."""
    node = request.app[NODE]
    t = texts_of(request)
    shows_operations = sees_operations(request)
    context = {
        "t": t,
        "now": datetime.fromtimestamp(node.clock.unix_seconds(), UTC),
        "here": request.path,
        "live": live,
        "page_path": request.rel_url.raw_path,
        "answer": answer,
        "http_status": status,
        "every_seconds": every_seconds,
        # Without the path: one that begins with two slashes would lead to another host.
        "in_language": lambda language: f"?{request.rel_url.update_query(lang=language).raw_query_string}",
        "static": static_url,
        "roles": _what_it_is(node),
        "navigation": _shown_navigation(_navigation(node), shows_operations, audience),
        "audience": audience,
        "shows_operations": shows_operations,
        "stale_after_seconds": node.settings.stale_after_seconds,
        **values,
    }
    response: web.Response = aiohttp_jinja2.render_template(template, request, context, status=status)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept, Accept-Language, Cookie"
    if "lang" in request.query and is_opened(request):
        response.set_cookie(COOKIE, t.language, max_age=YEAR_SECONDS, samesite="Lax", httponly=True)
    return response


@cache
def static_url(name: str, stamped: bool = True) -> str:
    """The address of an asset; a stamp of its content makes browsers fetch a changed one."""
    if not stamped:
        return f"/static/{name}"
    stamp = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={stamp}"
