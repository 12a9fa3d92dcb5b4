"""What strangers put into events and requests writes no lines of its own into the log; no secret is in it."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from emis_streams.cli.logs import set_up_logging
from emis_streams.settings import Settings

HOSTILE = [
    "a\r\n2026-01-01 00:00:00,000 CRITICAL emis_streams: forged",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "a\x00b\x08\x7f\x9b31m",
    "a\u2028b\u2029c\u0085d",
    "\u202egnp.exe\u2066",
]
_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


@pytest.fixture
def kept_logging() -> Iterator[None]:
    """Begins with levels that nobody has set, and puts back what set_up_logging changes for the whole process."""
    root, names = logging.getLogger(), ("aiokafka", "aiokafka.conn", "aiokafka.producer.producer", "faust", "mode")
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in (*names, "")}
    raising = logging.raiseExceptions
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.raiseExceptions = raising


def written(log_format: str, monkeypatch: pytest.MonkeyPatch, *, level: str = "info") -> io.StringIO:
    to = io.StringIO()
    monkeypatch.setattr("sys.stderr", to)
    set_up_logging(Settings(log_format=log_format, log_level=level))  # type: ignore[arg-type]
    return to


@pytest.mark.usefixtures("kept_logging")
@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_hostile_text_stays_in_its_line(log_format: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    to = written(log_format, monkeypatch)
    logging.getLogger("test").warning("class %s refused", text)
    lines = to.getvalue().split("\n")
    assert len(lines) == 2
    assert lines[1] == ""
    assert not re.search("[\x00-\x1f\x7f-\x9f]", lines[0])
    if log_format == "json":
        assert json.loads(lines[0])["message"] == f"class {text} refused"
    else:
        assert lines[0].isprintable()


@pytest.mark.usefixtures("kept_logging")
@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_text_of_an_error_cannot_pass_for_a_record(
    log_format: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = written(log_format, monkeypatch)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("test").exception("it failed")
    lines = to.getvalue().splitlines()
    records = [json.loads(line) for line in lines] if log_format == "json" else [x for x in lines if _LINE.match(x)]
    assert len(records) == 1
    assert "raise ValueError" in to.getvalue()
    assert "\x1b" not in to.getvalue()


@pytest.mark.usefixtures("kept_logging")
def test_what_goes_over_the_wire_is_not_logged_at_any_level(monkeypatch: pytest.MonkeyPatch) -> None:
    to = written("text", monkeypatch, level="debug")
    for name in ("aiokafka.conn", "aiokafka.producer.producer"):
        logging.getLogger(name).debug("Request to broker: SaslAuthenticateRequest(b'\\0user\\0canary')")
    logging.getLogger("aiokafka.cluster").debug("shown")
    assert "canary" not in to.getvalue()
    assert "shown" in to.getvalue()
