"""On each page the headline is the worst of what stands below it, and says what and since when."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from aiokafka import TopicPartition

from emis_streams import lag_rules
from emis_streams.broker_clock import BrokerClock
from emis_streams.engine.open_transactions import OpenTransaction
from emis_streams.health_report import NOT_KNOWN
from emis_streams.lag_report import DeadLetters, InvalidRecords, LagReport
from emis_streams.node import Node
from emis_streams.sync_latency import SyncLatency
from emis_streams.topics import APP_ID, REPLICA_GROUP
from tests.pages import ToldLag, a_history, a_node, a_report, serving
from tests.unit.test_health_checks import a_follower, an_ingest
from tests.unit.test_health_endpoints import Told
from web.health import health_report
from web.help_entries import entries
from web.i18n import LANGUAGES, Texts
from web.verdict import LOOKS_BY_WEIGHT

PAGES = ("/", "/health", "/consumer-lag")


def changed(report: LagReport, group_id: str, **changes: Any) -> LagReport:
    groups = tuple(
        msgspec.structs.replace(group, **changes) if group.group_id == group_id else group for group in report.groups
    )
    return msgspec.structs.replace(report, groups=groups)


def stalled_replica() -> LagReport:
    return changed(
        a_report(), REPLICA_GROUP, state="STALLED", severity="error", total_lag=111_245, reason_key="stalled",
        reason_params={"committed": 5, "seconds": 64.0, "lag": 111_245}, reason="in English",
        reason_partition="emis-teacher-service-classes-changelog-4", reason_owner="10.0.0.7:6066 /10.0.0.7",
    )  # fmt: skip


def of_others() -> LagReport:
    """Somebody's console consumer that was stopped a month ago."""
    report = stalled_replica()
    stopped = tuple(msgspec.structs.replace(p, state="STOPPED", severity="error") for p in report.groups[1].partitions)
    foreign = msgspec.structs.replace(
        report.groups[1], group_id="console-consumer-1", state="STOPPED", partitions=stopped
    )
    return msgspec.structs.replace(a_report(), groups=(*a_report().groups, foreign))


def over_its_limits(**changes: Any) -> LagReport:
    """More records wait, and for longer, than is allowed."""
    alerts = ("lag_over_threshold", "unsynced_over_threshold")
    found = a_report()
    partitions = tuple(
        msgspec.structs.replace(p, lag=5_000, alerts=alerts, **changes) for p in found.groups[0].partitions
    )
    over = {"total_lag": 450_000, "max_lag_seconds": 7_200.0, "alerts": alerts, "partitions": partitions, **changes}
    return changed(found, APP_ID, **over)


def of_others_over_its_limits() -> LagReport:
    over = msgspec.structs.replace(over_its_limits().groups[0], group_id="console-consumer-1")
    return msgspec.structs.replace(a_report(), groups=(*a_report().groups, over))


def held_changelogs() -> LagReport:
    by = OpenTransaction(TopicPartition("emis-teacher-service-classes-changelog", 3), 7, 12, 64.0)
    return msgspec.structs.replace(a_report(), open_transactions=(lag_rules.open_transaction(by),))


def just_started(report: LagReport) -> Node:
    node = serving_only(report)
    node.began = time.monotonic() - 20
    return node


def waiting_events() -> LagReport:
    return changed(a_report(), APP_ID, total_lag=26_409)


def unknown() -> LagReport:
    return changed(
        a_report(), APP_ID, state="UNKNOWN", severity="warn", reason_key="no_partitions", reason_params={}, reason="x"
    )


def serving_only(report: LagReport | None, **changes: Any) -> Node:
    node = a_node(
        None, ToldLag(report, a_history()), **{"read_model_follower": Told(a_follower("read-model")), **changes}
    )
    now = time.monotonic()
    node.clock.note(int(time.time() * 1000), now, now)
    return node


def with_unknown_clock(node: Node) -> Node:
    node.clock = BrokerClock()
    return node


def without_age(node: Node) -> Node:
    node.lag.age = None  # type: ignore[union-attr]
    return node


def dead_letters_unknown() -> LagReport:
    return msgspec.structs.replace(a_report(), dead_letters=DeadLetters(count=None, last_at=None))


def with_old_data(node: Node) -> Node:
    node.lag.age = 64.0  # type: ignore[union-attr]
    return node


