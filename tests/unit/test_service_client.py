"""Calls of other services, over a carrier that does as it is told: deadlines, retries, breakers, keys."""

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest
import stamina
from stamina.instrumentation import RetryDetails

from emis_streams.services.breakers import Breakers
from emis_streams.services.circuit_breaker import CircuitOpen, Limits, State
from emis_streams.services.client import CallOptions, ServiceClient
from emis_streams.services.errors import (
    DeadlineExceeded,
    NoAnswer,
    NotSent,
    Refused,
    ServiceBroken,
    ServiceUnavailable,
)
from emis_streams.services.retry_budget import RetryBudget
from tests.scripted_carrier import Scripted, never

QUICK = CallOptions(timeout_seconds=0.02, first_wait_seconds=0.001, deadline_seconds=10.0)


def client_of(carrier: Scripted, options: CallOptions = QUICK, **kwargs: Any) -> ServiceClient:
    return ServiceClient(carrier, options=options, **kwargs)


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """Seconds before each retry."""
    told: list[float] = []

    def note(details: RetryDetails) -> None:
        told.append(details.wait_for)

    before = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([note])
    yield told
    stamina.instrumentation.set_on_retry_hooks(before)


async def test_the_answer_is_what_the_service_said() -> None:
    carrier = Scripted([{"lessonId": "7"}])
    assert await client_of(carrier).send("lessons", "get-lesson", {"id": 7}) == {"lessonId": "7"}
    service, request = carrier.requests[0]
    assert (service, request.pattern, request.value) == ("lessons", "get-lesson", b'{"id":7}')


async def test_a_call_that_fails_is_made_up_to_four_times_with_growing_waits(waits: list[float]) -> None:
    carrier = Scripted([NotSent("no broker")])
    with pytest.raises(NotSent, match="no broker"):
        await client_of(carrier).send("lessons", "get-lesson", None)
    assert len(carrier.requests) == 4
    assert waits == [pytest.approx(least + 0.0005, abs=0.00051) for least in (0.001, 0.002, 0.004)]


async def test_from_the_fourth_retry_on_waits_do_not_grow(waits: list[float]) -> None:
    options = CallOptions(retries=6, first_wait_seconds=0.001)
    with pytest.raises(NotSent):
        await client_of(Scripted([NotSent("no broker")]), options).send("lessons", "get-lesson", None)
    assert waits[3:] == [pytest.approx(0.0085, abs=0.00051)] * 3


async def test_an_attempt_without_an_answer_is_followed_by_the_next() -> None:
    carrier = Scripted([never, "here"])
    assert await client_of(carrier).send("lessons", "get-lesson", None) == "here"


async def test_no_answer_at_all_says_whose_and_for_how_long() -> None:
    with pytest.raises(NoAnswer, match=r"lessons get-lesson: no answer within 0\.02 s"):
        await client_of(Scripted([never])).send("lessons", "get-lesson", None)


async def test_all_attempts_have_the_same_idempotency_key_and_deadline() -> None:
    carrier = Scripted([NotSent("no broker"), NotSent("no broker"), "done"])
    await client_of(carrier).send("lessons", "create-lesson", {"title": "x"})
    assert len({(r.idempotency_key, r.expires_at, r.value) for _, r in carrier.requests}) == 1


