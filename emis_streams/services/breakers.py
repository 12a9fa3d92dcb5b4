"""The circuit breakers of one client: one for each service and pattern, made when it is first called."""

import logging
from collections import OrderedDict
from collections.abc import Iterator

from emis_streams.engine.throttled_log import ThrottledLog
from emis_streams.services.circuit_breaker import CircuitBreaker, Limits, State

logger = logging.getLogger(__name__)

MOST_BREAKERS = 1_000
"""Names of services and patterns may come from requests: what grows with them is bounded."""


class Breakers:
    """At most `most`, of which the idle ones that were called longest ago are forgotten for new ones."""

    def __init__(self, limits: Limits | None = None, most: int = MOST_BREAKERS) -> None:
        self._limits = limits or Limits()
        self._most = most
        self._of: OrderedDict[tuple[str, str], CircuitBreaker] = OrderedDict()
        """The one that was called longest ago first."""
        self._log = ThrottledLog(logger)

    def of(self, service: str, pattern: str) -> CircuitBreaker:
        """To be asked for at each call.

        A breaker that is OPEN or has calls under way is never forgotten. If all are such, a new one is not kept: its
        calls pass, whatever becomes of them, which the log says.
        """
        key = service, pattern
        breaker = self._of.get(key)
        if breaker is not None:
            self._of.move_to_end(key)
            return breaker
        breaker = CircuitBreaker(f"{service} {pattern}", self._limits)
        if len(self._of) < self._most or self._forget_one():
            self._of[key] = breaker
        else:
            text = f"{self._most} circuit breakers are open or in use: {breaker.name} is called without one"
            self._log.warning(text)
        return breaker

    def _forget_one(self) -> bool:
        """An idle CLOSED one, else one that only waits for its probe; False if there is neither."""
        for state in (State.CLOSED, State.HALF_OPEN):
            for key, breaker in self._of.items():
                if breaker.n_under_way == 0 and breaker.state is state:
                    del self._of[key]
                    return True
        return False

    def __iter__(self) -> Iterator[tuple[str, str, CircuitBreaker]]:
        """Service, pattern, breaker; sorted."""
        return iter([(*key, self._of[key]) for key in sorted(self._of)])
