"""What the gateway answers when there is no answer: a problem that says whose it is, and how its breaker is."""

import math
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from emis_streams.services.admission import RETRY_AFTER_SECONDS, NotAdmitted, ShareReached
from emis_streams.services.breakers import Breakers
from emis_streams.services.errors import CallFailed, DeadlineExceeded, NoAnswer, ServiceBroken
from web.problems import problem

BAD_GATEWAY, UNAVAILABLE, TIMEOUT = 502, 503, 504
_OF_SERVICE = (BAD_GATEWAY, UNAVAILABLE, TIMEOUT)
_RETRY_SECONDS = 1


class Refusals:
    """Of requests that one pattern of one service would have to answer."""

    def __init__(self, breakers: Breakers, service: str, pattern: str) -> None:
        self._breakers = breakers
        self._service = service
        self._pattern = pattern

    def problem(self, status: int, detail: str, retry_seconds: float | None = None, **members: Any) -> web.Response:
        """RFC 9457, with the service where it is at fault."""
        if status in _OF_SERVICE:
            state = self._breakers.of(self._service, self._pattern).state
            members |= {"service": self._service, "pattern": self._pattern, "circuitBreaker": state}
        response = problem(status, HTTPStatus(status).phrase, detail, **members)
        if retry_seconds is not None:
            response.headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(retry_seconds)))
        return response

    def not_admitted(self, reason: NotAdmitted) -> web.Response:
        """429 if it is this user's calls that are too many, 503 if it is everybody's."""
        status = 429 if isinstance(reason, ShareReached) else UNAVAILABLE
        return self.problem(status, str(reason), RETRY_AFTER_SECONDS)

    def too_many(self, seconds_to_next: float) -> web.Response:
        """Whoever asks too much."""
        return self.problem(429, "more requests than this address takes", seconds_to_next)


def failed(refusals: Refusals, failure: CallFailed) -> web.Response:
    """Who was not answered may ask again with the same key; a mistake of the service stays one."""
    if isinstance(failure, ServiceBroken):
        return refusals.problem(BAD_GATEWAY, str(failure))
    status = TIMEOUT if isinstance(failure, (NoAnswer, DeadlineExceeded)) else UNAVAILABLE
    return refusals.problem(status, str(failure), _RETRY_SECONDS)
