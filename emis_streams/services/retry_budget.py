"""How many retries there may be in all: a service that is down is not asked four times as often by everybody.

A fifth of the calls, and a few each second beyond, saved up for ten seconds (as Finagle's RetryBudget).
"""

import time
from collections.abc import Callable

from emis_streams.services.token_bucket import TokenBucket

RATIO = 0.2
PER_SECOND = 10.0
SAVED_SECONDS = 10.0


class RetryBudget:
    """Of one client, for all services that it calls."""

    def __init__(
        self, ratio: float = RATIO, per_second: float = PER_SECOND, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ratio = ratio
        self._bucket = TokenBucket(per_second, per_second * SAVED_SECONDS, clock)
        self.refused = 0
        """Retries that were not made as too many were."""

    def called(self) -> None:
        """A call was begun."""
        self._bucket.add(self._ratio)

    def take(self) -> bool:
        """Whether one more retry may be made now."""
        may_retry = self._bucket.take()
        self.refused += not may_retry
        return may_retry
