"""Errors as RFC 9457 problem+json."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError

from emis_streams.errors import UNREADABLE_JSON

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ProblemPage = Callable[[web.Request, int, str, str, bool], web.Response]

PROBLEM_PAGE: web.AppKey[ProblemPage] = web.AppKey("problem_page", Callable)  # type: ignore[arg-type]
"""How a browser is told: (request, status, title, detail, whether that tells more than the status) -> page. Without it
browsers get JSON."""
PROBLEM_TYPE = "application/problem+json"
_LEAST_ERROR = 400
"""A plain number: each access of a member of HTTPStatus costs every answer half a microsecond."""
_PAGES_AND_REPORTS = ("text/html", "application/json")
_KEPT_HEADERS = (hdrs.RETRY_AFTER, hdrs.ALLOW, hdrs.LOCATION)
"""Of a problem that becomes a page."""

DETAILS = {
    404: "Nothing is here. GET /info tells what this service is.",
    405: "This address does not take {method}.",
    500: "The service failed to answer; its log says why.",
}


def problem(status: int, title: str, detail: str, **members: Any) -> web.Response:
    """A problem+json answer; `members` are added as they are (camelCase, whatever msgspec encodes)."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type=PROBLEM_TYPE,
        headers={hdrs.CACHE_CONTROL: "no-store"},
    )


class _RefusalsInOneLine(logging.Filter):
    """Makes one bounded line of what aiohttp's parser refused: it logs a traceback with all that was received."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            reason = (error.message.splitlines() or [""])[0]
            record.msg, record.args = "%s; refused: %s", (record.getMessage(), ascii(reason)[:120])
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = record.exc_text = None
        return True


_REFUSALS_IN_ONE_LINE = _RefusalsInOneLine()


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal of aiohttp or of a handler, and every failure, told the same way: to browsers by a page."""
    try:
        response = await handler(request)
        return response if response.status < _LEAST_ERROR else for_people(request, response)
    except web.HTTPException as error:
        if error.status < _LEAST_ERROR:
            raise
        standard = f"{error.status}: {error.reason}"
        response = _told(request, error.status, error.reason, None if error.text == standard else error.text)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
        for challenge in error.headers.getall(hdrs.WWW_AUTHENTICATE, ()):
            response.headers.add(hdrs.WWW_AUTHENTICATE, challenge)
        return response
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _told(request, 500, "Internal Server Error")


def _told(request: web.Request, status: int, title: str, detail: str | None = None) -> web.Response:
    detail = detail or DETAILS.get(status, HTTPStatus(status).description or title).format(method=request.method)
    page = request.app.get(PROBLEM_PAGE)
    if page is not None and _is_browser(request):
        # What is wrong with the request, by name: a page's own text about all bad requests does not tell.
        return page(request, status, title, detail, status == HTTPStatus.BAD_REQUEST)
    return problem(status, title, detail, instance=request.path)


def _is_browser(request: web.Request) -> bool:
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")


class _Problem(msgspec.Struct):
    """What a page says of a problem; it may come from another process."""

    title: str = ""
    detail: str = ""


def for_people(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The page of an error that was answered otherwise, if a browser asked. Reports (of health) stay reports."""
    page = request.app.get(PROBLEM_PAGE)
    is_error = isinstance(response, web.Response) and response.content_type not in _PAGES_AND_REPORTS
    if page is None or not is_error or not _is_browser(request):
        return response
    found = _problem_in(response)
    shown = page(request, response.status, found.title or response.reason or "Error", found.detail, True)
    shown.headers.update({name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers})
    if response.keep_alive is False:
        shown.force_close()
    return shown


def _problem_in(response: web.StreamResponse) -> _Problem:
    assert isinstance(response, web.Response)
    body = response.body
    try:
        return msgspec.json.decode(body if isinstance(body, bytes) else b"", type=_Problem)
    except UNREADABLE_JSON:  # What stands before a worker has called it a problem.
        return _Problem()


def setup(app: web.Application) -> None:
    """Make an application tell all errors as problems."""
    # One filter however many applications: the same one is not added twice.
    logging.getLogger("aiohttp.server").addFilter(_REFUSALS_IN_ONE_LINE)
    app.middlewares.append(problems)
