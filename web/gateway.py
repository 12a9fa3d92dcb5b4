"""The gateway: HTTP in front of the services. What goes where is one table, `ROUTES`.

Some requests become requests over Kafka (`Route`); pages are asked of a worker that the registry knows (`Page`).
"""

import asyncio
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec
from aiohttp import hdrs, web

from emis_streams.engine.door import reads_body
from emis_streams.errors import UNREADABLE_JSON
from emis_streams.ids import with_canonical_ids
from emis_streams.services.admission import NotAdmitted
from emis_streams.services.circuit_breaker import CircuitOpen
from emis_streams.services.client import CallOptions
from emis_streams.services.errors import CallFailed, Refused
from emis_streams.services.gateway import GatewayService
from web import parameters
from web.gateway_admission import Gate, RouteLimits
from web.gateway_pages import Page, PageEndpoint
from web.gateway_problems import BAD_GATEWAY, UNAVAILABLE, Refusals, failed
from web.ids import with_any_id
from web.parameters import CLASSES_AFTER, CLASSES_LIMIT, BadParameter, Parameter, row_id, whole_number

log = logging.getLogger(__name__)

IDEMPOTENCY_KEY = "Idempotency-Key"
OPTIONS = CallOptions(deadline_seconds=8.0)
"""A person waits."""
LIMIT, AFTER = whole_number("limit", 1, 100, 50), row_id("after")
"""Of lists whose rows have ids."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, kw_only=True)
class Route:
    """One kind of request, and the pattern of the service that answers it."""

    method: str
    path: str
    service: str
    pattern: str
    query: tuple[Parameter[Any], ...] = ()
    """Parameters that it takes; what is not given is left to the service."""
    status: int = 200
    location: str | None = None
    """Where what was made is found: this path, and behind it the member `made` of the answer."""
    made: str = ""
    most_body_bytes: int = 16_384
    user: str | None = None
    """Member of the body or part of the path that says of whom a request is; else each client's address is a user."""
    per_second: float | None = None
    """Requests from all clients together, as many at once after a rest; more get 429. None: no fixed rate."""
    is_page: ClassVar[bool] = False


ROUTES = (
    Route(
        method="POST",
        path="/lessons",
        service="lessons",
        pattern="create-lesson",
        status=201,
        location="/lessons",
        made="lessonId",
        most_body_bytes=32_768,
        user="userId",
    ),
    Route(
        method="GET",
        path="/lessons",
        service="lessons",
        pattern="get-lessons",
        query=(LIMIT, AFTER),
    ),
    Route(method="GET", path="/lessons/{lessonId}", service="lessons", pattern="get-lesson"),
    Page(
        path="/progress/{userId}",
        service="progress",
        pattern="progress",
        page="/progress/{userId}",
        query=(LIMIT, AFTER),
        user="userId",
    ),
    Page(
        path="/users/{userId}/activity",
        service="users",
        pattern="activity",
        page="/users/{userId}/activity",
        query=(LIMIT, AFTER),
        user="userId",
    ),
    Page(
        path="/teachers/{teacherId}",
        service="teacher",
        pattern="detail",
        page="/api/teachers/{teacherId}",
        query=(CLASSES_LIMIT, CLASSES_AFTER),
        user="teacherId",
    ),
)

_STATUS_OF_REFUSAL = {"invalid": 422, "not-found": 404, "key-reused": 422, "too-large": 413}


def routes_of(
    gateway: GatewayService, routes: Iterable[Route | Page] = ROUTES, options: CallOptions = OPTIONS
) -> list[web.RouteDef]:
    """The table as aiohttp takes it; `options` are of each call."""
    return [web.route(r.method, with_any_id(r.path), _endpoint(gateway, r, options).answer) for r in routes]


def gate_of(gateway: GatewayService, routes: Iterable[Route | Page] = ROUTES) -> Gate:
    """Refuses requests of these routes before they are parsed, where their limit says so."""
    return Gate(gateway, [route for route in routes if route.method == "GET"])


