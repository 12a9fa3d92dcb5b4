"""So many a second, and a few at once: a bucket that fills steadily and is emptied by whoever takes from it."""

import time
from collections.abc import Callable


class TokenBucket:
    """Full at first. `most` is how many may be taken at once after a rest."""

    def __init__(self, per_second: float, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._most = self._tokens = most
        self._clock = clock
        self._filled = clock()

    def add(self, tokens: float) -> None:
        self._tokens = min(self._most, self._tokens + tokens)

    def take(self) -> bool:
        """Whether there was one to take."""
        self._fill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    @property
    def seconds_to_next(self) -> float:
        """Until there is one to take."""
        self._fill()
        return max(0.0, (1 - self._tokens) / self._per_second)

    def _fill(self) -> None:
        now = self._clock()
        self.add((now - self._filled) * self._per_second)
        self._filled = now
