"""What `/health` and `/metrics` say of a machine's clock."""

import pytest

from emis_streams.broker_clock import BrokerClock
from emis_streams.services import health, metrics

DAY = 86_400.0


def clock_wrong_by(seconds: float) -> BrokerClock:
    found = BrokerClock(monotonic=lambda: 100.0, wall=lambda: 1_800_000_000.0 + seconds)
    found.note(1_800_000_000_000, not_before=100.0, not_after=100.0)
    return found


@pytest.mark.parametrize(
    ("seconds", "status", "said"),
    [
        (0.0, "pass", "This machine's clock is right"),
        (4.9, "pass", "is right"),
        (-4.9, "pass", "is right"),
        (12.0, "warn", "12.0 s ahead of the brokers'"),
        (-12.0, "warn", "12.0 s behind the brokers'"),
        (700.0, "warn", "700.0 s ahead of"),
        (-8 * DAY, "warn", "691200.0 s behind"),
    ],
)
async def test_a_wrong_clock_is_degraded_with_the_figure_and_what_to_do(seconds: float, status: str, said: str) -> None:
    found = await health.clock(clock_wrong_by(seconds))()
    assert (found.status, found.value) == (status, pytest.approx(seconds, abs=0.01))
    assert said in found.text
    assert status == "pass" or "chronyd" in found.text


async def test_a_clock_that_was_not_measured_yet_is_no_fault() -> None:
    found = await health.clock(BrokerClock())()
    assert (found.status, found.value) == ("pass", None)


async def test_a_clock_that_cannot_be_measured_says_which_topic_to_change() -> None:
    clock = BrokerClock()
    clock.unstamped_topic = "emis.registry"
    found = await health.clock(clock)()
    assert found.status == "warn"
    assert "emis.registry" in found.text
    assert "LogAppendTime" in found.text


@pytest.mark.parametrize("seconds", [12.0, -700.0])
def test_the_metric_is_signed_and_absent_while_it_is_not_known(seconds: float) -> None:
    (family,) = metrics.clock_skew(clock_wrong_by(seconds))
    assert [sample.value for sample in family.samples] == [pytest.approx(seconds, abs=0.01)]
    (unknown,) = metrics.clock_skew(BrokerClock())
    assert unknown.samples == []
