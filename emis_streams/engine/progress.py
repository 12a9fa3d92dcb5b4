"""Whether something that goes on as long as its process does makes progress."""

import time


class Progress:
    """Of one background task, which notes each of its steps."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._noted: tuple[float, float] | None = None
        """Monotonic, of the last step, and how long the next one may take by itself."""

    def note(self, next_step_seconds: float = 0.0) -> None:
        """A step is over. The next one has a time-out of its own, of so many seconds."""
        self._noted = time.monotonic(), next_step_seconds

    def standstill(self, now: float, limit_seconds: float) -> str | None:
        """Why it makes none for longer than the limit, by a monotonic time; None: it does, or has not begun."""
        if self._noted is None:
            return None
        noted_at, next_step_seconds = self._noted
        if now - noted_at <= limit_seconds + next_step_seconds:
            return None
        return f"{self._name} has made no progress for {now - noted_at:.0f} s"
