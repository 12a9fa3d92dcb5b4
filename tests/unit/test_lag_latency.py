"""Sync latency: event time to visible, without the backlog of before the start."""

import random

import pytest

from emis_streams.sync_latency import WINDOW_SECONDS, SyncLatency


def us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def test_nothing_observed_is_not_zero() -> None:
    summary = SyncLatency(started_at=100.0).summary(now=101.0)
    assert summary.count == 0
    assert summary.average_seconds is None
    assert summary.p99_seconds is None


def test_events_older_than_the_start_are_counted_apart() -> None:
    latency = SyncLatency(started_at=100.0)
    latency.observe([us(10), us(99.9), us(101)], 101.5, 101.5)
    summary = latency.summary(now=101.5)
    assert summary.backlog_count == 2
    assert summary.count == 1
    assert summary.average_seconds == pytest.approx(0.5)


def test_average_and_maximum_are_exact_and_quantiles_within_five_per_cent() -> None:
    latency = SyncLatency(started_at=0.0)
    dice = random.Random(4)
    waits = [dice.uniform(0.01, 3.0) for _ in range(5_000)]
    for at in range(0, len(waits), 100):
        latency.observe([us(1000 - wait) for wait in waits[at : at + 100]], 1000.0, 1000.0)
    summary = latency.summary(now=1000.0)
    assert summary.average_seconds == pytest.approx(sum(waits) / len(waits), rel=1e-3)
    assert summary.max_seconds == pytest.approx(max(waits), rel=1e-3)
    for quantile, found in ((0.5, summary.p50_seconds), (0.99, summary.p99_seconds)):
        assert found == pytest.approx(sorted(waits)[int(quantile * len(waits))], rel=0.08)


def test_the_window_slides() -> None:
    latency = SyncLatency(started_at=0.0)
    latency.observe([us(100)], 101.0, 101.0)
    assert latency.summary(now=101.0 + WINDOW_SECONDS - 1).count == 1
    assert latency.summary(now=102.0 + WINDOW_SECONDS).count == 0
    assert latency.count_total == 1


def test_a_producer_whose_clock_is_ahead_counts_as_visible_at_once() -> None:
    latency = SyncLatency(started_at=0.0)
    latency.observe([us(200), us(99)], 100.0, 100.0)
    summary = latency.summary(now=100.0)
    assert summary.average_seconds == pytest.approx(0.5)


def test_the_threshold_marks_the_average() -> None:
    latency = SyncLatency(started_at=0.0)
    latency.observe([us(94.0)], 100.0, 100.0)
    assert latency.summary(100.0, threshold_seconds=5.0).alerts == ("sync_latency_over_threshold",)
    assert latency.summary(100.0, threshold_seconds=7.0).alerts == ()


@pytest.mark.parametrize("brokers_ahead", [-700.0, 0.0, 8 * 86_400.0])
def test_what_was_before_the_start_is_told_by_the_brokers_clock(brokers_ahead: float) -> None:
    latency = SyncLatency(started_at=100.0)
    now = 1_800_000_000.0 + brokers_ahead
    latency.observe([us(now - 31), us(now - 2)], now, 130.0)
    summary = latency.summary(130.0)
    assert (summary.backlog_count, summary.count) == (1, 1)
    assert summary.average_seconds == pytest.approx(2.0)
