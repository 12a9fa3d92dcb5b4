"""The rules of health: what makes a worker healthy, degraded or unhealthy."""

import inspect
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from emis_streams.engine.open_transactions import OpenTransaction
from emis_streams.health_report import Check
from emis_streams.lag_report import DeadLetters, LagReport, LatencySummary
from emis_streams.node import FollowerStatus, IngestStatus
from emis_streams.resources import Usage
from emis_streams.settings import Settings
from tests.pages import a_report
from web import health_checks
from web.health_checks import View, checks, health
from web.health_texts import OUTPUTS

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
GIB = 2**30


def an_ingest(**changes: Any) -> IngestStatus:
    base = IngestStatus(
        assigned=frozenset({("emis.class.created", n) for n in range(10)}),
        caught_up=True,
        rebalancing=False,
        waits_for=None,
        events_total=0,
        superseded_total=0,
        clock_skew_total=0,
        refused_total=0,
        misplaced_total=0,
        unknown_fields_total=0,
        set_by_others_total=0,
        lost_to_retention={},
    )
    return replace(base, **changes)


def a_follower(name: str, *, caught_up: bool = True, waiting_for: str | None = None) -> FollowerStatus:
    return FollowerStatus(name, caught_up, {}, 1_000, waiting_for)


def a_view(**changes: Any) -> View:
    """A worker of all roles, everything well."""
    base = View(
        now=NOW,
        settings=Settings(),
        report=a_report(),
        ingest=an_ingest(),
        read_model=a_follower("read-model"),
        replica=a_follower("replica"),
        has_reader=True,
        latencies={},
        usage=Usage(GIB // 4, GIB, 3.0),
    )
    return replace(base, **changes)


def changed(report: LagReport, **changes: Any) -> LagReport:
    return msgspec.structs.replace(report, **changes)


def one(name: str, **changes: Any) -> Check:
    return checks(a_view(**changes))[name]


def overall(**changes: Any) -> str:
    return health(checks(a_view(**changes)))


def test_all_well_is_healthy_and_every_part_is_named() -> None:
    found = checks(a_view())
    assert {c.status for c in found.values()} == {"pass"}
    assert {"brokers", "tables", "readModel", "replica", "deadLetters", "consumerLag", "memory"} <= found.keys()
    assert health(found) == "healthy"


def test_nothing_that_passes_names_affected_endpoints() -> None:
    assert all(c.affected_endpoints == () for c in checks(a_view()).values())


def test_a_first_catch_up_without_a_stand_in_is_unhealthy() -> None:
    behind = a_follower("read-model", caught_up=False)
    assert overall(read_model=behind, has_reader=False) == "unhealthy"
    assert overall(read_model=behind, has_reader=True) == "degraded"


def test_brokers_away_degrade_because_pages_go_on() -> None:
    check = one("brokers", report=a_report(error="no broker answers at b:9092"))
    assert check.status == "fail"
    assert "b:9092" in check.output
    assert "/teachers/{teacherId}" in check.affected_endpoints
    assert overall(report=a_report(error="gone")) == "degraded"


def test_before_the_first_measurement_it_is_degraded_not_unhealthy() -> None:
    assert overall(report=None) == "degraded"


def test_missing_topics_are_named() -> None:
    report = a_report()
    assert report.brokers is not None
    brokers = msgspec.structs.replace(report.brokers, missing_topics=("emis.class.created",))
    check = one("brokers", report=changed(report, brokers=brokers))
    assert check.status == "fail"
    assert "emis.class.created" in check.output


@pytest.mark.parametrize(
    ("status", "key"),
    [
        (an_ingest(rebalancing=True), "tables.rebalancing"),
        (an_ingest(caught_up=False), "tables.catching_up"),
        (an_ingest(caught_up=False, waits_for="an open transaction"), "tables.waiting"),
        (an_ingest(lost_to_retention={("emis.class.created", 3): 41}), "tables.lost"),
    ],
)
def test_tables_tell_what_keeps_them(status: IngestStatus, key: str) -> None:
    check = one("tables", ingest=status)
    assert check.output_key == key
    assert overall(ingest=status) == "degraded"


@pytest.mark.parametrize(("name", "part"), [("readModel", "read_model"), ("replica", "replica")])
def test_a_copy_that_an_open_transaction_holds_says_where(name: str, part: str) -> None:
    held = OpenTransaction(TopicPartition("classes-changelog", 3), 7, 12, 64.0)
    copy = replace(a_follower(part), open_transaction=held)
    check = one(name, **{part: copy})
    assert check.status == "warn"
    assert check.output.startswith(
        "classes-changelog-3: An open transaction has held the last stable offset at 7 (high"
    )


def test_a_serving_worker_tells_of_the_workers_that_ingest() -> None:
    assert one("tables", ingest=None).output_key == "tables.elsewhere"
    report = a_report()
    nobody = tuple(msgspec.structs.replace(g, members=0) for g in report.groups)
    assert one("tables", ingest=None, report=changed(report, groups=nobody)).status == "fail"


def test_a_database_that_is_away_degrades() -> None:
    away = a_follower("replica", waiting_for="connection refused")
    assert one("replica", replica=away).status == "fail"
    assert overall(replica=away) == "degraded"


@pytest.mark.parametrize(("minutes", "status"), [(5, "warn"), (90, "pass")])
def test_dead_letters_warn_while_they_are_recent(minutes: int, status: str) -> None:
    letters = DeadLetters(count=3, last_at=NOW - timedelta(minutes=minutes))
    check = one("deadLetters", report=changed(a_report(), dead_letters=letters))
    assert (check.status, check.observed_value) == (status, 3)


def test_a_stalled_group_says_its_reason_in_words() -> None:
    check = one("consumerLag", report=a_report(behind=True))
    assert check.status == "fail"
    assert "120003" in check.output
    assert check.output_key == "reason.stalled"


def test_latency_over_the_threshold_warns() -> None:
    slow = LatencySummary(
        count=5, average_seconds=9.0, p50_seconds=9.0, p99_seconds=9.0, max_seconds=9.0, window_seconds=60.0,
        backlog_count=0, alerts=("sync_latency_over_threshold",),
    )  # fmt: skip
    assert one("syncLatency", latencies={"read-model": slow}).status == "warn"


def test_memory_near_the_limit_warns() -> None:
    assert one("memory", usage=Usage(95, 100, 0.0)).status == "warn"


def test_every_text_is_used_and_every_text_used_is_there() -> None:
    used = set(re.findall(r'"([a-z_]+\.[a-z_]+)"', inspect.getsource(health_checks)))
    assert used == {key for key in OUTPUTS if not key.startswith(("reason.", "journal."))}


@pytest.mark.parametrize(
    ("skew", "status", "said"),
    [
        (None, "pass", "not compared with that of the brokers yet"),
        (0.2, "pass", "is correct"),
        (12.0, "warn", "12.0 s ahead"),
        (-700.0, "warn", "700.0 s behind"),
        (8 * 86_400.0, "warn", "691200.0 s ahead"),
    ],
)
def test_a_wrong_clock_of_a_worker_is_degraded(skew: float | None, status: str, said: str) -> None:
    found = health_checks.clock(a_view(skew_seconds=skew))
    assert found.status == status
    assert said in found.output


@pytest.mark.parametrize("skew", [-8 * 86_400.0, 0.0, 8 * 86_400.0])
def test_recent_dead_letters_are_recent_whatever_the_workers_clock_shows(skew: float) -> None:
    report = msgspec.structs.replace(a_report(), dead_letters=DeadLetters(count=3, last_at=NOW - timedelta(minutes=5)))
    view = a_view(report=report, now=NOW + timedelta(seconds=skew), skew_seconds=skew)
    assert checks(view)["deadLetters"].status == "warn"


# -- a process that has just started ------------------------------------------------------------


def a_backlog(**changes: Any) -> LagReport:
    """50,000 records wait, the oldest for 400 s, and become fewer."""
    group = {
        "state": "CATCHING_UP",
        "severity": "ok",
        "reason_key": "shrinking",
        "reason_params": {"lag": 50_000, "rate": 8_000.0},
        "alerts": ("lag_over_threshold",),
        "total_lag": 50_000,
        "max_lag_seconds": 400.0,
    }
    report = a_report()
    groups = tuple(msgspec.structs.replace(g, **{**group, **changes}) for g in report.groups)
    followers = tuple(msgspec.structs.replace(f, delay_seconds=400.0) for f in report.followers)
    return changed(report, groups=groups, followers=followers)


def test_catching_up_with_what_was_there_before_the_start_is_no_incident() -> None:
    assert overall(report=a_backlog(), uptime_seconds=20.0) == "healthy"
    assert one("consumerLag", report=a_backlog(), uptime_seconds=20.0).output_key == "lag.from_before"


@pytest.mark.parametrize("uptime_seconds", [301.0, 3_600.0])
def test_catching_up_for_too_long_is_a_delay(uptime_seconds: float) -> None:
    found = checks(a_view(report=a_backlog(max_lag_seconds=9_000.0), uptime_seconds=uptime_seconds))
    assert {name for name, check in found.items() if check.status != "pass"} == {"consumerLag", "readModel", "replica"}


def test_what_came_after_the_start_and_waits_is_a_delay() -> None:
    assert one("consumerLag", report=a_backlog(max_lag_seconds=19.0), uptime_seconds=20.0).status == "warn"


@pytest.mark.parametrize(
    ("state", "severity", "reason_key"),
    [
        ("STALLED", "error", "stalled"),
        ("STOPPED", "error", "stopped"),
        ("LOST", "error", "lost"),
        ("BEHIND", "warn", "growing"),
        ("BEHIND", "warn", "steady"),
        ("OPEN_TRANSACTION", "error", "open_transaction"),
    ],
)
def test_a_standstill_is_seen_from_the_first_second(state: str, severity: str, reason_key: str) -> None:
    params = {"committed": 1, "seconds": 11.0, "lag": 5, "grown": 5, "window": 10.0, "lost": 5, "stable": 4, "end": 6}
    stuck = a_backlog(state=state, severity=severity, reason_key=reason_key, reason_params=params)
    assert one("consumerLag", report=stuck, uptime_seconds=20.0).status in ("warn", "fail")


def test_a_trend_that_is_not_known_yet_is_no_incident_only_for_a_backlog() -> None:
    unknown = {"state": "BEHIND", "severity": "warn", "reason_key": "trend_unknown", "reason_params": {"lag": 5}}
    assert one("consumerLag", report=a_backlog(**unknown), uptime_seconds=3.0).status == "pass"
    assert one("consumerLag", report=a_backlog(**unknown, max_lag_seconds=2.0), uptime_seconds=3.0).status == "warn"
    assert one("consumerLag", report=a_backlog(**unknown, max_lag_seconds=None), uptime_seconds=3.0).status == "warn"


@pytest.mark.parametrize(("uptime_seconds", "status"), [(20.0, "pass"), (301.0, "warn")])
def test_stores_that_were_never_level_are_an_incident_after_some_minutes(uptime_seconds: float, status: str) -> None:
    changes: dict[str, Any] = {
        "ingest": an_ingest(caught_up=False, rebalancing=True),
        "read_model": a_follower("read-model", caught_up=False),
        "replica": a_follower("replica", caught_up=False),
        "uptime_seconds": uptime_seconds,
    }
    found = checks(a_view(**changes))
    assert {found[name].status for name in ("tables", "readModel", "replica")} == {status}


@pytest.mark.parametrize(("name", "part"), [("readModel", "read_model"), ("replica", "replica")])
@pytest.mark.parametrize(("idle_seconds", "status"), [(9.0, "pass"), (11.0, "warn")])
@pytest.mark.parametrize("caught_up", [False, True])
def test_a_copy_that_stands_still_does_not_pass_as_one_that_catches_up(
    name: str, part: str, idle_seconds: float, status: str, caught_up: bool
) -> None:
    copy = replace(
        a_follower(name if part == "replica" else "read-model", caught_up=caught_up), idle_seconds=idle_seconds
    )
    found = one(name, **{part: copy}, report=a_backlog(), uptime_seconds=20.0)
    assert found.status == status
    assert ("11 s" in found.output) == (status == "warn" and not caught_up)


def test_a_copy_that_waits_says_for_what_before_it_was_ever_level() -> None:
    waiting = a_follower("read-model", caught_up=False, waiting_for="no broker answers")
    check = one("readModel", read_model=waiting, uptime_seconds=1.0)
    assert (check.status, check.output) == ("warn", "Waiting: no broker answers")
    assert one("readModel", read_model=waiting, has_reader=False, uptime_seconds=1.0).status == "fail"


def test_what_waits_for_somebody_else_is_told_from_the_first_second() -> None:
    waiting = an_ingest(caught_up=False, waits_for="no right to describe the group")
    assert one("tables", ingest=waiting, uptime_seconds=1.0).status == "warn"
    follower = a_follower("replica", caught_up=False, waiting_for="connection refused")
    assert one("replica", replica=follower, uptime_seconds=1.0).status == "fail"
    alone = {"read_model": a_follower("read-model", caught_up=False), "has_reader": False}
    assert one("readModel", **alone, uptime_seconds=1.0).status == "fail"
