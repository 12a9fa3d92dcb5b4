"""A time limit of many short tasks at once: one timer for all of them, a tenth of the price of `asyncio.timeout`."""

import asyncio
import time
from collections.abc import Callable


class TimeLimit:
    """`task = limit.begin()` in the task that is limited, then `limit.end(task)` whatever has become of it.

    A task that takes longer is cancelled, at the latest `seconds / 10` after its time.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._begun: dict[asyncio.Task[object], float] = {}
        """By `clock`; the oldest first."""
        self._cancelled: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> "asyncio.Task[object]":
        """The time of the current task counts from now."""
        task = asyncio.current_task()
        assert task is not None
        self._begun[task] = self._clock()
        if self._timer is None:
            self._wake_in(self.seconds)
        return task

    def end(self, task: "asyncio.Task[object]") -> bool:
        """The task is limited no more. Returns whether its time was over: its cancellation counts no more, either."""
        self._begun.pop(task, None)
        if task not in self._cancelled:
            return False
        self._cancelled.discard(task)
        task.uncancel()
        return True

    def _wake_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(seconds, self.seconds / 10), self._cancel_late_ones)

    def _cancel_late_ones(self) -> None:
        self._timer = None
        now = self._clock()
        late = [task for task, begun in self._begun.items() if now - begun >= self.seconds]
        for task in late:
            del self._begun[task]
            self._cancelled.add(task)
            task.cancel()
        if self._begun:
            self._wake_in(next(iter(self._begun.values())) + self.seconds - now)
