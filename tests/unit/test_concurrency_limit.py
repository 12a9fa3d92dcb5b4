"""The rule of the limit: a table of what one interval does to it, and any sequence of calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.services.concurrency_limit import Bounds, ConcurrencyLimit
from tests.unit.test_circuit_breaker import Clock

BOUNDS = Bounds(minimum=8, maximum=64, initial=40, goal_seconds=0.25, interval_seconds=0.1)


class Calls:
    """Calls that are begun together and end after the given seconds."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.clock = Clock()
        self.limit = ConcurrencyLimit(bounds, self.clock)

    def take(self, *seconds: float, in_flight: int | None = None) -> int:
        """The limit when the last one has ended, at the end of an interval at the earliest."""
        begun = self.clock.now
        for each in sorted(seconds):
            self.clock.now = begun + each
            self.limit.ended(begun, self.limit.value if in_flight is None else in_flight)
        self.clock.now = max(self.clock.now, begun + BOUNDS.interval_seconds)
        self.limit.ended(begun, 1)  # Whatever ends next: the interval is over.
        return self.limit.value


@pytest.mark.parametrize(
    ("seconds", "in_flight", "expected"),
    [
        ([0.05], 40, 41),
        ([0.25], 40, 41),  # Just the goal.
        ([0.05], 20, 41),  # Half of it is used: that much one user may.
        ([0.05], 19, 40),  # Nobody needs more.
        ([0.05, 3.0], 40, 41),  # One slow call says little.
        ([0.26, 0.5], 40, 36),  # All are slow: a tenth less at least,
        ([0.3125, 0.5], 40, 32),  # more, the slower they are,
        ([5.0, 5.0], 40, 20),  # by half at most.
    ],
)
def test_what_an_interval_does_to_the_limit(seconds: list[float], in_flight: int, expected: int) -> None:
    assert Calls().take(*seconds, in_flight=in_flight) == expected


def test_it_falls_to_the_minimum_and_recovers_to_the_maximum() -> None:
    calls = Calls()
    for _ in range(20):
        calls.take(1.0)
    assert calls.limit.value == BOUNDS.minimum
    for _ in range(BOUNDS.maximum):
        calls.take(0.05)
    assert calls.limit.value == BOUNDS.maximum


def test_calls_of_before_the_last_change_change_nothing() -> None:
    calls = Calls()
    begun = calls.clock.now
    assert calls.take(0.5) == 20
    for _ in range(30):
        calls.clock.now += 0.05
        calls.limit.ended(begun, 20)
    assert calls.limit.value == 20


def test_it_falls_when_the_other_side_has_too_many_however_quick_the_others_are() -> None:
    calls = Calls()
    calls.limit.overloaded(40)
    assert calls.take(0.01) == 36


@pytest.mark.parametrize(("minimum", "initial", "maximum"), [(0, 1, 2), (3, 2, 4), (2, 5, 4)])
def test_bounds_that_are_out_of_order_are_refused(minimum: int, initial: int, maximum: int) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        Bounds(minimum=minimum, initial=initial, maximum=maximum)


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.floats(0, 10), st.integers(1, 200), st.booleans()),
        max_size=200,
    )
)
def test_whatever_happens_it_stays_within_its_bounds(steps: list[tuple[float, float, int, bool]]) -> None:
    calls = Calls()
    for waited, took, in_flight, is_refused in steps:
        before = calls.limit.value
        calls.clock.now += waited
        if is_refused:
            calls.limit.overloaded(in_flight)
        else:
            calls.limit.ended(calls.clock.now - took, in_flight)
        assert BOUNDS.minimum <= calls.limit.value <= BOUNDS.maximum
        assert before // 2 <= calls.limit.value <= before + 1
