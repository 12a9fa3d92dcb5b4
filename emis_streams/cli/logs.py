"""What a worker writes to its log: one line a record, whatever strangers put into it, and nothing secret."""

import logging
import re
from typing import Any

from emis_streams import settings, tracing
from emis_streams.settings import Settings

_QUIET = ("aiokafka", "faust", "mode", "aiosqlite", "alembic", "emis_streams.engine.app")
"""Loggers whose records below warnings tell an operator nothing (asked for by LOG_LEVEL=debug)."""
_TELLTALES = ("aiokafka.conn", "aiokafka.producer.producer")
"""Their records of level debug hold whatever goes over the wire: passwords (of SASL PLAIN), names of people."""
_REPEAT_SECONDS = 60.0
_LINES_REMEMBERED = 1_000
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""New lines, what terminals take for commands (ANSI), and what turns the direction of writing."""


def set_up_logging(config: Settings) -> None:
    """Log records to standard error, as text or as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(_json_formatter() if config.log_format == "json" else OneLine())
    handler.addFilter(OncePerMinute())
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler], force=True)
    logging.raiseExceptions = False
    for name in _TELLTALES:
        logging.getLogger(name).setLevel(logging.INFO)
    if config.log_level != "debug":
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
    for line in settings.doubts():
        logging.getLogger(settings.__name__).warning("%s", line)


class OncePerMinute(logging.Filter):
    """Lets the same line through once a minute: clients of brokers that are away repeat themselves."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        line = record.getMessage()
        if record.created - self._said.get(line, float("-inf")) < _REPEAT_SECONDS:
            return False
        if len(self._said) >= _LINES_REMEMBERED:
            self._said.clear()
        self._said[line] = record.created
        return True


class OneLine(logging.Formatter):
    """A record is one line; lines of a traceback below it are indented, so that none can pass for a record."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(super().formatMessage(record))

    def formatException(self, ei: "logging._SysExcInfoType") -> str:
        return "\n".join(f"    {visible(line)}" for line in super().formatException(ei).split("\n"))


def visible(text: str) -> str:
    """The text with control characters written as Python writes them."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _json_formatter() -> logging.Formatter:
    from ecs_logging import StdlibFormatter

    class Traced(StdlibFormatter):
        """With the ids of trace and span, so that logs of all services can be found by them."""

        def format_to_ecs(self, record: logging.LogRecord) -> dict[str, Any]:
            found: dict[str, Any] = super().format_to_ecs(record)
            ids = tracing.ids()
            if ids is not None:
                found["trace"], found["span"] = {"id": ids[0]}, {"id": ids[1]}
            return found

    return Traced()
