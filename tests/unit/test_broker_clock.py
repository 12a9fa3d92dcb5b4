"""The brokers' clock as a process learns it: from acknowledgements, whatever the machine's own clock shows."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.broker_clock import KEPT_SAMPLES, BrokerClock

DAY = 86_400.0
NOON = 1_800_000_000.0
SKEWS = [0.0, 12.0, -12.0, 700.0, -700.0, 8 * DAY, -8 * DAY]


@dataclass
class World:
    """Two machines: the brokers' clock is right, this one's is wrong by `skew`; monotonic time begins at 5."""

    skew: float = 0.0
    elapsed: float = 0.0
    brokers_set_by: float = 0.0

    def monotonic(self) -> float:
        return 5.0 + self.elapsed

    def wall(self) -> float:
        return NOON + self.elapsed + self.skew

    def brokers(self) -> float:
        return NOON + self.elapsed + self.brokers_set_by

    def clock(self) -> BrokerClock:
        return BrokerClock(self.monotonic, self.wall)

    def acknowledge(self, clock: BrokerClock, there: float = 0.002, back: float = 0.002) -> None:
        """A record takes so long to the brokers, and its acknowledgement so long back."""
        sent = self.monotonic()
        self.elapsed += there
        broker_ms = int(self.brokers() * 1000)
        self.elapsed += back
        clock.note(broker_ms, sent, self.monotonic())


def test_before_the_first_acknowledgement_the_machines_own_clock_stands_in() -> None:
    world = World(skew=12.0)
    clock = world.clock()
    assert not clock.is_known
    assert clock.unix_seconds() == world.wall()
    assert clock.seconds_since(int(NOON * 1000)) is None
    assert clock.skew_seconds() is None


@pytest.mark.parametrize("skew", SKEWS)
def test_the_skew_is_measured_to_the_time_that_an_acknowledgement_takes(skew: float) -> None:
    world = World(skew)
    clock = world.clock()
    world.acknowledge(clock)
    assert clock.skew_seconds() == pytest.approx(skew, abs=0.004)
    assert clock.unix_seconds() == pytest.approx(world.brokers(), abs=0.004)


@pytest.mark.parametrize("skew", SKEWS)
def test_how_long_ago_something_was_by_the_brokers_never_depends_on_the_machines_clock(skew: float) -> None:
    world = World(skew)
    clock = world.clock()
    world.acknowledge(clock)
    then_ms = int(world.brokers() * 1000)
    world.elapsed += 60
    assert clock.seconds_since(then_ms) == pytest.approx(60, abs=0.005)


@given(there=st.floats(0, 30), back=st.floats(0, 30), waited=st.floats(0, 100))
def test_no_record_ever_looks_older_than_it_is(there: float, back: float, waited: float) -> None:
    world = World()
    clock = world.clock()
    world.acknowledge(clock, there, back)
    then_ms = int(world.brokers() * 1000)
    world.elapsed += waited
    found = clock.seconds_since(then_ms)
    assert found is not None
    assert 0 <= found <= waited + 0.002


def test_a_slow_acknowledgement_does_not_spoil_what_a_quick_one_told() -> None:
    world = World()
    clock = world.clock()
    world.acknowledge(clock)
    world.acknowledge(clock, there=0.001, back=9.0)
    assert clock.unix_seconds() == pytest.approx(world.brokers(), abs=0.004)


@pytest.mark.parametrize("jump", [-8 * DAY, -12.0, 12.0, 8 * DAY])
def test_a_clock_of_the_brokers_that_is_set_is_followed_at_the_next_acknowledgement(jump: float) -> None:
    world = World()
    clock = world.clock()
    for _ in range(KEPT_SAMPLES):
        world.acknowledge(clock)
    world.brokers_set_by = jump
    world.acknowledge(clock)
    assert clock.unix_seconds() == pytest.approx(world.brokers(), abs=0.004)


def test_a_clock_that_drifts_is_followed() -> None:
    world = World()
    clock = world.clock()
    for _ in range(1000):
        world.acknowledge(clock)
        world.elapsed += 3
        world.brokers_set_by += 0.0003  # 100 µs a second
    assert clock.unix_seconds() == pytest.approx(world.brokers(), abs=0.02)


def test_a_machines_clock_that_jumps_is_seen_at_once() -> None:
    world = World()
    clock = world.clock()
    world.acknowledge(clock)
    world.skew = 700.0
    assert clock.skew_seconds() == pytest.approx(700, abs=0.004)
    assert clock.unix_seconds() == pytest.approx(world.brokers(), abs=0.004)


def test_times_that_are_kept_never_go_back_by_what_measuring_differs() -> None:
    world = World()
    clock = world.clock()
    world.acknowledge(clock, there=0.0, back=0.4)
    before = clock.now()
    world.acknowledge(clock, there=0.001, back=0.001)
    after = clock.now()
    assert before <= after


def test_times_that_are_kept_follow_a_clock_of_the_brokers_that_is_set_back() -> None:
    world = World(brokers_set_by=8 * DAY)
    clock = world.clock()
    world.acknowledge(clock)
    clock.now()
    world.brokers_set_by = 0.0
    world.acknowledge(clock)
    assert abs(clock.now() - datetime.fromtimestamp(world.brokers(), UTC)).total_seconds() < 0.004
