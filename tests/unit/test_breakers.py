"""The circuit breakers of one client: at most so many, whatever names are called; none is forgotten that matters."""

import logging
from contextlib import ExitStack, suppress

import pytest

from emis_streams.services import health
from emis_streams.services.breakers import MOST_BREAKERS, Breakers
from emis_streams.services.circuit_breaker import CircuitBreaker, CircuitOpen, Limits, State

AT_ONCE = Limits(threshold=1, open_seconds=60.0)


def open_one(breaker: CircuitBreaker) -> CircuitBreaker:
    with suppress(OSError), breaker.calling():
        raise OSError("no answer")
    return breaker


def names(breakers: Breakers) -> list[str]:
    return [pattern for _service, pattern, _breaker in breakers]


def test_ten_thousand_names_leave_a_thousand_breakers() -> None:
    breakers = Breakers()
    for number in range(10_000):
        with breakers.of("lessons", f"pattern-{number}").calling():
            pass
    assert len(names(breakers)) == MOST_BREAKERS == 1_000
    assert "pattern-9999" in names(breakers)


def test_the_one_that_was_called_longest_ago_is_forgotten() -> None:
    breakers = Breakers(most=2)
    for pattern in ("a", "b", "a", "c"):
        breakers.of("lessons", pattern)
    assert names(breakers) == ["a", "c"]


def test_an_open_one_is_kept() -> None:
    breakers = Breakers(AT_ONCE, most=2)
    open_one(breakers.of("lessons", "broken"))
    for pattern in "abc":
        breakers.of("lessons", pattern)
    assert names(breakers) == ["broken", "c"]
    with pytest.raises(CircuitOpen), breakers.of("lessons", "broken").calling():
        pytest.fail("it was called")


def test_one_with_a_call_under_way_is_kept() -> None:
    breakers = Breakers(most=2)
    with breakers.of("lessons", "slow").calling():
        for pattern in "abc":
            breakers.of("lessons", pattern)
        assert names(breakers) == ["c", "slow"]
    assert breakers.of("lessons", "slow").counts.succeeded == 1


def test_one_that_waits_for_its_probe_gives_way_only_if_no_closed_one_does() -> None:
    breakers = Breakers(Limits(threshold=1, open_seconds=0.0), most=2)
    assert open_one(breakers.of("lessons", "broken")).state is State.HALF_OPEN
    breakers.of("lessons", "a")
    breakers.of("lessons", "b")
    assert names(breakers) == ["b", "broken"]
    with breakers.of("lessons", "b").calling():
        breakers.of("lessons", "c")
    assert names(breakers) == ["b", "c"]


def test_where_all_are_in_use_others_are_called_without_one_which_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    breakers = Breakers(AT_ONCE, most=2)
    open_one(breakers.of("lessons", "broken"))
    with ExitStack() as calls, caplog.at_level(logging.WARNING):
        calls.enter_context(breakers.of("lessons", "slow").calling())
        for number in range(100):
            open_one(breakers.of("lessons", f"other-{number}"))
    assert names(breakers) == ["broken", "slow"]
    assert [record.getMessage() for record in caplog.records] == [
        "2 circuit breakers are open or in use: lessons other-0 is called without one"
    ]


async def test_health_names_some_of_many_that_are_open() -> None:
    breakers = Breakers(AT_ONCE)
    for number in range(500):
        open_one(breakers.of("lessons", f"pattern-{number:03}"))
    finding = await health.circuit_breakers(breakers)()
    assert finding.value == 500
    assert finding.text.endswith("lessons pattern-019 and 480 more")
