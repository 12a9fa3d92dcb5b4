"""Which requests of a route the gateway passes on, and which it refuses at once."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import web

from emis_streams.engine.door import DOOR
from emis_streams.services.admission import Admission, NotAdmitted
from emis_streams.services.circuit_breaker import State
from emis_streams.services.gateway import GatewayService
from emis_streams.services.token_bucket import TokenBucket
from web.gateway_problems import Refusals
from web.limits import in_bytes, refusal_page

_USER_CHARACTERS = 64
"""Of what names a user: an id is shorter, and what is longer is no id."""
_PART = re.compile(r"{(\w+)}")


class Limited(Protocol):
    """What a `Route` or a `Page` says of its limits."""

    @property
    def path(self) -> str: ...
    @property
    def service(self) -> str: ...
    @property
    def pattern(self) -> str: ...
    @property
    def user(self) -> str | None: ...
    @property
    def per_second(self) -> float | None: ...
    @property
    def is_page(self) -> bool: ...


class RouteLimits:
    """Of one route: its rate, if it has a fixed one, and its calls under way."""

    def __init__(self, gateway: GatewayService, route: Limited) -> None:
        self._user = route.user
        self._bucket = None if route.per_second is None else TokenBucket(route.per_second, route.per_second)
        self._admission = _admission(gateway, route)

    def seconds_to_next(self) -> float:
        """Until one more request is taken; 0 if it is taken now."""
        if self._bucket is None or self._bucket.take():
            return 0.0
        return self._bucket.seconds_to_next

    @contextmanager
    def slot(self, request: web.Request, members: Mapping[str, Any]) -> Iterator[None]:
        """Around the call that answers the request; `members` are of its body and path. Raises NotAdmitted."""
        with self._admission.slot(self._user_of(request, members)):
            door = request.app.get(DOOR)
            if door is None:
                yield
            else:
                with door.elsewhere(request):
                    yield

    def _user_of(self, request: web.Request, members: Mapping[str, Any]) -> str:
        """Of whom the request is, as far as it says so; else where it comes from."""
        named = members.get(self._user) if self._user is not None else None
        return _user(named) if isinstance(named, str) else request.remote or ""


class Gate:
    """Of all routes that are asked with GET: see `engine.door.Gate`.

    The handler decides again, with all that it knows: what passes here by another spelling is refused there.
    """

    def __init__(self, gateway: GatewayService, routes: Iterable[Limited]) -> None:
        self._routes = [_GatedRoute(gateway, route) for route in routes]

    def __call__(self, data: bytes, remote: str) -> bytes | None:
        for route in self._routes:
            found = route.line.match(data)
            if found is not None:
                user = _user(found[1].decode("latin-1")) if found.lastindex else remote
                return route.refusal(user, is_browser=b"text/html" in data)
        return None


class _GatedRoute:
    def __init__(self, gateway: GatewayService, route: Limited) -> None:
        named = _PART.sub(lambda part: "([^/? ]+)" if part[1] == route.user else "[^/? ]+", route.path)
        self.line = re.compile(f"GET {named}[? ]".encode())
        self._admission = _admission(gateway, route)
        self._call = route.service, route.pattern
        self._breakers = gateway.breakers
        self._settings = gateway.config
        self._refusals = Refusals(gateway.breakers, route.service, route.pattern)
        self._made: dict[tuple[type[NotAdmitted], State, bool], bytes] = {}
        self._let_in: Counter[str] = Counter()
        """By user; their handlers are about to run, within the next two turns of the loop."""
        self._n_let_in = 0

    def refusal(self, user: str, *, is_browser: bool = False) -> bytes | None:
        """The whole answer, or None: the request is let in. To browsers a page, which asks again by itself."""
        reason = self._admission.refusal(user, self._let_in, self._n_let_in)
        if reason is None:
            self._expect(user)
            return None
        key = type(reason), self._breakers.of(*self._call).state, is_browser
        if key not in self._made:
            answer = self._refusals.not_admitted(reason)
            shown = refusal_page(answer.status) if is_browser else answer
            line = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            self._made[key] = line.encode() + in_bytes(shown, self._settings)
        return self._made[key]

    def _expect(self, user: str) -> None:
        """All that comes in one turn of the loop is let in before the first of its handlers takes a slot."""
        if not self._n_let_in:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._forget)
        self._let_in[user] += 1
        self._n_let_in += 1

    def _forget(self) -> None:
        self._let_in.clear()
        self._n_let_in = 0


def _admission(gateway: GatewayService, route: Limited) -> Admission:
    return gateway.admission(route.service, route.pattern, is_page=route.is_page)


def _user(named: str) -> str:
    """Differently written, it is still the same one."""
    return named[:_USER_CHARACTERS].lower()
