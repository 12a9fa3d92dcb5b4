"""Requests that a service carries out at once, and those that wait for a turn: not for long, as overload does not pass.

How many are carried out at once follows from how long they take (`concurrency_limit`). The wait is bounded as by
"controlled delay" of Facebook ("Fail at Scale", ACM Queue 13(8), 2015; after CoDel, RFC 8289): a burst may wait for
`burst_seconds`; if there was no moment without a queue for as long, new requests wait for `standing_seconds` only.
A request that got no turn is answered that there is too much to do, while its caller still waits.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from emis_streams.services.concurrency_limit import Bounds, ConcurrencyLimit
from emis_streams.services.errors import ServiceOverloaded


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long a request may wait for its turn."""

    burst_seconds: float = 0.5
    standing_seconds: float = 0.05


BOUNDS = Bounds(minimum=8, maximum=256, goal_seconds=0.5)
"""A caller's own limit has half that goal: callers that have one give way before anything is refused here."""


class WaitingRoom:
    """`begun = room.enter_at_once()` before a request is carried out, and `room.leave(begun)` after it.

    Where that gives no turn, `begun = await room.wait()` does. Three calls in place of a context manager and of one
    coroutine, which would cost more than all that they do.
    """

    def __init__(
        self, bounds: Bounds = BOUNDS, waits: Waits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = ConcurrencyLimit(bounds, clock)
        self._waits = waits or Waits()
        self._clock = clock
        self._in_flight = 0
        self._turns: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        """Of those that wait, the longest first."""
        self._empty_at = clock()
        """When nobody waited last."""

    @property
    def limit(self) -> int:
        """Requests that may be carried out at once, now."""
        return self._limit.value

    @property
    def in_flight(self) -> int:
        """Requests that are carried out now."""
        return self._in_flight

    @property
    def n_waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._turns)

    def enter_at_once(self) -> float | None:
        """A turn's time for `leave`, if there is a turn without a wait."""
        if self._turns or self._in_flight >= self._limit.value:
            return None
        self._in_flight += 1
        self._empty_at = now = self._clock()
        return now

    def leave(self, begun: float | None) -> None:
        """The request that had the turn since then is carried out; None if how long it took says nothing."""
        if begun is not None:
            self._limit.ended(begun, self._in_flight)
        self._in_flight -= 1
        self._hand_on()

    async def wait(self) -> float:
        """Where `enter_at_once` has just given no turn: returns with one, and its time for `leave`.

        Raises ServiceOverloaded after the longest wait.
        """
        if not self._turns:
            self._empty_at = self._clock()
        seconds = self._longest_wait()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns[turn] = None
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            if turn.cancelled():
                self._turns.pop(turn, None)
            else:  # Its turn came in the same moment: it is the next one's.
                self._in_flight -= 1
                self._hand_on()
            if isinstance(error, TimeoutError):
                raise ServiceOverloaded(f"too many requests: no turn within {seconds:g} s") from None
            raise
        return self._clock()  # `_hand_on` has counted it.

    def _longest_wait(self) -> float:
        is_standing = self._clock() - self._empty_at > self._waits.burst_seconds
        return self._waits.standing_seconds if is_standing else self._waits.burst_seconds

    def _hand_on(self) -> None:
        while self._turns and self._in_flight < self._limit.value:
            turn, _ = self._turns.popitem(last=False)
            if not turn.done():  # Else it was cancelled, and its task does not run yet.
                self._in_flight += 1
                turn.set_result(None)
        if not self._turns:
            self._empty_at = self._clock()
