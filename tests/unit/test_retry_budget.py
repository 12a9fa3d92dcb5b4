"""The retry budget: retries are a share of the calls, however many fail."""

from emis_streams.services.retry_budget import PER_SECOND, RATIO, SAVED_SECONDS, RetryBudget

SAVED = round(PER_SECOND * SAVED_SECONDS)


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def taken(budget: RetryBudget, most: int = 10_000) -> int:
    return next(n for n in range(most) if not budget.take())


def test_few_calls_may_all_be_retried() -> None:
    assert taken(RetryBudget(clock=Clock())) == SAVED


def test_then_a_fifth_of_the_calls() -> None:
    budget = RetryBudget(clock=Clock())
    taken(budget)
    for _ in range(100):
        budget.called()
    assert taken(budget) in (round(100 * RATIO) - 1, round(100 * RATIO))  # Sums of 0.2 are not exact.


def test_and_some_each_second_without_calls() -> None:
    clock = Clock()
    budget = RetryBudget(clock=clock)
    taken(budget)
    clock.now += 2
    assert taken(budget) == 2 * PER_SECOND


def test_what_is_saved_up_is_bounded() -> None:
    clock = Clock()
    budget = RetryBudget(clock=clock)
    clock.now += 3600
    for _ in range(10_000):
        budget.called()
    assert taken(budget) == SAVED


def test_it_counts_what_it_refused() -> None:
    budget = RetryBudget(clock=Clock())
    taken(budget)
    assert budget.refused == 1