def services_of(routes: Iterable[Route | Page] = ROUTES) -> set[str]:
    """Those that the routes lead to."""
    return {route.service for route in routes}


def _endpoint(gateway: GatewayService, route: Route | Page, options: CallOptions) -> "_Endpoint | PageEndpoint":
    if isinstance(route, Page):
        return PageEndpoint(gateway, route)
    return _Endpoint(gateway, route, options)


class _BadRequest(Exception):
    """The request itself is wrong, whatever the service would say."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _Endpoint:
    """Answers the requests of one route."""

    def __init__(self, gateway: GatewayService, route: Route, options: CallOptions) -> None:
        self._client = gateway.client
        self._receive_seconds = gateway.config.web_receive_seconds
        self._route = route
        self._limits = RouteLimits(gateway, route)
        self._options = options
        self._refusals = Refusals(gateway.breakers, route.service, route.pattern)

    @reads_body
    async def answer(self, request: web.Request) -> web.StreamResponse:
        if (seconds := self._limits.seconds_to_next()) > 0:
            return self._refusals.too_many(seconds)
        try:
            data, key = await self._asked(request), _key_of(request)
        except _BadRequest as reason:
            return self._refusals.problem(reason.status, str(reason))
        route = self._route
        try:
            with self._limits.slot(request, data):
                result = await self._client.send(route.service, route.pattern, data, self._options, key)
        except NotAdmitted as reason:
            return self._refusals.not_admitted(reason)
        except Refused as refusal:
            return self._refusals.problem(
                _STATUS_OF_REFUSAL.get(refusal.kind, BAD_GATEWAY), refusal.detail, kind=refusal.kind
            )
        except CircuitOpen as is_open:
            return self._refusals.problem(UNAVAILABLE, str(is_open), is_open.retry_after_seconds)
        except CallFailed as failure:
            log.warning("%s %s: %s", request.method, request.path, failure)
            return failed(self._refusals, failure)
        return self._answer(result)

    async def _asked(self, request: web.Request) -> dict[str, Any]:
        """Body, query and path as one object; raises _BadRequest."""
        body = await self._body(request) if self._route.method == "POST" else {}
        return with_canonical_ids({**body, **self._query(request), **request.match_info})

    async def _body(self, request: web.Request) -> dict[str, Any]:
        most = self._route.most_body_bytes
        try:
            async with asyncio.timeout(self._receive_seconds):
                body = await request.content.read(most + 1) if request.can_read_body else b""
                while body and len(body) <= most and (more := await request.content.read(most + 1 - len(body))):
                    body += more
        except TimeoutError:
            raise _BadRequest(408, "the body did not come in time") from None
        if len(body) > most:
            raise _BadRequest(413, f"the body is larger than {most} bytes")
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except UNREADABLE_JSON as error:
            raise _BadRequest(400, f"the body is no JSON object: {error}") from None

    def _query(self, request: web.Request) -> dict[str, Any]:
        try:
            found = parameters.read(request.query.items(), self._route.query)
        except BadParameter as error:
            raise _BadRequest(400, str(error)) from None
        return {name: value for name, value in found.items() if name in request.query}

    def _answer(self, result: Any) -> web.Response:
        headers = {hdrs.CACHE_CONTROL: "no-store"}
        if self._route.location is not None:
            if not isinstance(result, dict) or not isinstance(result.get(self._route.made), str):
                return self._refusals.problem(BAD_GATEWAY, f"the answer has no {self._route.made}")
            headers[hdrs.LOCATION] = f"{self._route.location}/{quote(result[self._route.made], safe='')}"
        return web.Response(
            body=msgspec.json.encode(result),
            status=self._route.status,
            content_type="application/json",
            headers=headers,
        )


def _key_of(request: web.Request) -> str | None:
    """Raises _BadRequest."""
    keys = request.headers.getall(IDEMPOTENCY_KEY, [])
    if len(keys) > 1 or not all(_KEY.fullmatch(key) for key in keys):
        raise _BadRequest(400, f"{IDEMPOTENCY_KEY}: once, 1 to 255 printable ASCII characters without spaces")
    return keys[0] if keys else None
