"""How every page is made: in the reader's language, from a template, with the status that JSON would have.

A page that shows what its client has already is answered with 304. A `StampedPage` knows that before
it is rendered, `render` only afterwards (docs/decisions/0025-compressed-answers.md).
"""

import hashlib
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import aiohttp_jinja2
import jinja2
import msgspec
from aiohttp import hdrs, web

from emis_streams.node import NODE, Node
from emis_streams.services.gateway import GatewayService
from web import assets, help_entries
from web.access import OPERATORS_ONLY, is_opened, sees_operations
from web.assets import YEAR_SECONDS, static_url
from web.compression import ENCODING, gzipped, takes_gzip
from web.conditional import etag_of, is_unchanged, not_modified
from web.freshness import FRESHNESS, Freshness
from web.i18n import COOKIE, Texts, choose
from web.page_cache import PAGE_CACHE, PageCache, RenderedPage

_HERE = Path(__file__).parent
TEMPLATES = _HERE / "templates"
Audience = Literal["operators", "teachers"]
"""Teachers see no words of operations: neither in the menu nor in the foot of the page."""
_VARIES_BY = "Accept, Accept-Encoding, Accept-Language, Page-Language, Cookie"
_KEPT_BY_ITS_BROWSER = "private, no-cache"
"""It may be kept, and is asked for again each time: with its ETag, if it is still the same."""
_NOT_KEPT = "no-store"
_PROCESS = secrets.token_hex(8)
"""Of this process, for what no other one would show alike."""

routes = assets.routes
Values = Mapping[str, Any]


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
    app[PAGE_CACHE] = PageCache()


def load_templates(app: web.Application) -> None:
    """Compiles all templates, and the runbook, now: else the first reader of each waits for it, and all others too."""
    environment = aiohttp_jinja2.get_env(app)
    for name in environment.list_templates():
        environment.get_template(name)
    help_entries.load()


READERS_SECONDS = 15
"""How often a page about teachers and classes is asked for again: many have one open, and few of them change."""
OPERATORS_SECONDS = 2
"""The same of a page about this system."""
LANGUAGE_HEADER = "Page-Language"
"""An open page asks for itself in the language that it is in, whatever was chosen elsewhere since."""

Answer = Literal["page", "absent", "waiting", "error"]
"""What an answer is to an open page: its content; that there is nothing, for certain; that this cannot be told yet;
or an error, which never takes the place of what is shown. `web/static/refresh.js` goes by it."""

NAVIGATION = (
    ("/", "nav.overview"),
    ("/consumer-lag", "nav.lag"),
    ("/dead-letters", "nav.dead"),
    ("/instances", "nav.instances"),
    ("/health", "nav.health"),
)
SERVING_NAVIGATION = (NAVIGATION[0], ("/teachers", "nav.teachers"), ("/classes", "nav.classes"), *NAVIGATION[1:])
"""Addresses and names of a teacher worker's pages."""
OPERATIONS = "/health"
"""Where operators start from pages for teachers."""
GATEWAY_NAVIGATION = (("/services/status", "nav.services"),)
SERVICE_NAVIGATION = (("/consumer-lag", "nav.lag"),)


def _navigation(node: Node) -> tuple[tuple[str, str], ...]:
    """Only what is served there: some services have no pages, and show those of errors only."""
    if node.service is None or node.roles:
        return NAVIGATION if node.read_model is None else SERVING_NAVIGATION
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


def this_second() -> str:
    """Stands for all that a page shows of this process: such a page is made once a second, however many look at it."""
    return f"{_PROCESS}:{int(time.monotonic())}"


def render(
    request: web.Request,
    template: str,
    values: Values,
    status: int = HTTPStatus.OK,
    live: bool = True,
    *,
    every_seconds: int = OPERATORS_SECONDS,
    answer: Answer = "page",
    audience: Audience = "operators",
) -> web.Response:
    """A page; with `live` an open one asks for itself again after `every_seconds`, and goes by what `answer` says."""
    of_page = {"live": live, "answer": answer, "http_status": status, "every_seconds": every_seconds, "etag": None}
    page = RenderedPage(_html(request, template, {**of_page, **values}, audience), b"")
    if status != HTTPStatus.OK:
        return _with_cookie(request, _response(request, page, {hdrs.CACHE_CONTROL: _NOT_KEPT}, status))
    headers = _headers(etag_of((page.html,)))
    if is_unchanged(request, headers[hdrs.ETAG]):
        return _with_cookie(request, not_modified(headers))
    return _with_cookie(request, _response(request, page, headers))


