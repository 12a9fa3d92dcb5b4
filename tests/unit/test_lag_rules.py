"""The rules of lag: states, rates, ages; the clock is passed in."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams import lag_rules
from emis_streams.lag_rules import REASONS, AgeBasis, Observation, Verdict

ALLOWED = 5.0


def seen(
    *points: tuple[float, int | None, int | None], earliest: int | None = 0, owned: bool | None = True
) -> list[Observation]:
    """Observations from (time, committed, end)."""
    return followed_up([Observation(at, committed, end, earliest, owned) for at, committed, end in points])


def followed_up(observations: list[Observation]) -> list[Observation]:
    """As the watch keeps them: each says since when the group stands."""
    found: list[Observation] = []
    for one in observations:
        found.append(replace(one, standing_since=lag_rules.standing_since(found[-1] if found else None, one)))
    return found


def verdict(observations: list[Observation], lag_seconds: float | None = 60.0) -> Verdict:
    return lag_rules.verdict(observations, lag_seconds, ALLOWED)


def test_a_group_that_read_everything_is_ok() -> None:
    assert verdict(seen((0, 7, 7)), 0.0).state == "OK"


def test_a_busy_group_within_the_allowed_age_is_ok_though_its_lag_is_never_zero() -> None:
    found = verdict(seen((0, 100, 130), (20, 900, 930)), 0.8)
    assert (found.state, found.reason_key) == ("OK", "within")


def test_nothing_committed_is_told_apart_by_what_waits_and_who_reads() -> None:
    assert verdict(seen((0, None, 0))).severity == "ok"
    assert verdict(seen((0, None, 9))).severity == "warn"
    stopped = verdict(seen((0, None, 9), owned=False))
    assert (stopped.state, stopped.severity) == ("NEVER_COMMITTED", "error")
    assert stopped.params == {"waiting": 9}


def test_a_partition_without_owner_is_stopped_only_if_records_wait() -> None:
    assert verdict(seen((0, 3, 9), owned=False)).state == "STOPPED"
    assert verdict(seen((0, 9, 9), owned=False)).state == "OK"


def test_a_rebalance_is_not_a_stop() -> None:
    assert verdict(seen((0, 3, 9), owned=None)).state == "BEHIND"


def test_an_offset_that_stands_still_with_lag_is_stalled_after_ten_seconds() -> None:
    early = seen((0, 3, 9), (9, 3, 12))
    assert verdict(early).state == "BEHIND"
    late = verdict(followed_up([*early, *seen((10, 3, 15))]))
    assert late.state == "STALLED"
    assert late.params == {"committed": 3, "seconds": 10.0, "lag": 12}


def test_time_spent_level_does_not_count_as_standing_still() -> None:
    assert verdict(seen((0, 3, 3), (20, 3, 3), (25, 3, 9))).state == "BEHIND"


def test_a_duration_is_not_cut_by_the_window_of_what_is_remembered() -> None:
    now = Observation(600, 3, 12, 0, owned=True, standing_since=0.0)
    assert verdict([now]).params["seconds"] == 600
    assert "for at least 600 s" in verdict([now]).reason


def test_standing_begins_again_with_each_step() -> None:
    assert [one.standing_since for one in seen((0, 3, 3), (5, 3, 9), (9, 3, 12), (11, 5, 12), (20, 5, 12))] == [
        *[None, 5, 5, 11, 11]
    ]


@pytest.mark.parametrize(
    ("committed", "stable", "end", "standing", "state"),
    [
        (7, 7, 12, 10, "OPEN_TRANSACTION"),
        (8, 7, 12, 10, "OPEN_TRANSACTION"),  # Past a marker of another transaction.
        (7, 7, 12, 9, "BEHIND"),  # Every transaction holds its readers for a moment.
        (5, 7, 12, 10, "STALLED"),  # There is something that it could read.
        (7, 12, 12, 10, "STALLED"),
        (7, None, 12, 10, "STALLED"),  # Not asked.
        (None, 0, 12, 10, "OPEN_TRANSACTION"),
        (None, 12, 12, 10, "NEVER_COMMITTED"),
        (12, 12, 12, 60, "OK"),
    ],
)
def test_a_transaction_that_does_not_end_is_named_where_it_holds_the_group(
    committed: int | None, stable: int | None, end: int, standing: float, state: str
) -> None:
    now = Observation(100, committed, end, 0, owned=True, standing_since=100 - standing, stable=stable)
    assert verdict([now], max(standing, 9)).state == state


def test_an_open_transaction_says_where_and_for_how_long_it_holds() -> None:
    now = Observation(100, 7, 12, 0, owned=True, standing_since=80, stable=7)
    found = verdict([now], 300.0)
    assert found.severity == "error"
    assert found.params == {"stable": 7, "end": 12, "seconds": 300.0}
    assert "at 7 (high watermark 12) for at least 300 s" in found.reason


def test_one_look_is_enough_where_the_first_record_of_the_transaction_is_old() -> None:
    now = Observation(100, 7, 12, 0, owned=True, standing_since=99, stable=7)
    assert verdict([now], 300.0).state == "OPEN_TRANSACTION"


def test_without_a_reader_the_missing_reader_is_named_first() -> None:
    now = Observation(100, 7, 12, 0, owned=False, standing_since=0, stable=7)
    assert verdict([now]).state == "STOPPED"


def test_a_trend_needs_some_seconds() -> None:
    assert verdict(seen((0, 1, 100), (4, 2, 200))).reason_key == "trend_unknown"


@pytest.mark.parametrize(
    ("last", "state", "reason"),
    [
        ((10, 900, 1000), "CATCHING_UP", "shrinking"),
        ((10, 101, 1101), "BEHIND", "steady"),
        ((10, 200, 1300), "BEHIND", "growing"),
    ],
)
def test_the_trend_of_a_moving_group(last: tuple[float, int, int], state: str, reason: str) -> None:
    found = verdict(seen((0, 0, 1000), last))
    assert (found.state, found.reason_key) == (state, reason)


def test_an_offset_that_went_back_is_a_rewind_until_it_recovers() -> None:
    back = seen((0, 500, 1000), (1, 100, 1000))
    assert verdict(back).state == "REWIND"
    assert verdict([*back, *seen((2, 600, 1000))]).state != "REWIND"


def test_an_offset_before_the_log_is_lost_and_says_how_much() -> None:
    found = verdict(seen((0, 3, 90), earliest=40))
    assert (found.state, found.params) == ("LOST", {"lost": 37})


def test_an_offset_beyond_the_end_is_only_believed_at_the_second_look() -> None:
    first = seen((0, 12, 10))
    assert verdict(first, 0.0).state == "OK"
    assert verdict([*first, *seen((1, 12, 10))], 0.0).state == "AHEAD"


def test_a_partition_without_leader_is_unknown() -> None:
    assert verdict(seen((0, 3, None))).state == "UNKNOWN"


observations = st.lists(
    st.builds(
        Observation,
        at=st.floats(0, 60),
        committed=st.none() | st.integers(0, 50),
        end=st.none() | st.integers(0, 50),
        earliest=st.integers(0, 20),
        owned=st.none() | st.booleans(),
        standing_since=st.none() | st.floats(0, 60),
        stable=st.none() | st.integers(0, 50),
    ),
    min_size=1,
    max_size=6,
).map(lambda found: sorted(found, key=lambda o: o.at))


@given(observations, st.none() | st.floats(0, 1e6))
def test_whatever_was_seen_has_a_state_and_a_reason_in_words(found: list[Observation], seconds: float | None) -> None:
    result = verdict(found, seconds)
    assert result.reason_key in REASONS
    assert "{" not in result.reason


def test_verdicts_are_ordered_by_severity_then_by_state() -> None:
    nothing_yet = verdict(seen((0, None, 0)))
    level = verdict(seen((0, 7, 7)), 0.0)
    catching_up = verdict(seen((0, 0, 1000), (10, 900, 1000)))
    growing = verdict(seen((0, 0, 1000), (10, 100, 1200)))
    stopped = verdict(seen((0, 3, 9), owned=False))
    ordered = [nothing_yet, level, catching_up, growing, stopped]
    places = [lag_rules.badness(found) for found in ordered]
    assert places == sorted(set(places))


def test_lag_is_unknown_not_zero_without_a_commit() -> None:
    assert lag_rules.lag_of(None, 5) is None
    assert lag_rules.lag_of(5, None) is None
    assert lag_rules.lag_of(3, 5) == 2
    assert lag_rules.lag_of(6, 5) == 0


def test_rates_skip_what_is_not_known() -> None:
    assert lag_rules.rate([(0, 10), (5, None), (10, 60)]) == 5.0
    assert lag_rules.rate([(0, 10)]) is None
    assert lag_rules.rate([(3, 10), (3, 20)]) is None


@pytest.mark.parametrize(
    ("lag", "produce", "consume", "expected"),
    [
        (100, 10.0, 60.0, 2.0),
        (100, 60.0, 60.0, None),
        (100, 60.0, 10.0, None),
        (0, 5.0, 0.0, 0.0),
        (None, 1.0, 2.0, None),
        (5, None, 2.0, None),
    ],
)
def test_time_to_catch_up(
    lag: int | None, produce: float | None, consume: float | None, expected: float | None
) -> None:
    assert lag_rules.catch_up_seconds(lag, produce, consume) == expected


def test_a_delay_is_told_by_the_newest_end_that_was_reached() -> None:
    ends = [(100.0, 5), (101.0, 8), (102.0, 20)]
    assert lag_rules.observed_delay(20, ends, 102.0) == 0.0
    assert lag_rules.observed_delay(10, ends, 102.0) == 1.0
    assert lag_rules.observed_delay(4, ends, 102.0) is None


@pytest.mark.parametrize(
    ("by_its_time", "age"),
    [
        (5.0, 5.0),
        pytest.param(-3_600.0, 4.0, id="the worker's clock is an hour behind the brokers'"),
        pytest.param(3_600.0, 7.0, id="an hour ahead"),
    ],
)
def test_the_age_of_a_record_is_within_what_was_seen_whatever_the_clocks_say(by_its_time: float, age: float) -> None:
    ends = [(93.0, 10), (96.0, 20), (100.0, 30)]
    assert lag_rules.watched_age(10, ends, 100.0, by_its_time) == age


def test_a_record_that_was_always_there_is_at_least_as_old_as_the_memory() -> None:
    assert lag_rules.watched_age(5, [(70.0, 10), (100.0, 30)], 100.0, -3_600.0) == 30.0
    assert lag_rules.watched_age(5, [(70.0, 10), (100.0, 30)], 100.0, 3_600.0) == 3_600.0


@given(st.lists(st.integers(0, 20), min_size=1, max_size=20), st.integers(0, 300))
def test_the_observed_delay_is_never_less_than_the_age_of_the_oldest_unread_record(
    appends: list[int], read: int
) -> None:
    """A log that gets appends[i] records within second i; its end is looked at as each second begins."""
    ends, times, end = [], [], 0
    for second, n in enumerate(appends):
        ends.append((float(second), end))
        times += [second + 0.5] * n
        end += n
    now = float(len(appends))
    ends.append((now, end))
    delay = lag_rules.observed_delay(read, ends, now)
    if delay is not None and read < end:
        assert delay >= now - times[read]


def test_a_total_delay_is_unknown_if_a_part_is() -> None:
    assert lag_rules.total_delay([0.0, 3.0, 1.0]) == 3.0
    assert lag_rules.total_delay([0.0, None]) is None
    assert lag_rules.total_delay(empty()) == 0.0


def empty() -> Iterable[float | None]:
    return iter(())


def test_an_age_grows_from_the_last_measurement() -> None:
    basis = AgeBasis(measured_at=1000.0, delay_seconds=2.0)
    assert basis.age_seconds(1000.0) == 2.0
    assert basis.age_seconds(1030.5) == 32.5
    assert basis.age_seconds(999.0) == 2.0
