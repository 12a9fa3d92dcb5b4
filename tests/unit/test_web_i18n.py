"""The catalogues of the pages: complete in both languages, and written as their readers write."""

import re
import string
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import pytest

import web
from emis_streams.lag_report import State
from emis_streams.lag_rules import REASONS
from emis_streams.quantities import filled
from web.health_page import LOOKS
from web.health_texts import OUTPUTS
from web.i18n import CATALOGUES, LANGUAGES, Language, Texts, choose

FOLDER = Path(web.__file__).parent
SOURCES = [*sorted((FOLDER / "templates").glob("*.html")), *sorted(FOLDER.glob("*.py"))]
USES = re.compile(r"""\bt(?:\.count|\.has)?\(\s*f?["']([^"']+)["']\s*(~)?""")


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_have_the_same_texts() -> None:
    assert CATALOGUES["vi"].keys() == CATALOGUES["en"].keys()


def test_texts_fill_in_the_same_values_in_both_languages() -> None:
    assert [k for k, text in CATALOGUES["en"].items() if fields(CATALOGUES["vi"][k]) != fields(text)] == []


def test_no_text_is_empty() -> None:
    assert [key for texts in CATALOGUES.values() for key, text in texts.items() if not text.strip()] == []


def used_keys(source: Path) -> set[tuple[str, bool]]:
    """Keys in a file, and whether the key is only a beginning that is completed when it is used."""
    found = set()
    for match in USES.finditer(source.read_text()):
        key, joined = match.groups()
        beginning = key.split("{")[0]
        found.add((beginning, bool(joined) or beginning != key))
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_only_known_keys_are_used(source: Path) -> None:
    known = CATALOGUES["en"]
    for key, is_beginning in used_keys(source):
        if is_beginning:
            assert any(k.startswith(key) for k in known), key
        else:
            assert key in known, key


def test_every_text_is_used() -> None:
    """What no page shows needs no translation."""
    literals = {text for source in SOURCES for text in re.findall(r"""["']([\w.:-]+)(?=["'{])""", source.read_text())}
    beginnings = tuple(text for text in literals if text.endswith("."))
    unused = {
        key for key in CATALOGUES["en"] if key not in literals | OUTPUTS.keys() and not key.startswith(beginnings)
    }
    assert unused == set()


def test_whatever_a_check_or_rule_says_is_translated_with_its_figures() -> None:
    for language in LANGUAGES:
        for key, text in OUTPUTS.items():
            assert fields(CATALOGUES[language][key]) == fields(text), key


@pytest.mark.parametrize(
    ("language", "key", "text"),
    [
        ("vi", "fresh.ok.title", "Dữ liệu mới nhất"),
        ("vi", "fresh.ok.text", "trễ tối đa {age}"),
        ("vi", "figure.age", "Độ trễ dữ liệu tối đa"),
        ("vi", "refusal.deleted.text", "{subject} này đã bị xoá."),
        ("vi", "class.unknown", "Chưa có thông tin lớp"),
        ("vi", "lag.title", "Độ trễ xử lý sự kiện"),
        ("vi", "part.consumerLag", "Độ trễ xử lý sự kiện"),
        ("vi", "health.healthy", "Bình thường"),
        ("vi", "health.degraded", "Có sự cố một phần"),
        ("vi", "breaker.OPEN", "Đang chặn"),
        ("vi", "breaker.CLOSED", "Bình thường"),
        ("en", "live.resume", "Resume"),
        ("en", "lag.level", "up to date"),
        ("en", "lag.catch_up.unknown", "not catching up"),
        ("en", "tables.elsewhere_one", "Another worker ingests."),
    ],
)
def test_terms_that_were_agreed_on(language: Language, key: str, text: str) -> None:
    assert CATALOGUES[language][key] == text


def test_every_state_has_a_word() -> None:
    for texts in CATALOGUES.values():
        assert {f"lagstate.{state}" for state in get_args(State)} <= texts.keys()
        assert {f"check.{status}" for status in LOOKS} <= texts.keys()


def test_vietnamese_is_written_with_its_marks() -> None:
    marked = [text for text in CATALOGUES["vi"].values() if not text.isascii()]
    assert len(marked) > 0.75 * len(CATALOGUES["vi"])


@pytest.mark.parametrize(
    ("asked", "remembered", "accepted", "chosen"),
    [
        (None, None, "", "vi"),
        (None, None, "en-GB,en;q=0.9", "en"),
        (None, None, "fr, en;q=0.3, vi;q=0.7", "vi"),
        (None, None, "fr", "vi"),
        (None, None, "en;q=0", "vi"),
        (None, None, "en;q=nonsense, vi", "vi"),
        (None, "en", "vi", "en"),
        ("vi", "en", "en", "vi"),
        ("xx", "en", "vi", "en"),
    ],
)
def test_the_language_is_the_one_asked_for_else_remembered_else_accepted(
    asked: str | None, remembered: str | None, accepted: str, chosen: Language
) -> None:
    assert choose(asked, remembered, accepted) == chosen