def invalid() -> tuple[InvalidRecords, ...]:
    return (
        InvalidRecords(
            topic="emis-teacher-service-classes-changelog", partition=3, count=7, last_offset=9,
            last_reason="null", last_read_at=datetime.now(UTC),
        ),
    )  # fmt: skip


SCENARIOS: dict[str, Callable[[], Node]] = {
    "well": lambda: serving_only(a_report()),
    "stalled": lambda: serving_only(a_report(behind=True)),
    "stalled replica": lambda: serving_only(stalled_replica()),
    "not asked yet": lambda: serving_only(None),
    "brokers away": lambda: serving_only(a_report(error="certificate has expired")),
    "brokers away, and was behind": lambda: serving_only(a_report(behind=True, error="The brokers are away.")),
    "cannot answer": lambda: serving_only(
        a_report(error="The brokers are away."), read_model_follower=Told(a_follower("read-model", caught_up=False))
    ),
    "database away": lambda: serving_only(
        a_report(), replica_follower=Told(a_follower("replica", waiting_for="connection refused"))
    ),
    "local copy waits": lambda: serving_only(
        a_report(), read_model_follower=Told(a_follower("read-model", waiting_for="no broker answers"))
    ),
    "group of others": lambda: serving_only(of_others()),
    "nothing visible while events wait": lambda: serving_only(
        waiting_events(), sync_latency={"read-model": SyncLatency(0.0)}
    ),
    "idle": lambda: serving_only(a_report(), sync_latency={"read-model": SyncLatency(0.0)}),
    "cannot tell": lambda: serving_only(unknown()),
    "old data": lambda: with_old_data(serving_only(a_report())),
    "age unknown": lambda: without_age(serving_only(a_report())),
    "clock unknown": lambda: with_unknown_clock(serving_only(a_report())),
    "dead letters unknown": lambda: serving_only(dead_letters_unknown()),
    "nothing visible, and brokers away": lambda: serving_only(
        a_report(error="The brokers are away."), sync_latency={"read-model": SyncLatency(0.0)}
    ),
    "ingesting": lambda: serving_only(a_report(), ingest=Told(an_ingest(rebalancing=True))),
    "lost": lambda: serving_only(a_report(), ingest=Told(an_ingest(lost_to_retention={("emis.class.created", 3): 41}))),
    "changelogs": lambda: serving_only(a_report(), ingest=Told(an_ingest(invalid_records=invalid()))),
    "catches up, over its limits": lambda: serving_only(over_its_limits(state="CATCHING_UP")),
    "within what is allowed, over a limit": lambda: serving_only(over_its_limits(state="OK")),
    "catches up with what was before the start": lambda: just_started(over_its_limits(state="CATCHING_UP")),
    "group of others over its limits": lambda: serving_only(of_others_over_its_limits()),
    "changelogs held, and no copy here": lambda: serving_only(held_changelogs()),
    "standstill": lambda: serving_only(a_report(), standstill=lambda: "the event loop"),
}


async def seen(node: Node, path: str, language: str = "en") -> str:
    async with serving(node) as server, ClientSession() as session:
        headers = {"Accept": "text/html", "Accept-Language": language}
        async with session.get(server.make_url(path), headers=headers) as response:
            return await response.text()


def look_of_headline(page: str) -> str:
    found = re.search(r'<div class="notice (\w+)" id="verdict"', page)
    assert found is not None
    return found[1]


def headline_of(page: str) -> str:
    found = re.search(r'id="verdict".*?<strong>(.*?)</strong>', page, re.DOTALL)
    assert found is not None
    return found[1]


def looks_below(page: str) -> set[str]:
    """Of badges and figures; without the journal, which tells of what was."""
    below = re.sub(r'<section class="card" aria-labelledby="journal">.*?</section>', "", page, flags=re.DOTALL)
    looks = set(re.findall(r'class="(?:badge|figure) (ok|warn|bad)"', below))
    return looks | ({"warn"} if 'class="over"' in below else set())


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_headline_of_each_page_is_the_worst_of_what_stands_below_and_nothing_is_as_python_writes_it(
    name: str,
) -> None:
    async with serving(SCENARIOS[name]()) as server, ClientSession() as session:
        for path, language in product(PAGES, LANGUAGES):
            headers = {"Accept": "text/html", "Accept-Language": language}
            async with session.get(server.make_url(path), headers=headers) as response:
                page = await response.text()
            agrees(page, Texts(language))
            text = re.sub(r"<[^>]*>", " ", page)
            assert re.findall(r"None\b|True\b|&lt;\w+ |\(&#39;|\{&#39;|datetime\.|Error\(", text) == []


