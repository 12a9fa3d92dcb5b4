"""The end of a process that cannot go on without risking events. What is not done is not committed."""

import logging
import os
import sys
from typing import Any, NoReturn

from emis_streams.engine.config_error import ConfigError
from emis_streams.engine.database_errors import DatabaseError
from emis_streams.engine.denied import denied

logger = logging.getLogger(__name__)

EXIT_STOPPED = 0
"""Told to stop, with nothing begun."""
EXIT_CONFIG = 2
"""The application, a setting or a topic is not as it has to be: starting again does not help."""
EXIT_FAILED = 70
"""Something in the engine or its I/O failed."""
EXIT_STALLED = 75
"""The watchdog saw no progress."""


def end_process(app: Any, reason: str, error: BaseException | None = None, code: int = EXIT_FAILED) -> NoReturn:
    """Logs why, then ends at once: a clean shutdown could hang, or commit what is not done.

    A ConfigError ends it with EXIT_CONFIG.
    """
    name = getattr(getattr(app, "conf", None), "id", "worker")
    code = EXIT_CONFIG if isinstance(error, ConfigError) else code
    level = logging.CRITICAL if code else logging.INFO
    said = str(error) if isinstance(error, DatabaseError | ConfigError) else denied(error)
    if said is not None:  # Operators need the message, not the traceback.
        reason, error = f"{reason}: {said}", None
    logger.log(level, "%s ends (exit code %d): %s", name, code, reason, exc_info=error)
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
