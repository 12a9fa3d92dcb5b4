"""What the web server takes on at most, by the settings: more is refused with 503 and Retry-After at once."""

from collections.abc import Iterator
from functools import cache
from http import HTTPStatus

import jinja2
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emis_streams.engine.door import DOOR, REASONS, Door, Limits, too_large
from emis_streams.node import NODE
from emis_streams.settings import Settings
from web.answer_headers import PAGE_HEADERS, headers_of
from web.assets import static_url
from web.i18n import LANGUAGES, Texts
from web.pages import TEMPLATES, wants_html
from web.problems import Handler, for_people, problem

RETRY_AFTER_SECONDS = 1
SPARED = ("/livez", "/readyz", "/startupz", "/health", "/metrics")
"""Answered also under overload: orchestrators and people must be able to see what is going on."""
OVERLOADED = "Overloaded"
"""Title of the refusal, by which the gateway tells it from other reasons of a 503."""
_DETAIL = "This worker has more requests than it can answer soon."
_NO_REQUEST = "This is no HTTP request that can be read: a line of it is too long, or is not as it has to be."


def limits_of(settings: Settings) -> Limits:
    return Limits(
        max_connections=settings.web_max_connections,
        max_requests=settings.web_max_requests,
        idle_seconds=settings.web_idle_seconds,
        receive_seconds=settings.web_receive_seconds,
        send_seconds=settings.web_send_seconds,
        max_body_bytes=settings.web_max_body_bytes,
        spared=SPARED,
        refusal=in_bytes(_refusal(), settings),
        refusal_page=in_bytes(refusal_page(), settings),
        headers=headers_of(settings),
        error_answer=error_answer,
    )


def in_bytes(refusal: web.Response, settings: Settings) -> bytes:
    """Headers and body as they are sent, from the second line on, for what is refused before it is parsed."""
    body = refusal.body
    assert isinstance(body, bytes)
    headers = {**refusal.headers, **headers_of(settings), "Content-Length": str(len(body))}
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n" + body


def _refusal() -> web.Response:
    response = problem(503, OVERLOADED, _DETAIL)
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def refusal_page(status: int = 503) -> web.Response:
    """For browsers, in both languages. It loads itself again without a script, which a busy worker may refuse too."""
    page = _as_html(status, _page(status, "overloaded.title", "overloaded.text", tries_again=True))
    page.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return page


def error_answer(status: int, is_browser: bool) -> web.Response:
    """To what cannot be parsed: its address is too long, and the like."""
    return error_page(status) if is_browser else problem(status, HTTPStatus(status).phrase, _NO_REQUEST)


def error_page(status: int) -> web.Response:
    """For a browser whose request cannot be parsed, in both languages."""
    known = status if Texts(LANGUAGES[0]).has(f"error.{status}.title") else HTTPStatus.BAD_REQUEST.value
    return _as_html(status, _page(status, f"error.{known}.title", f"error.{known}.text", tries_again=False))


def _as_html(status: int, body: bytes) -> web.Response:
    response = web.Response(status=status, body=body, content_type="text/html", charset="utf-8")
    response.headers.update({**PAGE_HEADERS, "Cache-Control": "no-store"})
    return response


@cache
def _page(status: int, title: str, text: str, *, tries_again: bool) -> bytes:
    """`title` and `text`: their keys."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    values = {"static": static_url, "texts": {language: Texts(language) for language in LANGUAGES}}
    of_page = {"status": status, "title": title, "text": text, "tries_again": tries_again}
    return environment.get_template("bilingual.html").render(**values, **of_page).encode()


@web.middleware
async def limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts what is under way; refuses what is too much or too large."""
    door = request.app[DOOR]
    try:
        if door.begin(request):
            door.counts["overload"] += 1
            return refusal_page() if wants_html(request) else _refusal()
        if too_large(request, door.limits):
            refusal = problem(413, "Content Too Large", "Nothing here takes a body: it is not read.")
            refusal.force_close()
            return for_people(request, refusal)
        return await handler(request)
    finally:
        door.answered(request)


class DoorCollector(Collector):
    """The door as metric families."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("emis_http_connections", "Open connections.", self._door.n_connections)
        yield GaugeMetricFamily("emis_http_requests", "Requests read and not answered yet.", self._door.n_requests)
        turned_away = CounterMetricFamily(
            "emis_http_turned_away", "Requests (overload) and connections (the others) turned away.", labels=["reason"]
        )
        for reason in REASONS:
            turned_away.add_metric([reason], self._door.counts[reason])
        yield turned_away


def setup(app: web.Application) -> None:
    """Give an application its door; `app[NODE]` must be there. Before all others: its middleware is the outermost."""
    app[DOOR] = Door(limits_of(app[NODE].settings))
    app.middlewares.append(limits)
