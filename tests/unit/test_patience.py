"""Waiting for what cannot be reached: as long as it takes, told once, and other errors pass."""

from collections.abc import Iterator

import pytest
import stamina
from aiokafka.errors import KafkaConnectionError, NotLeaderForPartitionError, RequestTimedOutError

from emis_streams.engine.patience import Waiting, in_words, patiently


class Away(Exception):
    pass


@pytest.fixture(autouse=True)
def no_backoff() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100):
        yield


class Called:
    """Fails so many times, then succeeds."""

    def __init__(self, n_failures: int, error: type[Exception] = Away) -> None:
        self.n_failures = n_failures
        self.error = error
        self.n_calls = 0

    async def __call__(self) -> None:
        self.n_calls += 1
        if self.n_calls <= self.n_failures:
            raise self.error(f"time {self.n_calls}")


@pytest.mark.parametrize("n_failures", [0, 1, 5])
async def test_it_calls_until_it_succeeds_and_tells_each_failure(n_failures: int) -> None:
    call = Called(n_failures)
    told: list[str] = []
    await patiently(call, (Away,), lambda error: told.append(str(error)))
    assert call.n_calls == n_failures + 1
    assert told == [f"time {n + 1}" for n in range(n_failures)]


async def test_other_errors_pass_at_once() -> None:
    call = Called(2, ValueError)
    with pytest.raises(ValueError, match="time 1"):
        await patiently(call, (Away,))
    assert call.n_calls == 1


async def test_another_error_after_a_while_passes_too() -> None:
    call = Called(3)

    async def away_then_broken() -> None:
        await call()
        raise KeyError

    with pytest.raises(KeyError):
        await patiently(away_then_broken, (Away,))
    assert call.n_calls == 4


async def test_with_nothing_to_wait_for_every_error_passes() -> None:
    with pytest.raises(Away):
        await patiently(Called(1), ())


async def test_it_says_once_that_it_waits_and_once_that_it_goes_on() -> None:
    said: list[str] = []
    waiting = Waiting(said.append)
    await waiting.for_(Called(3), Away)
    assert said == ["waiting: Away: time 1", "goes on"]
    assert waiting.reason is None


async def test_the_reason_is_known_while_it_waits() -> None:
    waiting = Waiting(lambda _text: None)
    reasons: list[str | None] = []

    async def look() -> None:
        reasons.append(waiting.reason)
        if len(reasons) < 3:
            raise Away("not there")

    await waiting.for_(look, Away)
    assert reasons == [None, "Away: not there", "Away: not there"]


def test_a_kind_of_error_is_said_once() -> None:
    assert in_words(RequestTimedOutError()) == "RequestTimedOutError"
    assert in_words(NotLeaderForPartitionError("p 3")) == "NotLeaderForPartitionError: p 3"


def test_brokers_that_do_not_answer_are_named_by_their_addresses() -> None:
    addresses = "[('127.0.0.1', 1, <AddressFamily.AF_INET: 2>), ('broker-2', 9092, <AddressFamily.AF_UNSPEC: 0>)]"
    error = KafkaConnectionError(f"Unable to bootstrap from {addresses}")
    assert in_words(error) == "no broker answers at 127.0.0.1:1, broker-2:9092"
