"""Whatever a stranger's JSON is, its reader refuses it by the error that its callers handle."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from emis_streams.cli.dead_letter_lines import correction_of, value_members
from emis_streams.errors import UNREADABLE_JSON, InvalidEvent
from emis_streams.events import CONTRACTS, decode
from emis_streams.json_spellings import respelled
from emis_streams.producer import check
from emis_streams.replays import REPLAYS, noted
from emis_streams.services import messages
from emis_streams.services.errors import Refused, ServiceBroken, ServiceUnavailable
from emis_streams.services.messages import Request
from emis_streams.services.registry import ServiceInfo, info_of
from emis_streams.services.request_content import content_of
from emis_streams.snapshot import Comparison
from tests.replica_rows import id_of
from web.gateway_pages import _Answer, _unavailable

ROOT = Path(__file__).parents[2]
NOW_MS = 1_796_000_000_000
READS_EVENTS_OF_BROKERS = {"events.py", "changelog_rows.py"}
"""They name what their own decoders raise: each record passes through them."""

CREATED = b'{"eventId": "%b", "eventType": "emis.class.created", "timestamp": "2026-11-30T08:00:00Z", '
CLASS = CREATED % id_of(1).encode() + b'"classId": "%b", "className": "10A1", "totalStudents": ' % id_of(2).encode()
LINE = b'{"classId": "%b", "className": "10A1", "updatedAt": "2026-11-30T08:00:00Z", "totalStudents": '
CORRECTED = b'{"place": "1:2", "event": '
HOSTILE = {
    "nothing": b"",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"title":' * 100_000,
    "deep unknown member": b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "half a character": b'{"title": "\\ud800", "eventType": "\\ud800"}',
    "no UTF-8": b'{"title": "\xff", "eventType": "\xff"}',
    "400 digits": b'{"title": ' + b"9" * 400 + b"}",
    "5,000 digits": b'{"title": ' + b"9" * 5_000 + b"}",
    "1e999": b'{"title": 1e999}',
    "an event with 400 digits": CLASS + b"9" * 400 + b"}",
    "a line with 400 digits": LINE % id_of(2).encode() + b"9" * 400 + b"}",
    "a line with -400 digits": LINE % id_of(2).encode() + b"-" + b"9" * 400 + b"}",
    "a line with 5,000 digits": LINE % id_of(2).encode() + b"9" * 5_000 + b"}",
    "a line of the year 1 in Asia": LINE.replace(b"2026-11-30T08:00:00Z", b"0001-01-01T00:00:00+07:00")
    % id_of(2).encode()
    + b"1}",
    "a deep correction": CORRECTED + b"[" * 100_000,
    "a list of numbers": b"[[1, 2, 3, 4]]",
}


def info() -> ServiceInfo:
    return ServiceInfo(
        name="teacher",
        version="1",
        host="127.0.0.1",
        port=6066,
        started_at=msgspec.convert("2026-11-30T08:00:00Z", ServiceInfo.__annotations__["started_at"]),
    )


def take_lines(value: bytes) -> None:
    Comparison({}, lambda _state, _id: None).take([(1, value)], NOW_MS)


READERS: dict[str, Callable[[bytes], object]] = {
    "an event": lambda value: decode(CONTRACTS["emis.class.created"], [b"key"], [value], [NOW_MS], offsets=[0]),
    "an event to be sent": lambda value: check([value]),
    "an event in other spelling": lambda value: respelled(value, ["totalStudents"], ["timestamp"]),
    "a line of a snapshot": take_lines,
    "a corrected dead letter": correction_of,
    "the value of a dead letter": value_members,
    "a note of replays": lambda value: noted(value, [(REPLAYS, b"1")]),
    "a request": lambda value: messages.data_of(Request("get", "k", value), dict[str, str]),
    "the content of a request": content_of,
    "a reply": lambda value: messages.result_of([], value),
    "a reply that is an error": lambda value: messages.result_of([("error", b"broken")], value),
    "an instance": lambda value: info_of(b"key", value),
    "a page's refusal": lambda value: _unavailable(info(), _Answer(503, {}, value)),
}
REFUSALS = (InvalidEvent, Refused, ServiceBroken, ServiceUnavailable)
"""What callers of these readers handle."""


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_answers_or_refuses(reader: str, value: bytes) -> None:
    expected = UNREADABLE_JSON if reader == "an event in other spelling" else REFUSALS
    with suppress(*expected):
        READERS[reader](value)


def _sources() -> Iterator[Path]:
    for folder in ("emis_streams", "agents", "tables", "web"):
        yield from (ROOT / folder).rglob("*.py")


def test_what_reading_json_can_raise_stands_in_one_place() -> None:
    naming = {path.name for path in _sources() if "RecursionError" in path.read_text()}
    assert naming <= {"errors.py"} | READS_EVENTS_OF_BROKERS
