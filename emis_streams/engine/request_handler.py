"""aiohttp's handler of a connection, whose own answers to what it cannot parse are like all others."""

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

ErrorPage = Callable[[int], web.Response]
"""The page of a status, for a browser whose language nobody knows."""


class Handler(RequestHandler):
    """Sends `headers` with the answer to what is no request, and `error_page` to browsers."""

    __slots__ = ("_error_page", "_headers", "is_browser")

    def __init__(
        self, headers: Mapping[str, str], error_page: ErrorPage | None, server: web.Server, **arguments: Any
    ) -> None:
        super().__init__(server, **arguments)
        self._headers = headers
        self._error_page = error_page
        self.is_browser = False
        """Whether what cannot be parsed seems to come from a browser: it asks for HTML."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        response: web.StreamResponse = super().handle_error(request, status, exc, message)
        if self.is_browser and self._error_page is not None:
            response = self._error_page(response.status)
            response.force_close()
        response.headers.update(self._headers)
        return response
