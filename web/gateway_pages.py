"""Pages of other services through the gateway: asked of a worker that the registry knows, by HTTP.

They are answered from local copies, so they go on while brokers and databases are away.
"""

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

import msgspec
from aiohttp import ClientError, ClientPayloadError, ClientResponse, hdrs, web
from yarl import URL

from emis_streams.errors import UNREADABLE_JSON
from emis_streams.services import registry
from emis_streams.services.admission import NotAdmitted
from emis_streams.services.circuit_breaker import CircuitOpen
from emis_streams.services.client import outcome_of
from emis_streams.services.errors import CallFailed, NoAnswer, ServiceOverloaded, ServiceUnavailable
from emis_streams.services.gateway import GatewayService
from emis_streams.services.registry import Health, ServiceInfo
from web import parameters
from web.gateway_admission import RouteLimits
from web.gateway_problems import UNAVAILABLE, Refusals, failed
from web.limits import OVERLOADED
from web.parameters import Parameter

log = logging.getLogger(__name__)

_PASSED_ON = (hdrs.CONTENT_TYPE, hdrs.CACHE_CONTROL, hdrs.RETRY_AFTER)
_ASKED_WITH = {hdrs.ACCEPT: "application/json", hdrs.ACCEPT_ENCODING: "identity"}
"""Not compressed: a few bytes could become gigabytes, and both sides would pay for what stays in one network."""
_MOST_INSTANCES = 3
_SHOWN_BYTES = 200
_MOST_ANSWER_BYTES = 4 << 20
"""The largest page is a quarter of it. Whoever writes to the registry names hosts, which may answer without end."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One kind of request, and the page of the service's workers that answers it."""

    path: str
    service: str
    pattern: str
    """What its circuit breaker is called."""
    page: str
    """Path at the worker, filled in with the parts of `path`."""
    query: tuple[Parameter[Any], ...] = ()
    """Parameters that the page takes; they are passed on as they came."""
    method: str = "GET"
    user: str | None = None
    """Part of `path` that says of whom it is; else each client's address is a user."""
    per_second: float | None = None
    """Requests from all clients together, as many at once after a rest; more get 429. None: no fixed rate."""
    is_page: ClassVar[bool] = True


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class PageEndpoint:
    """Answers the requests of one page."""

    def __init__(self, gateway: GatewayService, page: Page) -> None:
        self._gateway = gateway
        self._page = page
        self._refusals = Refusals(gateway.breakers, page.service, page.pattern)
        self._limits = RouteLimits(gateway, page)
        self._turn = itertools.count()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if (seconds := self._limits.seconds_to_next()) > 0:
            return self._refusals.too_many(seconds)
        try:
            parameters.read(request.query.items(), self._page.query)
        except parameters.BadParameter as error:
            return self._refusals.problem(400, str(error))
        asked = self._in_turn()
        if not asked:  # No failure of theirs, and over with their first heartbeat: the breaker is not told.
            return self._refusals.problem(UNAVAILABLE, f"no worker of {self._page.service} is registered", 1.0)
        try:
            with (
                self._limits.slot(request, request.match_info),
                self._gateway.breakers.of(self._page.service, self._page.pattern).calling(outcome_of),
            ):
                answer = await self._first_answer(asked, self._path(request))
        except NotAdmitted as reason:
            return self._refusals.not_admitted(reason)
        except CircuitOpen as is_open:
            return self._refusals.problem(UNAVAILABLE, str(is_open), is_open.retry_after_seconds)
        except CallFailed as failure:
            log.warning("%s %s: %s", request.method, request.path, failure)
            return failed(self._refusals, failure)
        passed_on = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        return web.Response(status=answer.status, body=answer.body, headers=passed_on)

    def _in_turn(self) -> list[ServiceInfo]:
        """Some of the service's instances, the healthy ones first, another one at the front each time."""
        found = registry.instances(self._gateway.registry, self._page.service)
        if not found:
            return []
        first = next(self._turn) % len(found)
        order = list(Health)
        turned = sorted([*found[first:], *found[:first]], key=lambda info: order.index(info.health))
        return turned[:_MOST_INSTANCES]

    def _path(self, request: web.Request) -> str:
        parts = {name: quote(text, safe="") for name, text in request.match_info.items()}
        query = request.rel_url.raw_query_string
        return self._page.page.format_map(parts) + (f"?{query}" if query else "")

    async def _first_answer(self, asked: list[ServiceInfo], path: str) -> _Answer:
        """Of the first instance that can give one. Raises NoAnswer, ServiceUnavailable, with the last one's reason."""
        last: Exception | None = None
        for info in asked:
            try:
                answer = await self._ask(info, path)
            except (ClientError, OSError) as error:  # A time-out is an OSError, too.
                last = error
                continue
            if answer.status != UNAVAILABLE:
                return answer
            last = _unavailable(info, answer)
        text = f"instances of {self._page.service} that were asked: {len(asked)}; the last: {last or 'no answer'}"
        if isinstance(last, ServiceOverloaded):
            raise ServiceOverloaded(text) from last
        raise (NoAnswer if isinstance(last, TimeoutError) else ServiceUnavailable)(text) from last

    async def _ask(self, info: ServiceInfo, path: str) -> _Answer:
        session = self._gateway.pages
        if session is None:
            raise ServiceUnavailable("the gateway has not started yet")
        url = URL(f"http://{_in_url(info.host)}:{info.port}{path}", encoded=True)
        async with session.get(url, headers=_ASKED_WITH, allow_redirects=False) as response:
            coding = response.headers.get(hdrs.CONTENT_ENCODING, "identity")
            if coding != "identity":
                raise ClientPayloadError(f"the answer is compressed ({coding[:_SHOWN_BYTES]}), which was not asked for")
            return _Answer(response.status, dict(response.headers), await _body_of(response))


async def _body_of(response: ClientResponse) -> bytes:
    """Raises ClientPayloadError for more than an answer of a page can have."""
    parts, n_bytes = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        n_bytes += len(part)
        if n_bytes > _MOST_ANSWER_BYTES:
            raise ClientPayloadError(f"the answer is larger than {_MOST_ANSWER_BYTES} bytes")
    return b"".join(parts)


class _Problem(msgspec.Struct):
    """What is looked at of a worker's refusal."""

    title: str = ""


def _unavailable(info: ServiceInfo, answer: _Answer) -> ServiceUnavailable | ServiceOverloaded:
    """Why the worker answers 503: it has too much to do, or what it needs is away."""
    said = f"{info.instance} answers {answer.status}: {answer.body[:_SHOWN_BYTES].decode(errors='replace')}"
    try:
        is_overloaded = msgspec.json.decode(answer.body, type=_Problem).title == OVERLOADED
    except UNREADABLE_JSON:  # No problem+json: something else stands before the worker.
        is_overloaded = False
    return ServiceOverloaded(said) if is_overloaded else ServiceUnavailable(said)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
