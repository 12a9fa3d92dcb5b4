"""aiohttp's handler of a connection, whose own answers to what it cannot parse are like all others."""

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

ErrorAnswer = Callable[[int, bool], web.Response]
"""Of a status; True: for a browser, whose language nobody knows."""


class Handler(RequestHandler):
    """Answers what is no request with `error_answer`, if it is given, and `headers`."""

    __slots__ = ("_error_answer", "_headers", "is_browser")

    def __init__(
        self, headers: Mapping[str, str], error_answer: ErrorAnswer | None, server: web.Server, **arguments: Any
    ) -> None:
        super().__init__(server, **arguments)
        self._headers = headers
        self._error_answer = error_answer
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
        if self._error_answer is not None:
            response = self._error_answer(response.status, self.is_browser)
            response.force_close()
        response.headers.update(self._headers)
        return response
