"""Charts keep every peak: the highest figure of each ten seconds, in buckets that do not move."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.lag_report import HistoryPoint
from web.chart_points import BUCKET_SECONDS, BUCKETS, bucketed
from web.lag_page import charts

START = datetime(2026, 9, 5, 7, 0, 3, tzinfo=UTC)
"""Not at the border of a bucket."""


def point(second: float, lag: int = 0, rate: float | None = None) -> HistoryPoint:
    return HistoryPoint(
        time=START + timedelta(seconds=second),
        total_lag=lag,
        max_lag_seconds=None,
        produce_rate=rate,
        consume_rate=rate,
    )


def lags(points: list[HistoryPoint]) -> dict[datetime, float | None]:
    return {at: value for at, (value,) in bucketed(points, lambda p: (float(p.total_lag),))}


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=600))
def test_the_highest_point_is_on_the_chart(figures: list[int]) -> None:
    points = [point(n, lag) for n, lag in enumerate(figures)]
    shown_from = START.timestamp() + len(figures) - 1 - (BUCKETS - 1) * BUCKET_SECONDS
    recent = [p.total_lag for p in points if p.time.timestamp() >= shown_from]
    assert max(v for v in lags(points).values() if v is not None) >= max(recent)


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=1500))
def test_a_peak_stays_where_it_was_at_each_refresh_until_it_is_ten_minutes_old(figures: list[int]) -> None:
    points = [point(n, lag) for n, lag in enumerate(figures)]
    before, after = lags(points[:-1][-600:]), lags(points[-600:])
    newest = max(before)
    for at in before.keys() & after.keys():
        if at == newest:
            assert (after[at] or 0) >= (before[at] or 0)  # It still fills.
        else:
            assert after[at] == before[at]


def test_seconds_in_which_nothing_was_measured_are_a_gap() -> None:
    found = lags([point(0, 5), point(35, 7)])
    assert list(found.values()) == [7.0, None, None, 5.0]


def test_what_is_not_known_does_not_hide_what_is() -> None:
    rows = bucketed([point(0, rate=None), point(1, rate=3.0), point(2, rate=None)], lambda p: (p.produce_rate, None))
    assert [values for _, values in rows] == [(3.0, None)]


@pytest.mark.parametrize("n", [0, 1])
def test_of_no_history_and_a_short_one(n: int) -> None:
    assert len(lags([point(s) for s in range(n)])) == n


def test_both_charts_of_the_pages_have_their_peaks() -> None:
    history = [point(n, lag=19_948 if n == 123 else 7, rate=50_000.0 if n == 321 else 10.0) for n in range(600)]
    shown = charts(history)
    assert max(values[0] for _, values in shown["lags"]) == 19_948  # type: ignore[attr-defined]
    assert max(values for _, values in shown["rates"]) == (50_000.0, 50_000.0)  # type: ignore[attr-defined]
