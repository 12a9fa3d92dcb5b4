"""Which calls are made: named behaviours, and a machine of calls that end in any order and any way."""

import asyncio
from contextlib import AbstractContextManager, ExitStack, suppress

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from emis_streams.services.admission import Admission, LimitReached, NotAdmitted, ShareReached
from emis_streams.services.circuit_breaker import CircuitOpen
from emis_streams.services.concurrency_limit import Bounds
from emis_streams.services.errors import NoAnswer, NotSent, Refused, ServiceOverloaded
from tests.unit.test_circuit_breaker import Clock

BOUNDS = Bounds(minimum=2, maximum=8, goal_seconds=0.2, interval_seconds=0.1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission("lessons get-lessons", BOUNDS, clock)


def test_above_the_limit_nothing_is_asked(admission: Admission) -> None:
    with ExitStack() as calls:
        for user in range(8):
            calls.enter_context(admission.slot(str(user)))
        with pytest.raises(LimitReached, match="lessons get-lessons"), admission.slot("another"):
            pytest.fail("the call was made")
        assert (admission.in_flight, admission.n_users) == (8, 8)
    assert (admission.in_flight, admission.n_users, admission.refused.limit) == (0, 0, 1)


def test_one_user_has_half_of_the_limit_and_another_one_is_let_in(admission: Admission) -> None:
    with ExitStack() as calls:
        for _ in range(4):
            calls.enter_context(admission.slot("heavy"))
        with pytest.raises(ShareReached), admission.slot("heavy"):
            pytest.fail("the call was made")
        with admission.slot("another"):
            pass
    assert admission.refused.share == 1


def test_the_more_users_the_smaller_the_share_and_never_none(admission: Admission) -> None:
    with ExitStack() as calls:
        for user in ("a", "b", "c", "d"):
            calls.enter_context(admission.slot(user))
        calls.enter_context(admission.slot("a"))
        with pytest.raises(ShareReached), admission.slot("a"):
            pytest.fail("the call was made")
        calls.enter_context(admission.slot("e"))


def end(admission: Admission, clock: Clock, seconds: float, error: BaseException | None) -> None:
    with suppress(type(error) if error is not None else ()), admission.slot("user"):
        clock.now += seconds
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, NoAnswer("none within 5 s")])
def test_results_and_time_outs_tell_how_long_calls_take(
    admission: Admission, clock: Clock, error: Exception | None
) -> None:
    for _ in range(5):
        end(admission, clock, 1.0, error)
    assert admission.limit == BOUNDS.minimum


@pytest.mark.parametrize(
    "error", [CircuitOpen("lessons", 1.0), NotSent("no broker"), Refused("invalid", "title"), asyncio.CancelledError()]
)
def test_what_says_nothing_about_how_long_calls_take_changes_nothing(
    admission: Admission, clock: Clock, error: BaseException
) -> None:
    for _ in range(5):
        end(admission, clock, 1.0, error)
    assert (admission.limit, admission.in_flight) == (BOUNDS.maximum, 0)


def test_a_service_that_says_it_has_too_much_gets_less(admission: Admission, clock: Clock) -> None:
    for _ in range(20):
        end(admission, clock, 0.1, ServiceOverloaded("no turn"))
    assert admission.limit == BOUNDS.minimum


class AdmissionMachine(RuleBasedStateMachine):
    """Counts beside it what is under way, by user."""

    calls: Bundle[tuple[str, AbstractContextManager[None]]] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.admission = Admission("machine", BOUNDS, self.clock)
        self.under_way: list[str] = []

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 0.5, 5.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(target=calls, user=st.sampled_from("abc"))
    def begin(self, user: str) -> tuple[str, AbstractContextManager[None]]:
        call = self.admission.slot(user)
        limit, own = self.admission.limit, self.under_way.count(user)
        try:
            call.__enter__()
        except LimitReached:
            assert len(self.under_way) >= limit
            return user, ExitStack()
        except ShareReached:
            assert own >= max(1, limit // 3)
            return user, ExitStack()
        assert len(self.under_way) < limit
        assert own < max(1, limit // 2)
        self.under_way.append(user)
        return user, call

    @rule(
        begun=consumes(calls),
        error=st.sampled_from([None, NoAnswer("late"), ServiceOverloaded("full"), asyncio.CancelledError(), OSError()]),
    )
    def end(self, begun: tuple[str, AbstractContextManager[None]], error: BaseException | None) -> None:
        user, call = begun
        if isinstance(call, ExitStack):
            return
        self.under_way.remove(user)
        with suppress(BaseException):
            call.__exit__(type(error) if error else None, error, None)

    @invariant()
    def what_is_under_way_is_known_and_nothing_else(self) -> None:
        assert self.admission.in_flight == len(self.under_way)
        assert self.admission.n_users == len(set(self.under_way))
        assert BOUNDS.minimum <= self.admission.limit <= BOUNDS.maximum


TestAdmissionMachine = AdmissionMachine.TestCase


def test_a_user_of_the_gate_counts_before_its_handler_runs(admission: Admission) -> None:
    expected = {"heavy": 4}
    assert isinstance(admission.refusal("heavy", expected, 4), ShareReached)
    assert admission.refusal("another", expected, 4) is None
    assert isinstance(admission.refusal("another", expected, 8), LimitReached)
    assert issubclass(LimitReached, NotAdmitted)