def agrees(page: str, t: Texts) -> None:
    headline = look_of_headline(page)
    worst = max(looks_below(page) | {"off"}, key=LOOKS_BY_WEIGHT.index)
    if worst in ("warn", "bad"):
        assert headline == worst
    elif headline not in ("ok", "off"):
        # On the lag page these have no line of their own.
        assert re.search("broker|changelog", headline_of(page).lower())
    assert (headline_of(page) == t("verdict.ok")) == (headline == "ok")


async def test_the_replica_has_stalled_and_ingestion_is_well() -> None:
    page = await seen(serving_only(stalled_replica()), "/consumer-lag")
    assert headline_of(page) == "Ingestion is well; Database replica: Stalled, 111,245 behind"
    page = await seen(serving_only(stalled_replica()), "/health")
    assert "Ingestion is well; Database replica: emis-teacher-service-classes-changelog-4" in headline_of(page)


@pytest.mark.parametrize("path", ["/consumer-lag", "/health"])
async def test_the_reason_of_a_group_names_partition_number_and_owner(path: str) -> None:
    page = await seen(serving_only(stalled_replica()), path)
    assert "emis-teacher-service-classes-changelog-4 (10.0.0.7:6066 /10.0.0.7): The committed offset has stayed" in page
    assert "111,245" in page


async def test_what_is_over_a_limit_is_not_called_well_and_says_what_to_do() -> None:
    for name, badge in (
        ("catches up, over its limits", "Catching up"),
        ("within what is allowed, over a limit", "Over"),
    ):
        page = await seen(SCENARIOS[name](), "/consumer-lag")
        assert look_of_headline(page) == "warn"
        assert "450,000" in headline_of(page)
        group = page[page.index('id="group-1"') :][:2000]
        assert 'class="badge warn"' in group
        assert badge in group
        assert "/help/consumer-lag-grows" in group


async def test_what_was_there_before_the_start_is_no_incident_on_any_page() -> None:
    for path in PAGES:
        page = await seen(SCENARIOS["catches up with what was before the start"](), path)
        assert look_of_headline(page) == "ok"
        assert 'class="over"' not in page


async def test_a_group_of_others_is_no_concern_of_ours() -> None:
    page = await seen(SCENARIOS["group of others over its limits"](), "/consumer-lag")
    assert look_of_headline(page) == "ok"
    assert 'class="over"' not in page
    assert "/help/" not in page


_NO_STATES = frozenset({"Events processed", "Uptime", "Memory", "CPU", "Version"})
"""Figures that are grey on every page."""


def places(page: str) -> Iterator[str]:
    """Each part of a page that shows one state: a figure, a check, a group, a partition, a copy of the changelogs."""
    for figure in re.findall(r'<div class="figure \w+">.*?</div>', page, re.DOTALL):
        if re.search(r"<dt>(.*?)</dt>", figure)[1] not in _NO_STATES:  # type: ignore[index]
            yield figure
    page = page[page.index("</dl>") if "</dl>" in page else 0 :].split('aria-labelledby="journal"')[0]
    yield from re.findall(r"<li><strong>.*?</li>", page, re.DOTALL)
    yield from re.split(r'<section class="card" |<tr role="row">|<div class="follower">|</tbody>', page)[1:]


def is_not_well(place: str) -> bool:
    """Groups of others are grey also while all is well."""
    grey_and_well = re.compile(r'class="badge off"><svg.*?</svg>OK<', re.DOTALL)
    return re.search(r'class="(?:badge|figure) (?:warn|bad|off)"', grey_and_well.sub("", place)) is not None


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_is_not_well_or_not_known_has_a_way_on_in_its_own_place(name: str) -> None:
    for path in ("/", "/health", "/consumer-lag?open=partitions-1,partitions-2,partitions-3"):
        page = await seen(SCENARIOS[name](), path)
        for place in places(page):
            assert 'href="/help/' in place or not is_not_well(place), place
        verdict = re.search(r'id="verdict".*?</div></div>', page, re.DOTALL)
        assert verdict is not None
        assert ('href="/help/' in verdict[0]) == (look_of_headline(page) != "ok")


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_is_not_well_or_not_known_says_since_when(name: str) -> None:
    for path in ("/", "/health"):
        node = SCENARIOS[name]()
        node.journal.note((await health_report(node)).checks, datetime.now(UTC) - timedelta(hours=2))
        for place in places(await seen(node, path)):
            assert "Since" in place or not is_not_well(place) or "<li>" not in place, place


