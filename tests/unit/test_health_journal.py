"""The journal of health: a line for each change of state, bounded, and there again after a restart."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.health_journal import MOST_CHANGES, HealthJournal
from emis_streams.health_report import Check, CheckStatus

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def check(status: CheckStatus, key: str = "x.ok", output: str = "text") -> Check:
    return Check(
        component_type="component",
        status=status,
        observed_value=None,
        observed_unit=None,
        time=NOW,
        output=output,
        output_key=key,
        output_params={},
    )


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def seen(journal: HealthJournal) -> list[tuple[str, str | None, str]]:
    return [(change.part, change.before, change.after) for change in journal.changes]


def test_each_change_of_state_has_a_line_the_newest_first() -> None:
    journal = HealthJournal()
    for second, status in enumerate(("pass", "pass", "warn", "fail", "fail", "pass")):
        journal.note({"replica": check(status)}, after(second))
    assert seen(journal) == [("replica", "fail", "pass"), ("replica", "warn", "fail"), ("replica", "pass", "warn")]
    assert [change.at for change in journal.changes] == [after(5), after(3), after(2)]


def test_another_reason_is_a_change_unless_all_is_well() -> None:
    journal = HealthJournal()
    for key in ("reason.level", "reason.within", "reason.level"):
        journal.note({"consumerLag": check("pass", key)}, NOW)
    assert journal.changes == ()
    journal.note({"consumerLag": check("fail", "reason.stalled")}, NOW)
    journal.note({"consumerLag": check("fail", "reason.stopped")}, NOW)
    assert [change.output_key for change in journal.changes] == ["reason.stopped", "reason.stalled"]


def test_what_is_not_well_at_the_first_look_has_a_line() -> None:
    journal = HealthJournal()
    journal.note({"brokers": check("fail"), "clock": check("pass")}, NOW)
    assert seen(journal) == [("brokers", None, "fail")]


def test_since_is_when_the_state_began() -> None:
    journal = HealthJournal()
    assert journal.since("replica", check("fail")) is None
    journal.note({"replica": check("fail")}, NOW)
    journal.note({"replica": check("fail", output="another text")}, after(60))
    assert journal.since("replica", check("fail")) == NOW
    assert journal.since("replica", check("warn")) is None  # It says something else now, and was not noted yet.


def test_what_is_not_known_has_a_time_and_no_line() -> None:
    journal = HealthJournal()
    for second, key in enumerate(("latency.ok", "latency.waiting", "latency.waiting", "latency.unknown")):
        journal.note({"syncLatency": check("pass", key)}, after(second))
    assert journal.changes == ()
    assert journal.since("syncLatency", check("pass", "latency.unknown")) == after(3)
    assert journal.not_well_since("syncLatency") == after(3)
    journal.note({"syncLatency": check("pass", "latency.ok")}, after(4))
    assert journal.not_well_since("syncLatency") is None


def test_a_part_that_is_not_looked_at_for_a_while_is_as_it_was() -> None:
    """Without brokers there is no check of the lag."""
    journal = HealthJournal()
    journal.note({"consumerLag": check("warn")}, NOW)
    journal.note({}, after(10))
    assert not journal.note({"consumerLag": check("warn")}, after(20))


def test_it_holds_the_last_changes_only() -> None:
    journal = HealthJournal()
    for n in range(3 * MOST_CHANGES):
        journal.note({"replica": check("fail" if n % 2 else "pass", output=str(n))}, after(n))
    assert len(journal.changes) == MOST_CHANGES
    assert journal.changes[0].output == str(3 * MOST_CHANGES - 1)


def test_a_check_that_changes_all_the_time_pushes_out_its_own_changes_only() -> None:
    journal = HealthJournal()
    journal.note({"brokers": check("fail")}, NOW)
    for n in range(3 * MOST_CHANGES):
        journal.note({"consumerLag": check("warn" if n % 2 else "pass")}, after(n))
    assert len(journal.changes) == MOST_CHANGES
    assert seen(journal)[-1] == ("brokers", None, "fail")
    assert journal.changes[0].at == after(3 * MOST_CHANGES - 1)


def test_another_trend_of_a_lag_is_no_change() -> None:
    journal = HealthJournal()
    for n, key in enumerate(("reason.trend_unknown", "reason.growing", "reason.steady", "lag.over", "reason.growing")):
        journal.note({"consumerLag": check("warn", key)}, after(n))
        assert journal.since("consumerLag", check("warn", key)) == NOW
    assert len(journal.changes) == 1
    journal.note({"consumerLag": check("fail", "reason.stalled")}, after(10))
    assert len(journal.changes) == 2


def test_a_long_text_is_cut() -> None:
    journal = HealthJournal()
    journal.note({"brokers": check("fail", output="x" * 100_000)}, NOW)
    assert len(journal.changes[0].output) <= 500


def test_the_next_process_goes_on_with_it(tmp_path: Path) -> None:
    path = tmp_path / "not-made-yet" / "journal.json"
    first = HealthJournal(path)
    first.load()
    first.note({"replica": check("fail")}, NOW)
    first.save()
    second = HealthJournal(path)
    second.load()
    second.note_start("0.2.0", after(100))
    assert not second.note({"replica": check("fail")}, after(101))
    assert seen(second) == [("process", None, "pass"), ("replica", None, "fail")]
    assert second.since("replica", check("fail")) == NOW
    assert [p.name for p in path.parent.iterdir()] == ["journal.json"]


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"changes": [], "states": {"x": 1}}',
    b'{"changes": [], "states": {"x": {"status": "pass", "key": "", "since": "2026-01-01T00:00:00"}}}',
    b'{"changes": [{"at": "yesterday"}], "states": {}}',
    b'{"changes": [], "states": {"x": {"status": "pass", "key": "", "since": "9999-12-31T23:59:59-12:00"}}}',
    b" " * (5 << 20),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_file_that_is_no_journal_is_ignored_with_one_line(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.json"
    path.write_bytes(garbage)
    journal = HealthJournal(path)
    with caplog.at_level(logging.WARNING):
        journal.load()
    assert journal.changes == ()
    assert len(caplog.records) == 1
    assert len(caplog.records[0].getMessage()) < 1000
    assert str(path) in caplog.text
    journal.note({"replica": check("fail")}, NOW)
    journal.save()
    again = HealthJournal(path)
    again.load()
    assert len(again.changes) == 1


@given(st.binary(max_size=200))
def test_whatever_is_in_the_file_the_worker_starts(garbage: bytes) -> None:
    class File:
        def stat(self) -> "File":
            return self

        st_size = 1

        def read_bytes(self) -> bytes:
            return garbage

    HealthJournal(File()).load()  # type: ignore[arg-type]


def test_of_a_file_with_too_many_changes_the_last_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    many = HealthJournal(path, most=1_000)
    for n in range(1_000):
        many.note({"replica": check("fail" if n % 2 else "warn")}, after(n))
    many.save()
    journal = HealthJournal(path)
    journal.load()
    assert (len(journal.changes), journal.changes[0].at) == (MOST_CHANGES, after(999))


def test_a_folder_in_its_place_is_named_once_and_the_journal_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.json"
    (path / "full").mkdir(parents=True)
    journal = HealthJournal(path)
    journal.load()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            journal.note({"replica": check("fail" if n % 2 else "warn")}, after(n))
            journal.save()
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    assert len(journal.changes) == 3


def test_times_and_texts_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    journal = HealthJournal(path)
    journal.note({"replica": check("fail", "replica.waiting", "Đang chờ “x”\n\t\u2028")}, NOW)
    journal.save()
    again = HealthJournal(path)
    again.load()
    assert msgspec.json.encode(again.changes) == msgspec.json.encode(journal.changes)
