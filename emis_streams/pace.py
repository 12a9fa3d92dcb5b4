"""Keeps a sender at a given rate."""

import asyncio
import time


class Pace:
    """At most `rate` things per second on the long run; 0 is without limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._started = time.monotonic()
        self._n = 0

    @property
    def chunk(self) -> int:
        """How many things to send at once: 50 ms of them."""
        return 5_000 if self._rate == 0 else max(1, min(5_000, int(self._rate / 20)))

    async def wait(self, n: int) -> None:
        """Returns when n more things may have been sent."""
        if self._rate == 0:
            return
        self._n += n
        ahead_seconds = self._started + self._n / self._rate - time.monotonic()
        if ahead_seconds > 0:
            await asyncio.sleep(ahead_seconds)
