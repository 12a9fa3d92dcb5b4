"""The circuit breakers of one client: one for each service and pattern, made when it is first called."""

from collections.abc import Iterator

from emis_streams.services.circuit_breaker import CircuitBreaker, Limits


class Breakers:
    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._of: dict[tuple[str, str], CircuitBreaker] = {}

    def of(self, service: str, pattern: str) -> CircuitBreaker:
        breaker = self._of.get((service, pattern))
        if breaker is None:
            breaker = self._of[service, pattern] = CircuitBreaker(f"{service} {pattern}", self._limits)
        return breaker

    def __iter__(self) -> Iterator[tuple[str, str, CircuitBreaker]]:
        """Service, pattern, breaker; sorted."""
        return iter([(*key, self._of[key]) for key in sorted(self._of)])
