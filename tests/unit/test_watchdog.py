"""When the watchdog ends a worker: no progress that is not deliberate, and only then."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from emis_streams.engine.options import Options
from emis_streams.engine.watchdog import Watchdog

LIMIT_SECONDS = 60.0
NOW = 10_000.0
LONG_AGO = NOW - LIMIT_SECONDS - 1
JUST_NOW = NOW - 1


@dataclass
class Worker:
    """As much of a worker as the watchdog looks at."""

    engine_options: Options = field(default_factory=lambda: Options(watchdog_timeout_seconds=LIMIT_SECONDS))
    ingests: bool = True
    rebalancing: bool = False
    follower: Any = None
    brokers_missing: str | None = None
    slices: list[Any] = field(default_factory=list)
    unfetched_since: float | None = None
    has_coordinator: bool = True
    coordinator_lost_at: float = 0.0
    last_heartbeat: float = JUST_NOW
    brokers_answer_since: float | None = LONG_AGO
    ingests: bool = True
    writer_waits_for: str | None = None
    waits: list[Any] = field(default_factory=list)
    standstills: list[Any] = field(default_factory=list)

    @property
    def tables(self) -> Any:
        recovery = SimpleNamespace(
            follower=self.follower,
            waiting=SimpleNamespace(reason=self.brokers_missing),
            brokers_answer_since=self.brokers_answer_since,
        )
        writer = SimpleNamespace(waits_for=lambda _within_seconds: self.writer_waits_for)
        return SimpleNamespace(recovery=recovery, writer=writer)

    @property
    def slice_consumer(self) -> Any:
        standing = None if self.unfetched_since is None else ("events-0", self.unfetched_since)
        membership = SimpleNamespace(
            has_coordinator=self.has_coordinator,
            coordinator_lost_at=self.coordinator_lost_at,
            last_heartbeat=self.last_heartbeat,
            seconds_since_heartbeat=lambda: NOW - self.last_heartbeat,
        )
        return SimpleNamespace(
            slices_under_way=lambda: self.slices, unfetched_since=lambda: standing, membership=membership
        )


def watchdog_of(worker: Worker, loop_seen: float = JUST_NOW, rebalancing_since: float | None = None) -> Watchdog:
    dog = Watchdog(worker)
    dog._loop_seen = loop_seen
    dog._rebalancing_since = rebalancing_since
    return dog


def a_follower(last_progress: float, waiting_for: str | None = None) -> Any:
    return SimpleNamespace(last_progress=last_progress, waiting_for=waiting_for)


@dataclass
class ASlice:
    begun: bool = False
    delivered_at: float = LONG_AGO
    progressed_at: float = LONG_AGO

    def __repr__(self) -> str:
        return "<slice>"


def test_an_idle_worker_is_not_stuck() -> None:
    assert watchdog_of(Worker())._stuck(NOW, LIMIT_SECONDS) is None


def test_an_event_loop_that_stands_still() -> None:
    assert (
        watchdog_of(Worker(), loop_seen=LONG_AGO)._stuck(NOW, LIMIT_SECONDS)
        == "the event loop has stood still for 60 s"
    )


def test_a_loop_that_was_seen_within_the_limit_is_well() -> None:
    assert watchdog_of(Worker(), loop_seen=NOW - LIMIT_SECONDS + 1)._stuck(NOW, LIMIT_SECONDS) is None


# -- rebalances and catching up -----------------------------------------------------------------


def test_a_rebalance_counts_from_when_it_was_first_seen() -> None:
    dog = watchdog_of(Worker(rebalancing=True))
    assert dog._stuck(NOW, LIMIT_SECONDS) is None
    dog._loop_seen = NOW + LIMIT_SECONDS
    assert dog._stuck(NOW + LIMIT_SECONDS, LIMIT_SECONDS) is None
    assert dog._stuck(NOW + LIMIT_SECONDS + 1, LIMIT_SECONDS) == "a rebalance has made no progress for 61 s"


def test_a_rebalance_that_ended_in_between_counts_anew() -> None:
    worker = Worker(rebalancing=True)
    dog = watchdog_of(worker, rebalancing_since=LONG_AGO)
    worker.rebalancing = False
    assert dog._stuck(NOW, LIMIT_SECONDS) is None
    worker.rebalancing = True
    assert dog._stuck(NOW, LIMIT_SECONDS) is None


@pytest.mark.parametrize(
    ("follower", "stuck"),
    [
        (a_follower(last_progress=JUST_NOW), False),
        (a_follower(last_progress=LONG_AGO), True),
        (a_follower(last_progress=LONG_AGO, waiting_for="brokers"), False),
    ],
    ids=["gets on", "stands still", "waits and says so"],
)
def test_catching_up_is_stuck_when_the_follower_stands_still_without_a_reason(follower: Any, stuck: bool) -> None:
    dog = watchdog_of(Worker(rebalancing=True, follower=follower), rebalancing_since=LONG_AGO)
    assert (dog._stuck(NOW, LIMIT_SECONDS) is not None) is stuck


def test_catching_up_that_has_just_begun_is_not_measured_by_the_progress_before_it() -> None:
    worker = Worker(rebalancing=True, follower=a_follower(last_progress=LONG_AGO))
    assert watchdog_of(worker, rebalancing_since=JUST_NOW)._stuck(NOW, LIMIT_SECONDS) is None


def test_brokers_that_cannot_be_reached_are_waited_for() -> None:
    worker = Worker(rebalancing=True, brokers_missing="no broker answers")
    assert watchdog_of(worker, rebalancing_since=LONG_AGO)._stuck(NOW, LIMIT_SECONDS) is None


def test_a_group_without_a_coordinator_is_waited_for_and_counts_anew_when_it_has_one() -> None:
    worker = Worker(rebalancing=True, has_coordinator=False)
    dog = watchdog_of(worker, rebalancing_since=LONG_AGO)
    assert dog._stuck(NOW, LIMIT_SECONDS) is None
    worker.has_coordinator = True
    assert dog._stuck(NOW, LIMIT_SECONDS) is None


def test_a_coordinator_that_was_lost_between_two_looks_counts_as_well() -> None:
    worker = Worker(rebalancing=True, coordinator_lost_at=JUST_NOW)
    assert watchdog_of(worker, rebalancing_since=LONG_AGO)._stuck(NOW, LIMIT_SECONDS) is None


def test_a_group_that_is_silent_while_the_brokers_answer() -> None:
    stuck = watchdog_of(Worker(last_heartbeat=LONG_AGO))._stuck(NOW, LIMIT_SECONDS)
    assert stuck == "the brokers answer, but no heartbeat was answered for 61 s"


@pytest.mark.parametrize("since", [None, JUST_NOW])
def test_a_group_that_is_silent_as_the_brokers_are_is_waited_for(since: float | None) -> None:
    assert watchdog_of(Worker(last_heartbeat=LONG_AGO, brokers_answer_since=since))._stuck(NOW, LIMIT_SECONDS) is None


def test_a_process_that_was_never_a_member_waits_for_its_group() -> None:
    assert watchdog_of(Worker(last_heartbeat=0))._stuck(NOW, LIMIT_SECONDS) is None


# -- slices -------------------------------------------------------------------------------------


def test_a_slice_that_no_agent_begins_while_others_get_on() -> None:
    worker = Worker(slices=[ASlice(delivered_at=JUST_NOW), ASlice(), ASlice(begun=True)])
    stuck = watchdog_of(worker)._stuck(NOW, LIMIT_SECONDS)
    assert stuck == "no agent has called done_when for <slice> within 61 s"


def test_a_slice_that_was_begun_and_of_which_nothing_is_acknowledged() -> None:
    stuck = watchdog_of(Worker(slices=[ASlice(begun=True)]))._stuck(NOW, LIMIT_SECONDS)
    assert stuck == "<slice> was begun, and nothing of it was acknowledged for 61 s"


def test_a_slice_of_which_something_was_acknowledged_lately_goes_on_and_those_behind_it_wait() -> None:
    first = ASlice(begun=True, delivered_at=LONG_AGO - 60, progressed_at=JUST_NOW)
    assert (
        watchdog_of(Worker(slices=[first, ASlice(begun=True), ASlice(begun=True)]))._stuck(NOW, LIMIT_SECONDS) is None
    )


@pytest.mark.parametrize(
    "worker",
    [
        Worker(brokers_answer_since=None),
        Worker(writer_waits_for="the brokers do not take records of x-1; they are sent again"),
        Worker(waits=[lambda: None, lambda: "no database"]),
    ],
    ids=["brokers away", "brokers refuse", "the application says so"],
)
@pytest.mark.parametrize("begun", [True, False])
def test_slices_that_wait_on_purpose(worker: Worker, begun: bool) -> None:
    worker.slices = [ASlice(begun=begun)]
    assert watchdog_of(worker)._stuck(NOW, LIMIT_SECONDS) is None


def test_slices_during_a_rebalance_are_judged_by_the_rebalance() -> None:
    worker = Worker(slices=[ASlice()], rebalancing=True)
    assert watchdog_of(worker, rebalancing_since=JUST_NOW)._stuck(NOW, LIMIT_SECONDS) is None


# -- fetching -----------------------------------------------------------------------------------


def test_a_partition_with_records_that_are_not_fetched() -> None:
    stuck = watchdog_of(Worker(unfetched_since=LONG_AGO))._stuck(NOW, LIMIT_SECONDS)
    assert stuck == "events-0 has records to fetch and stands still for 61 s"


def test_a_partition_that_was_fetched_within_the_limit_is_well() -> None:
    assert watchdog_of(Worker(unfetched_since=JUST_NOW))._stuck(NOW, LIMIT_SECONDS) is None


# -- clients and parts of the application ---------------------------------------------------------


def test_a_client_whose_task_has_ended_is_not_one_that_is_just_being_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str | None] = ["the sender task of a Kafka producer has ended: KeyError()"]
    monkeypatch.setattr("emis_streams.engine.watchdog.ended_task", lambda: ended[0])
    dog = watchdog_of(Worker())
    assert dog._stuck(NOW, LIMIT_SECONDS) is None
    assert dog._stuck(NOW + 1, LIMIT_SECONDS) == ended[0]
    ended[0] = None
    assert dog._stuck(NOW + 2, LIMIT_SECONDS) is None


def test_a_part_that_says_that_it_stands_still() -> None:
    def outbox(now: float, limit_seconds: float) -> str | None:
        return "the outbox" if now - LONG_AGO > limit_seconds else None

    dog = watchdog_of(Worker(ingests=False, standstills=[lambda _now, _limit: None, outbox]))
    assert dog._stuck(NOW, LIMIT_SECONDS) == "the outbox"
    assert dog._stuck(NOW - 2, LIMIT_SECONDS) is None


def test_probes_are_told_after_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: NOW)
    asked: list[float] = []
    dog = watchdog_of(Worker(standstills=[lambda _now, limit: asked.append(limit)]))
    assert dog.standstill() is None
    assert asked == [LIMIT_SECONDS / 2]


def test_a_process_that_is_no_member_of_a_group_is_asked_nothing_of_one() -> None:
    worker = Worker(ingests=False, slices=[ASlice()], rebalancing=True, unfetched_since=LONG_AGO)
    assert watchdog_of(worker, rebalancing_since=LONG_AGO)._stuck(NOW, LIMIT_SECONDS) is None
