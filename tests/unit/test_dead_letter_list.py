"""Pages of dead letters: each letter on one page, the newest first, whatever lies in the partitions between them."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.dead_letter_headers import headers_for
from emis_streams.dead_letter_list import (
    PAGE_LETTERS,
    LetterLine,
    LetterPage,
    Position,
    Window,
    cause_of,
    causes_of,
    line_of,
    page_of,
)
from emis_streams.dead_letters import DeadLetter
from web.dead_letter_pages import content_of, detail_of, time_of

START = datetime(2026, 9, 5, tzinfo=UTC)


def a_line(place: str = "0:1", seconds: float = 0, **changes: Any) -> LetterLine:
    fields: dict[str, Any] = {
        "topic": "emis.class.updated", "partition": "7", "offset": "4711", "reason": "no JSON", "key": "k", "bytes": 3,
    }  # fmt: skip
    return LetterLine(place=place, written_at=START + timedelta(seconds=seconds), **{**fields, **changes})


class Log:
    """A partition: the time of each letter; None where a record is no letter, or compaction left a gap."""

    def __init__(self, number: int, times: list[int | None], first: int) -> None:
        self.number, self.times, self.first = number, times, first

    @property
    def end(self) -> int:
        return self.first + len(self.times)

    def window(self, top: int, n_records: int) -> Window:
        return Window(self.first, max(self.first, top - n_records), top)

    def letters(self, window: Window) -> list[tuple[int, LetterLine]]:
        found = [(offset, self.times[offset - self.first]) for offset in range(window.start, window.end)]
        return [(at, a_line(f"{self.number}:{at}", time)) for at, time in found if time is not None]


def all_pages(logs: list[Log], n_records: int) -> list[LetterPage]:
    """As a reader goes through them, with so many records of each partition for a page."""
    pages: list[LetterPage] = []
    position: Position | None = None
    while True:
        tops = {log.number: log.end if position is None else position.before.get(log.number, log.end) for log in logs}
        windows = {log.number: log.window(tops[log.number], n_records) for log in logs}
        found = [one for log in logs for one in log.letters(windows[log.number])]
        pages.append(page_of(windows, found, total=0))
        if pages[-1].next_before is None:
            return pages
        assert pages[-1].next_before != str(position), "it goes on"
        position = Position.of(pages[-1].next_before)


@st.composite
def some_logs(draw: st.DrawFn) -> list[Log]:
    logs = []
    for number in range(draw(st.integers(1, 4))):
        steps = draw(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12))
        time, times = 0, list[int | None]()
        for step, is_letter in steps:
            time += step
            times.append(time if is_letter else None)
        logs.append(Log(number, times, draw(st.integers(0, 3))))
    return logs


@given(some_logs(), st.integers(1, 5))
def test_each_letter_is_on_one_page_and_they_go_from_new_to_old(logs: list[Log], n_records: int) -> None:
    shown = [letter for page in all_pages(logs, n_records) for letter in page.letters]
    there = [line.place for log in logs for _, line in log.letters(log.window(log.end, len(log.times)))]
    assert sorted(letter.place for letter in shown) == sorted(there)
    times = [letter.written_at for letter in shown]
    assert times == sorted(times, reverse=True)


def test_a_page_has_a_bounded_number_of_letters() -> None:
    pages = all_pages([Log(0, list(range(120)), 0)], 100)
    assert [len(page.letters) for page in pages] == [PAGE_LETTERS, PAGE_LETTERS, 20]


def test_an_empty_topic_is_one_empty_page() -> None:
    [page] = all_pages([Log(0, [], 5), Log(1, [], 0)], 10)
    assert (page.letters, page.causes, page.next_before) == ((), (), None)


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-2-3", "1-2.1-3", "1-2,2-3", "x-1", "1-" + "9" * 19, "١-1"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Position.of(text)


def test_a_position_is_read_as_it_was_written() -> None:
    assert str(Position.of("3-17.0-4")) == "0-4.3-17"


@pytest.mark.parametrize(
    ("reasons", "cause"),
    [
        (("got `int` - at `$.classId`", "got `null` - at `$.grade`"), "got … - at …"),
        (
            ("2026-09-05T10:00:00Z is ahead by 700 s", "2026-09-06T11:00:00Z is ahead by 9 s"),
            "… is ahead by … s",
        ),
        (("key: invalid UTF-8 in byte 5", "key: invalid UTF-8 in byte 17"), "key: invalid UTF-8 in byte …"),
        (("value:\n  no JSON: byte 5", "value:\n  no JSON: byte 17"), "no JSON: byte …"),
        (
            ("0c000000-0000-4000-8000-000000000001 is there", "0c000000-0000-4000-8000-00000000000f is there"),
            "… is there",
        ),
    ],
)
def test_a_cause_is_a_reason_without_the_values_that_it_names(reasons: tuple[str, str], cause: str) -> None:
    assert [cause_of(reason) for reason in reasons] == [cause, cause]


def test_causes_are_told_with_their_newest_letter_those_with_the_most_letters_first() -> None:
    lines = [a_line("0:1", 1, reason="byte 1"), a_line("1:1", 3, reason="byte 22"), a_line("0:2", 2, reason="no key")]
    first, second = causes_of(lines)
    assert (first.cause, first.count, first.newest, first.last_at) == ("byte …", 2, "1:1", START + timedelta(seconds=3))
    assert (second.cause, second.count) == ("no key", 1)


def a_record(key: bytes | None = b"k", value: bytes | None = b"v", headers: Any = (), timestamp: int = 0) -> Any:
    return SimpleNamespace(offset=5, key=key, value=value, headers=headers, timestamp=timestamp)


@pytest.mark.parametrize("timestamp", [-1, 0, 2**63 - 1])
@pytest.mark.parametrize(
    "headers", [(), (("dlq.reason", None),), (("\udcff", b"\xff"),), tuple(headers_for("t", 0, 0, 0, "r" * 9_000, 0))]
)
def test_whatever_lies_in_the_topic_is_a_line(timestamp: int, headers: Any) -> None:
    line = line_of(3, a_record(b"\xff" * 1_000, None, headers, timestamp))
    assert line.place == "3:5"
    assert len(line.reason) <= 500
    assert len(line.key or "") <= 500


@pytest.mark.parametrize(
    ("raw", "kind", "text", "is_cut"),
    [
        (None, "null", "", False),
        (b"", "text", "", False),
        ("Lớp 10A1\n".encode(), "text", "Lớp 10A1\n", False),
        ("aaaaaaaaaaaaaaaắb".encode(), "text", "aaaaaaaaaaaaaaa", True),
        (b"\xff\xfe", "hexadecimal", "fffe", False),
        (b"\x1b[31m", "hexadecimal", "1b5b33316d", False),
        ("‮abc".encode(), "hexadecimal", "e280ae616263", False),
        (b"\x00" * 20, "hexadecimal", "00" * 16, True),
    ],
)
def test_bytes_are_shown_as_text_if_they_are_text(raw: bytes | None, kind: str, text: str, is_cut: bool) -> None:
    found = content_of(raw, 16)
    assert (found.kind, found.text, found.is_cut, found.bytes) == (kind, text, is_cut, len(raw or b""))


def test_a_letter_is_shown_with_its_origin_and_its_own_headers() -> None:
    ours = headers_for("emis.class.updated", 7, 4711, 1_000, "no JSON", 2_000)
    letter = DeadLetter(3, 42, b"key", b"{", (("trace", b"\x00"), *ours, ("dlq.headers", b"1")))
    found = detail_of(letter)
    assert (found.place, found.topic, found.partition, found.offset) == ("3:42", "emis.class.updated", "7", "4711")
    assert (found.reason, found.sent_at) == ("no JSON", "1970-01-01T00:00:01.000Z")
    assert [(h.name, h.value.kind, h.value.text) for h in found.headers] == [("trace", "hexadecimal", "00")]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1970-01-01T00:00:01.000Z", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("2026-09-05T07:00:00+07:00", START),
        *((text, None) for text in (None, "", "soon", "2026-09-05T07:00:00", "0001-01-01T00:00:00+14:00")),
    ],
)
def test_when_a_record_was_sent_is_a_time_if_its_letter_says_one(text: str | None, time: datetime | None) -> None:
    assert time_of(text) == time