async def test_two_calls_have_two_keys_unless_one_is_given() -> None:
    carrier = Scripted(["done"])
    client = client_of(carrier)
    await client.send("lessons", "create-lesson", None)
    await client.send("lessons", "create-lesson", None)
    await client.send("lessons", "create-lesson", None, idempotency_key="mine")
    keys = [request.idempotency_key for _, request in carrier.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


async def test_the_whole_call_ends_at_its_deadline_and_tells_what_failed_before() -> None:
    options = CallOptions(deadline_seconds=0.05, first_wait_seconds=30.0)
    with pytest.raises(DeadlineExceeded, match="of the whole call; before: no broker"):
        await client_of(Scripted([NotSent("no broker")]), options).send("lessons", "get-lesson", None)


async def test_a_retry_that_the_deadline_cuts_off_does_not_hide_what_failed_before() -> None:
    options = CallOptions(deadline_seconds=0.1, first_wait_seconds=0.001, timeout_seconds=30.0)
    with pytest.raises(DeadlineExceeded, match="of the whole call; before: no broker"):
        await client_of(Scripted([NotSent("no broker"), never]), options).send("lessons", "get-lesson", None)


@pytest.mark.parametrize("final", [Refused("not-found", "no lesson 7"), ServiceBroken("it failed")])
async def test_what_would_be_answered_again_is_not_asked_again(final: Exception) -> None:
    carrier = Scripted([final])
    with pytest.raises(type(final)):
        await client_of(carrier).send("lessons", "get-lesson", None)
    assert len(carrier.requests) == 1


async def test_a_service_that_cannot_now_is_asked_again() -> None:
    carrier = Scripted([ServiceUnavailable("no database"), "done"])
    assert await client_of(carrier).send("lessons", "get-lesson", None) == "done"


async def test_retries_end_with_the_budget() -> None:
    budget = RetryBudget(ratio=0, per_second=0.2, clock=lambda: 0.0)  # Two saved up.
    carrier = Scripted([NotSent("no broker")])
    with pytest.raises(NotSent):
        await client_of(carrier, budget=budget).send("lessons", "get-lesson", None)
    assert len(carrier.requests) == 3
    assert budget.refused == 1


async def test_a_call_that_used_up_its_retries_takes_nothing_more_from_the_budget() -> None:
    budget = RetryBudget(ratio=0, per_second=0.4, clock=lambda: 0.0)  # Four saved up.
    with pytest.raises(NotSent):
        await client_of(Scripted([NotSent("no broker")]), budget=budget).send("lessons", "get-lesson", None)
    assert budget.take()


async def test_a_call_with_all_its_attempts_is_one_failure() -> None:
    breakers = Breakers(Limits(threshold=2))
    client = client_of(Scripted([NotSent("no broker")]), breakers=breakers)
    with pytest.raises(NotSent):
        await client.send("lessons", "get-lesson", None)
    assert breakers.of("lessons", "get-lesson").failures_in_row == 1


async def test_an_open_breaker_asks_nobody_and_other_patterns_go_on() -> None:
    carrier = Scripted([NotSent("no broker"), NotSent("no broker"), "done"])
    client = client_of(carrier, CallOptions(retries=0), breakers=Breakers(Limits(threshold=2)))
    for _ in range(2):
        with pytest.raises(NotSent):
            await client.send("lessons", "get-lesson", None)
    with pytest.raises(CircuitOpen):
        await client.send("lessons", "get-lesson", None)
    assert len(carrier.requests) == 2
    assert await client.send("lessons", "get-lessons", None) == "done"


async def test_refusals_do_not_open_the_breaker() -> None:
    breakers = Breakers(Limits(threshold=1))
    client = client_of(Scripted([Refused("not-found", "no lesson 7")]), breakers=breakers)
    for _ in range(3):
        with pytest.raises(Refused):
            await client.send("lessons", "get-lesson", None)
    assert breakers.of("lessons", "get-lesson").state is State.CLOSED


async def test_without_circuit_breaker_an_open_one_is_passed_by() -> None:
    breakers = Breakers(Limits(threshold=1))
    client = client_of(Scripted([ServiceBroken("it failed"), "done"]), breakers=breakers)
    with pytest.raises(ServiceBroken):
        await client.send("lessons", "get-lesson", None)
    options = CallOptions(circuit_breaker=False)
    assert await client.send("lessons", "get-lesson", None, options) == "done"


async def test_a_caller_that_goes_away_is_no_failure_of_the_service() -> None:
    breakers = Breakers(Limits(threshold=1))
    client = client_of(Scripted([never]), CallOptions(), breakers=breakers)
    call = asyncio.create_task(client.send("lessons", "get-lesson", None))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert breakers.of("lessons", "get-lesson").state is State.CLOSED


async def test_what_is_not_json_is_the_callers_mistake() -> None:
    breakers = Breakers(Limits(threshold=1))
    carrier = Scripted(["done"])
    with pytest.raises(TypeError):
        await client_of(carrier, breakers=breakers).send("lessons", "get-lesson", object())
    assert carrier.requests == []


async def test_an_emitted_message_has_no_deadline_as_it_is_carried_out_whenever_the_service_runs() -> None:
    carrier = Scripted([None])
    await client_of(carrier).emit("users", "user-created", {"userId": 1})
    assert carrier.requests[0][1].expires_at == math.inf
