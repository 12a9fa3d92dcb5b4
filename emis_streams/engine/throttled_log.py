"""A warning for what anybody can cause as often as they like: it is logged at once, then once a minute with a count."""

import logging
import time

SILENCE_SECONDS = 60.0


class ThrottledLog:
    """One kind of occurrence of one process."""

    def __init__(self, logger: logging.Logger, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._logger = logger
        self._silence_seconds = silence_seconds
        self._logged_at: float | None = None
        self._n_silent = 0

    def warning(self, text: str, now: float | None = None) -> None:
        """`now`: monotonic seconds."""
        now = time.monotonic() if now is None else now
        if self._logged_at is not None and now - self._logged_at < self._silence_seconds:
            self._n_silent += 1
            return
        more = f" ({self._n_silent} more since the last such line)" if self._n_silent else ""
        self._logger.warning("%s%s", text, more)
        self._logged_at, self._n_silent = now, 0
