"""The end of a process that cannot go on without risking events. What is not done is not committed."""

import logging
import os
import sys
from typing import Any, NoReturn

from emis_streams.engine.database_errors import DatabaseError
from emis_streams.engine.denied import denied

logger = logging.getLogger(__name__)

EXIT_STOPPED = 0
"""Told to stop, with nothing begun."""
EXIT_FAILED = 70
"""Something in the engine or its I/O failed."""
EXIT_STALLED = 75
"""The watchdog saw no progress."""


def end_process(app: Any, reason: str, error: BaseException | None = None, code: int = EXIT_FAILED) -> NoReturn:
    """Logs why, then ends at once: a clean shutdown could hang, or commit what is not done."""
    name = getattr(getattr(app, "conf", None), "id", "worker")
    level = logging.CRITICAL if code else logging.INFO
    said = str(error) if isinstance(error, DatabaseError) else denied(error)
    if said is not None:  # where in the code that was met is nobody's concern
        reason, error = f"{reason}: {said}", None
    logger.log(level, "%s ends (exit code %d): %s", name, code, reason, exc_info=error)
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