def test_numbers_have_the_separators_of_the_language() -> None:
    assert Texts("en").number(1_234_567.891, 2) == "1,234,567.89"
    assert Texts("vi").number(1_234_567.891, 2) == "1.234.567,89"
    assert Texts("vi").number(None) == "–"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 s"), (0.0123, "12 ms"), (1, "1 s"), (2.34, "2.3 s"), (59.9, "60 s"), (60, "1 min"),
     (64.9, "1 min 4 s"), (3_600, "1 h"), (9_000, "2 h 30 min"), (200_000, "2 days")],
)  # fmt: skip
def test_a_duration_has_the_unit_that_fits(value: float | None, text: str) -> None:
    assert Texts("en").seconds(value) == text


def test_one_thing_is_not_two() -> None:
    assert Texts("en").count("count.classes", 1) == "1 class"
    assert Texts("en").count("count.classes", 1200) == "1,200 classes"


_THINGS = (
    *("record", "event", "partition", "worker", "group", "class", "pupil", "byte", "day", "row", "letter", "topic"),
    *("assignment", "instance", "service", "teacher", "replica", "member", "call", "request", "failure", "process"),
)
_MANY = "|".join(f"{thing}{'es' if thing.endswith('s') else 's'}" for thing in _THINGS)
MANY_AFTER_ONE = re.compile(
    rf"\b1 (?:[a-z-]+ ){{0,2}}?(?:{_MANY})\b|\b1 (?:{'|'.join(_THINGS)}) (?:are|were|wait|read|ingest|write)\b"
)
ALWAYS_MANY = {"lag.cut"}
"""Such a line is there only for more than 200 rows."""


@pytest.mark.parametrize("texts", [CATALOGUES["en"], OUTPUTS], ids=["pages", "checks"])
def test_no_english_text_speaks_of_one_thing_as_of_many(texts: dict[str, str]) -> None:
    with_one = {key: filled(text, dict.fromkeys(fields(text), 1)) for key, text in texts.items()}
    wrong = {key for key, text in with_one.items() if MANY_AFTER_ONE.search(text) is not None}
    assert wrong - ALWAYS_MANY == set()


def test_a_reason_with_one_record_is_the_same_on_pages_and_the_command_line() -> None:
    shown = Texts("en").say("reason.trend_unknown", {"lag": 1}, "")
    assert shown == filled(REASONS["trend_unknown"], {"lag": 1})
    assert shown.startswith("1 record behind")
    assert Texts("en").say("reason.stopped", {"lag": 1}, "").endswith("while 1 record waits.")
    assert Texts("en").say("reason.stopped", {"lag": 48_210}, "").endswith("while 48,210 records wait.")
    assert Texts("vi").say("reason.stopped", {"lag": 1}, "").endswith("còn 1 bản ghi đang chờ.")


def test_moments_are_told_in_utc_as_the_language_writes_dates() -> None:
    time = datetime(2026, 9, 5, 7, 8, 9, tzinfo=timezone(timedelta(hours=7)))
    assert Texts("en").moment(time) == "5 Sep 2026 00:08:09 UTC"
    assert Texts("vi").moment(time) == "05/09/2026 00:08:09 UTC"


def test_how_long_ago_is_never_ahead_of_now() -> None:
    now = datetime(2026, 9, 5, tzinfo=UTC)
    assert Texts("en").ago(now + timedelta(seconds=3), now) == "just now"
    assert Texts("en").ago(now - timedelta(seconds=75), now) == "1 min 15 s ago"
    assert Texts("vi").ago(None, now) == "chưa bao giờ"


def test_what_is_not_translated_is_told_as_it_came() -> None:
    assert Texts("vi").say("reason.of_tomorrow", {}, "Something new.") == "Something new."


@pytest.mark.parametrize("params", [{}, {"limit": 5}, {"another": 5}, {"lag": "many", "limit": 5}])
def test_what_lacks_a_figure_is_told_as_it_came(params: dict[str, int | float | str]) -> None:
    """The journal may hold what another version wrote."""
    assert Texts("en").say("lag.over", params, "7 behind, over 5.") == "7 behind, over 5."


@pytest.mark.parametrize(
    ("seconds", "vi", "en"),
    [
        (-5, "vừa xong", "just now"),
        (59, "vừa xong", "just now"),
        (60, "1 phút trước", "1 min ago"),
        (3_599, "59 phút trước", "59 min ago"),
        (7_300, "2 giờ trước", "2 h ago"),
        (86_400, "1 ngày trước", "1 day ago"),
        (30 * 86_400, "30 ngày trước", "30 days ago"),
        (31 * 86_400, "05/08/2026", "5 Aug 2026"),
    ],
)
def test_readers_see_one_unit_of_how_long_ago_and_later_the_day(seconds: int, vi: str, en: str) -> None:
    now = datetime(2026, 9, 5, 10, tzinfo=UTC)
    time = now - timedelta(seconds=seconds)
    assert (Texts("vi").ago_in_words(time, now), Texts("en").ago_in_words(time, now)) == (vi, en)


def test_readers_see_the_clock_of_vietnam() -> None:
    late = datetime(2026, 9, 5, 18, 30, 5, tzinfo=UTC)
    assert Texts("vi").moment_in_vietnam(late) == "01:30:05, 06/09/2026"
    assert Texts("en").moment_in_vietnam(late) == "01:30:05, 6 Sep 2026"


def test_a_delay_is_told_in_whole_seconds() -> None:
    assert [Texts("vi").seconds_rounded_up(value) for value in (0.0, 0.751, 1.2)] == ["1 giây", "1 giây", "2 giây"]
