"""The circuit breaker: named behaviours, and a state machine of calls that end in any order, late or never."""

import asyncio
from contextlib import AbstractContextManager, suppress
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from emis_streams.services.circuit_breaker import CircuitBreaker, CircuitOpen, Limits, Outcome, State

LIMITS = Limits(threshold=3, open_seconds=60.0, probes=2)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Failed(Exception):
    pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("lessons get-lesson", Limits(threshold=5, open_seconds=60.0), clock)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with suppress(Failed), breaker.calling():
            raise Failed


def succeed(breaker: CircuitBreaker) -> None:
    with breaker.calling():
        pass


def open_and_wait(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, breaker.limits.threshold)
    clock.now += breaker.limits.open_seconds


def test_opens_after_five_failed_calls_in_a_row(breaker: CircuitBreaker) -> None:
    fail(breaker, 4)
    assert breaker.state is State.CLOSED
    fail(breaker)
    assert breaker.state is State.OPEN


def test_a_success_begins_the_count_anew(breaker: CircuitBreaker) -> None:
    fail(breaker, 4)
    succeed(breaker)
    fail(breaker, 4)
    assert breaker.state is State.CLOSED


def test_while_open_no_call_is_made_and_it_says_for_how_long(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 20
    with pytest.raises(CircuitOpen, match=r"lessons get-lesson .* 40\.0 s more") as told, breaker.calling():
        pytest.fail("the call was made")
    assert told.value.retry_after_seconds == 40
    assert breaker.counts.rejected == 1


def test_after_its_time_one_probe_passes_and_its_success_closes(breaker: CircuitBreaker, clock: Clock) -> None:
    open_and_wait(breaker, clock)
    assert breaker.state is State.HALF_OPEN
    with breaker.calling(), pytest.raises(CircuitOpen), breaker.calling():
        pytest.fail("a second probe was made")
    assert breaker.state is State.CLOSED
    assert breaker.failures_in_row == 0


def test_a_failed_probe_opens_it_for_the_whole_time_again(breaker: CircuitBreaker, clock: Clock) -> None:
    open_and_wait(breaker, clock)
    fail(breaker)
    assert breaker.state is State.OPEN
    assert breaker.retry_after_seconds == 60


def test_an_answer_that_refuses_is_no_failure(breaker: CircuitBreaker) -> None:
    for _ in range(9):
        with suppress(Failed), breaker.calling(lambda _error: Outcome.ANSWERED):
            raise Failed
    assert breaker.state is State.CLOSED
    assert breaker.counts.succeeded == 9


def time_out(breaker: CircuitBreaker) -> None:
    with suppress(Failed), breaker.calling(lambda _error: Outcome.TIMED_OUT):
        raise Failed


def test_calls_that_time_out_and_nobody_answers_open_it(breaker: CircuitBreaker, clock: Clock) -> None:
    succeed(breaker)
    clock.now += 1
    for _ in range(5):
        time_out(breaker)
    assert breaker.state is State.OPEN


def test_calls_that_time_out_while_others_are_answered_are_slow_and_open_nothing(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    calls = [breaker.calling(lambda _error: Outcome.TIMED_OUT) for _ in range(20)]
    for call in calls:
        call.__enter__()
    clock.now += 1
    succeed(breaker)
    clock.now += 4
    for call in calls:
        with suppress(Failed):
            call.__exit__(Failed, Failed(), None)
    assert (breaker.state, breaker.failures_in_row) == (State.CLOSED, 0)
    assert (breaker.counts.slow, breaker.counts.failed) == (20, 0)


def test_what_asked_nobody_is_neither_success_nor_failure(breaker: CircuitBreaker) -> None:
    fail(breaker, 4)
    with suppress(Failed), breaker.calling(lambda _error: Outcome.NONE):
        raise Failed
    assert (breaker.state, breaker.failures_in_row) == (State.CLOSED, 4)


async def test_a_cancelled_call_is_neither_success_nor_failure(breaker: CircuitBreaker) -> None:
    async def call() -> None:
        with breaker.calling():
            await asyncio.sleep(3600)

    fail(breaker, 4)
    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert (breaker.state, breaker.failures_in_row) == (State.CLOSED, 4)
    assert breaker.counts.cancelled == 1


def test_a_cancelled_probe_gives_its_place_back(breaker: CircuitBreaker, clock: Clock) -> None:
    open_and_wait(breaker, clock)
    with suppress(asyncio.CancelledError), breaker.calling():
        raise asyncio.CancelledError
    assert breaker.state is State.HALF_OPEN
    succeed(breaker)
    assert breaker.state is State.CLOSED


def test_a_probe_that_never_ends_does_not_keep_it_half_open_for_ever(breaker: CircuitBreaker, clock: Clock) -> None:
    open_and_wait(breaker, clock)
    with breaker.calling():
        clock.now += 60
        fail(breaker)
        assert breaker.state is State.OPEN
    assert breaker.state is State.OPEN  # What was given up ends too late to close it.


def test_calls_begun_before_it_opened_do_not_close_it(breaker: CircuitBreaker, clock: Clock) -> None:
    with breaker.calling():
        open_and_wait(breaker, clock)
    assert breaker.state is State.HALF_OPEN


def test_calls_begun_before_it_closed_again_do_not_open_it(breaker: CircuitBreaker, clock: Clock) -> None:
    late = [breaker.calling() for _ in range(5)]
    for call in late:
        call.__enter__()
    open_and_wait(breaker, clock)
    succeed(breaker)
    for call in late:
        with suppress(Failed):
            call.__exit__(Failed, Failed(), None)
    assert (breaker.state, breaker.failures_in_row) == (State.CLOSED, 0)


def test_reset_lets_calls_pass_at_once(breaker: CircuitBreaker) -> None:
    fail(breaker, 5)
    breaker.reset()
    succeed(breaker)
    assert breaker.state is State.CLOSED


def test_its_history_says_what_changed_and_why(breaker: CircuitBreaker, clock: Clock) -> None:
    open_and_wait(breaker, clock)
    succeed(breaker)
    told = [(change.before, change.after, change.reason) for change in breaker.history]
    assert told == [
        (State.CLOSED, State.OPEN, "5 calls in a row failed, the last: Failed"),
        (State.OPEN, State.HALF_OPEN, "60 s are over"),
        (State.HALF_OPEN, State.CLOSED, "a probe succeeded"),
    ]


class UnderWay(NamedTuple):
    call: AbstractContextManager[None]
    epoch: int
    """Number of changes of state when it was begun."""
    begun: float


class BreakerMachine(RuleBasedStateMachine):
    """What must hold is said of what was seen from outside: when it opened, which calls ended how, in which epoch."""

    calls: Bundle[UnderWay] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = CircuitBreaker("machine", LIMITS, self.clock)
        self.state = State.CLOSED
        self.epoch = 0
        self.opened = 0.0
        self.failures: list[UnderWay] = []
        """Of this epoch, since the last success of this epoch."""
        self.probing: list[UnderWay] = []
        self.n_begun = self.n_ended = 0

    def become(self, state: State) -> None:
        self.state, self.epoch = state, self.epoch + 1
        self.failures, self.probing = [], []
        if state is State.OPEN:
            self.opened = self.clock.now

    def tick(self) -> None:
        if self.state is State.OPEN and self.clock.now >= self.opened + LIMITS.open_seconds:
            self.become(State.HALF_OPEN)

    def counts_now(self, call: UnderWay) -> bool:
        return call.epoch == self.epoch and (self.state is State.CLOSED or call in self.probing)

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 59.0, 60.0, 61.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.now += seconds
        self.tick()

    @rule(target=calls)
    def begin(self) -> UnderWay | object:
        self.tick()
        self.probing = [p for p in self.probing if self.clock.now - p.begun < LIMITS.open_seconds]
        call = self.breaker.calling()
        may_pass = self.state is State.CLOSED or (self.state is State.HALF_OPEN and len(self.probing) < LIMITS.probes)
        try:
            call.__enter__()
        except CircuitOpen:
            assert not may_pass
            return UnderWay(call, -1, 0.0)
        assert may_pass
        self.n_begun += 1
        under_way = UnderWay(call, self.epoch, self.clock.now)
        if self.state is State.HALF_OPEN:
            self.probing.append(under_way)
        return under_way

    @rule(call=consumes(calls))
    def succeeds(self, call: UnderWay) -> None:
        if call.epoch < 0:
            return
        call.call.__exit__(None, None, None)
        self.n_ended += 1
        if self.counts_now(call):
            self.failures = []
            if self.state is State.HALF_OPEN:
                self.become(State.CLOSED)

    @rule(call=consumes(calls))
    def fails(self, call: UnderWay) -> None:
        if call.epoch < 0:
            return
        error = Failed()
        assert not call.call.__exit__(Failed, error, None)
        self.n_ended += 1
        if self.counts_now(call):
            self.failures.append(call)
            if self.state is State.HALF_OPEN or len(self.failures) == LIMITS.threshold:
                self.become(State.OPEN)

    @rule(call=consumes(calls))
    def is_cancelled(self, call: UnderWay) -> None:
        if call.epoch < 0:
            return
        assert not call.call.__exit__(asyncio.CancelledError, asyncio.CancelledError(), None)
        self.n_ended += 1
        self.probing = [p for p in self.probing if p is not call]

    @rule()
    def is_reset(self) -> None:
        self.breaker.reset()
        self.become(State.CLOSED)

    @invariant()
    def the_state_is_what_the_outcomes_of_its_epoch_made_it(self) -> None:
        assert self.breaker.state is self.state

    @invariant()
    def it_never_stays_shut_for_longer_than_it_may(self) -> None:
        assert 0 <= self.breaker.retry_after_seconds <= LIMITS.open_seconds

    @invariant()
    def every_call_is_counted_once(self) -> None:
        counts = self.breaker.counts
        assert counts.succeeded + counts.failed + counts.cancelled == self.n_ended


TestBreakerMachine = BreakerMachine.TestCase