async def test_json_says_what_to_do_about_what_is_not_well_or_not_known() -> None:
    for name, scenario in SCENARIOS.items():
        for check in (await health_report(scenario())).checks.values():
            is_well = check.status == "pass" and check.output_key not in NOT_KNOWN
            assert (check.links == {}) == is_well, name
            assert is_well or check.links["help"].removeprefix("/help/") in entries("en")


async def test_an_open_transaction_names_its_partition_once() -> None:
    by = OpenTransaction(TopicPartition("emis-teacher-service-classes-changelog", 3), 7, 12, 64.0)
    held = replace(a_follower("read-model"), open_transaction=by)
    page = await seen(serving_only(a_report(), read_model_follower=Told(held)), "/health")
    assert "changelog-3: An open transaction" in page
    assert "changelog-3: emis-" not in page


@pytest.mark.parametrize(("language", "named"), [("en", "Requests: Stalled, 5 behind"), ("vi", "Xử lý yêu cầu")])
async def test_the_own_group_of_a_service_that_answers_requests_is_its_concern(language: str, named: str) -> None:
    found = a_report()
    stalled = msgspec.structs.replace(
        found.groups[0], group_id="emis-lessons-service", state="STALLED", severity="error", total_lag=5
    )
    node = serving_only(msgspec.structs.replace(found, groups=(stalled,), followers=()))
    node.service = SimpleNamespace(name="lessons")  # type: ignore[assignment]
    page = await seen(node, "/consumer-lag", language)
    assert look_of_headline(page) == "bad"
    assert headline_of(page).startswith(named)


async def test_no_event_came_is_not_green_while_events_wait() -> None:
    for path in ("/health", "/"):
        page = await seen(SCENARIOS["nothing visible while events wait"](), path)
        assert "26,409" in page
        assert look_of_headline(page) == "off"
        assert "No new events" not in page


async def test_nobody_says_go_on_from_the_local_copy_beside_cannot_answer() -> None:
    page = await seen(SCENARIOS["cannot answer"](), "/health")
    assert look_of_headline(page) == "bad"
    assert "cannot answer" in page
    assert "local copy, which" not in page
    assert "local copy, which" in await seen(SCENARIOS["brokers away"](), "/health")


async def test_nothing_of_the_last_measurement_is_called_well_while_the_brokers_are_away() -> None:
    page = await seen(SCENARIOS["brokers away"](), "/consumer-lag")
    groups = page[page.index('id="group-1"') : page.index('id="followers"')]
    assert 'class="badge ok"' not in groups


@pytest.mark.parametrize("path", ["/", "/consumer-lag"])
async def test_figures_of_the_last_measurement_say_so(path: str) -> None:
    page = await seen(SCENARIOS["brokers away"](), path)
    assert page.count("when last measured") == 3  # Rate, events waiting, dead letters.
    assert "every event was valid" not in page


@pytest.mark.parametrize("path", ["/", "/consumer-lag", "/health"])
async def test_brokers_that_do_not_answer_are_told_of_in_the_language_of_the_page(path: str) -> None:
    report = msgspec.structs.replace(
        a_report(), error="In English.", error_key="no_broker", error_params={"brokers": "b:9092"}, severity="error"
    )
    page = await seen(serving_only(report), path, language="vi")
    assert "Không có broker nào phản hồi tại b:9092" in page
    assert "In English" not in page


@pytest.mark.parametrize("path", PAGES)
async def test_it_says_since_when(path: str) -> None:
    node = SCENARIOS["database away"]()
    began = datetime.now(UTC) - timedelta(hours=2)
    node.journal.note((await health_report(node)).checks, began)
    node.lag.report = a_report(behind=True) if path == "/consumer-lag" else node.lag.report  # type: ignore[union-attr]
    page = await seen(node, path)
    verdict = page[page.index('id="verdict"') :][:900]
    assert "Since" in verdict
    assert began.isoformat() in verdict