class StampedPage:
    """A page with status 200, rendered only if its client does not have it, and nobody else had it just now.

    `shown` stands for all that the page shows, besides settings and reader: as long as it is the same, the page is.
    """

    def __init__(
        self,
        request: web.Request,
        template: str,
        shown: bytes | str,
        every_seconds: int = OPERATORS_SECONDS,
        audience: Audience = "operators",
    ) -> None:
        self._request = request
        self._template = template
        self._every_seconds = every_seconds
        self._audience: Audience = audience
        self._headers = _headers(etag_of((shown, template, *_variant(request))))

    def known(self) -> web.Response | None:
        """The answer, if nothing has to be rendered for it."""
        etag = self._headers[hdrs.ETAG]
        if is_unchanged(self._request, etag):
            return _with_cookie(self._request, not_modified(self._headers))
        page = self._request.app[PAGE_CACHE].get(etag)
        return None if page is None else self._answer(page)

    def render(self, values: Values) -> web.Response:
        """The answer, with the values of the template."""
        etag = self._headers[hdrs.ETAG]
        of_page = {"live": True, "answer": "page", "http_status": HTTPStatus.OK, "every_seconds": self._every_seconds}
        html = _html(self._request, self._template, {**of_page, "etag": etag, **values}, self._audience)
        page = RenderedPage(html, gzipped(html))
        self._request.app[PAGE_CACHE].keep(etag, page)
        return self._answer(page)

    def _answer(self, page: RenderedPage) -> web.Response:
        return _with_cookie(self._request, _response(self._request, page, self._headers))


def _variant(request: web.Request) -> tuple[str, ...]:
    """What else decides how a page looks to this reader."""
    node = request.app[NODE]
    settings = node.settings
    return (
        _code_version(),
        texts_of(request).language,
        request.path_qs,
        "operations" if sees_operations(request) else "",
        _what_it_is(node),
        str(_navigation(node)),
        str(settings.stale_after_seconds),
    )


@cache
def _code_version() -> str:
    """Of everything that makes pages: code, templates and texts. Static files have theirs in their addresses."""
    files = (path for path in sorted(_HERE.rglob("*")) if path.suffix in (".py", ".html", ".json"))
    content = hashlib.sha256()
    for path in files:
        content.update(path.read_bytes())
    return content.hexdigest() + assets.stamp()


def _headers(etag: str) -> dict[str, str]:
    return {hdrs.ETAG: etag, hdrs.CACHE_CONTROL: _KEPT_BY_ITS_BROWSER, hdrs.VARY: _VARIES_BY}


def _html(request: web.Request, template: str, values: Values, audience: Audience) -> bytes:
    node = request.app[NODE]
    shows_operations = sees_operations(request)
    context = {
        "t": texts_of(request),
        "now": datetime.fromtimestamp(node.clock.unix_seconds(), UTC),
        "here": request.path,
        "page_path": request.rel_url.raw_path,
        # Without the path: one that begins with two slashes would lead to another host.
        "in_language": lambda language: f"?{request.rel_url.update_query(lang=language).raw_query_string}",
        "static": static_url,
        "searches": node.read_model is not None,
        "query": "",
        "topic": None,
        "roles": _what_it_is(node),
        "navigation": _shown_navigation(_navigation(node), shows_operations, audience),
        "audience": audience,
        "shows_operations": shows_operations,
        "stale_after_seconds": node.settings.stale_after_seconds,
        **values,
    }
    html: str = aiohttp_jinja2.render_string(template, request, context)
    return html.encode()


def _response(
    request: web.Request, page: RenderedPage, headers: dict[str, str], status: int = HTTPStatus.OK
) -> web.Response:
    """Compressed if it is there in that form, and the client takes it; else `answer_headers` sees to it."""
    headers = {hdrs.VARY: _VARIES_BY, **headers, hdrs.CONTENT_TYPE: "text/html; charset=utf-8"}
    if page.compressed and takes_gzip(request):
        return web.Response(body=page.compressed, headers={**headers, hdrs.CONTENT_ENCODING: ENCODING}, status=status)
    return web.Response(body=page.html, headers=headers, status=status)


def _with_cookie(request: web.Request, response: web.Response) -> web.Response:
    """Remembers the language that the address names."""
    if "lang" in request.query and is_opened(request):
        language = texts_of(request).language
        response.set_cookie(COOKIE, language, max_age=YEAR_SECONDS, samesite="Lax", httponly=True)
    return response
