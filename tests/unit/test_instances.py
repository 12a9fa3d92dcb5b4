"""Which instances there are, as the registry and the brokers tell, and since when one is missing."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession

from emis_streams import instances
from emis_streams.instance_tracker import FORGET_AFTER, MOST_INSTANCES, Instance, InstanceTracker, Source
from emis_streams.lag_report import LagReport, Owner
from emis_streams.services.leases import Leases
from emis_streams.services.registry import Health, ServiceInfo
from emis_streams.settings import Settings
from tests.pages import ToldLag, a_node, a_report, serving
from tests.services import until
from web.health import keep_journal

NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)
ALL: set[Source] = {"self", "registry", "groups"}


def an_instance(name: str = "emis-1:6066", *sources: Source, **changes: object) -> Instance:
    fields: dict[str, object] = {"service": "teacher", "address": None, "sources": sources or ("groups",), **changes}
    return Instance(name=name, **fields)  # type: ignore[arg-type]


def later(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


@pytest.fixture
def tracker() -> InstanceTracker:
    return InstanceTracker()


def test_a_member_that_is_no_more_is_missing_since_it_was_last_seen(tracker: InstanceTracker) -> None:
    tracker.note(NOON, [an_instance()], [], ALL)
    tracker.note(later(1), [an_instance()], [], ALL)
    for minutes in (2, 3):
        tracker.note(later(minutes), [], [], ALL)
        [gone] = tracker.all()
        assert gone.missing_since == later(1)


def test_one_that_comes_back_is_not_missing(tracker: InstanceTracker) -> None:
    for minutes, there in enumerate(([an_instance()], [], [an_instance()])):
        tracker.note(later(minutes), there, [], ALL)
    assert [one.missing_since for one in tracker.all()] == [None]


def test_nobody_is_missing_because_the_brokers_do_not_tell(tracker: InstanceTracker) -> None:
    tracker.note(NOON, [an_instance()], [], ALL)
    tracker.note(later(1), [], [], {"self"})
    assert [one.missing_since for one in tracker.all()] == [None]


@pytest.mark.parametrize("sources", [("registry",), ("registry", "groups")])
def test_who_leaves_the_registry_is_not_missing(tracker: InstanceTracker, sources: tuple[Source, ...]) -> None:
    tracker.note(NOON, [an_instance("a:1", *sources)], [], ALL)
    tracker.note(later(1), [], [], ALL)
    assert tracker.all() == []


def test_whose_lease_has_run_out_is_missing_since_its_last_heartbeat(tracker: InstanceTracker) -> None:
    tracker.note(NOON, [an_instance("a:1", "registry")], [], ALL)
    lapsed = an_instance("a:1", "registry", missing_since=later(0.5))
    tracker.note(later(1), [], [lapsed], ALL)
    assert [one.missing_since for one in tracker.all()] == [later(0.5)]


def test_missing_ones_come_first_and_are_forgotten_after_a_day(tracker: InstanceTracker) -> None:
    here, gone = an_instance("a:1", "self"), an_instance("b:1")
    tracker.note(NOON, [here, gone], [], ALL)
    tracker.note(later(1), [here], [], ALL)
    assert [one.name for one in tracker.all()] == ["b:1", "a:1"]
    tracker.note(NOON + FORGET_AFTER, [here], [], ALL)
    assert [one.name for one in tracker.all()] == ["a:1"]


def test_names_that_somebody_makes_up_do_not_fill_the_memory(tracker: InstanceTracker) -> None:
    for n in range(3):
        tracker.note(later(n), [an_instance(f"{n}-{m}:1") for m in range(MOST_INSTANCES)], [], ALL)
    found = tracker.all()
    assert len(found) == MOST_INSTANCES
    assert {one.name.split("-")[0] for one in found} == {"2"}


def test_what_all_sources_tell_of_one_name_is_one_instance() -> None:
    [one] = instances.merged(
        [
            an_instance("a:1", "self", address="a:1"),
            an_instance("a:1", "registry", health="degraded", version="1"),
            an_instance("a:1", "groups", groups=("ingest",), partitions=4),
            an_instance("a:1", "groups", groups=("replica",), partitions=2),
        ]
    )
    assert (one.sources, one.groups, one.partitions) == (("self", "registry", "groups"), ("ingest", "replica"), 6)
    assert (one.health, one.version, one.address) == ("degraded", "1", "a:1")


def test_leases_tell_who_went_without_leaving() -> None:
    leases = Leases(lease_seconds=10.0)
    infos = [ServiceInfo(name="lessons", version="1", host="a", port=port, started_at=NOON) for port in (1, 2, 3)]
    leases.start_timing(0.0)
    for info in infos:
        leases.apply(info.instance.encode(), msgspec.json.encode(info), 0, 0.0)
    leases.apply(infos[1].instance.encode(), None, 0, 1.0)
    for at in (4.0, 8.0, 12.0):
        leases.apply(infos[0].instance.encode(), msgspec.json.encode(infos[0]), 0, at)
    assert [(info.port, seconds) for info, seconds in leases.lapsed()] == [(3, 12.0)]
    assert [info.port for info in leases.holding()] == [1]


def test_leases_tell_since_when_an_instance_is_not_healthy() -> None:
    leases = Leases(lease_seconds=10.0)
    leases.start_timing(0.0)
    info = ServiceInfo(name="lessons", version="1", host="a", port=1, started_at=NOON)
    told = [Health.HEALTHY, Health.DEGRADED, Health.DEGRADED, Health.UNHEALTHY, Health.UNHEALTHY, Health.HEALTHY]
    found = []
    for at, health in enumerate(told):
        record = msgspec.json.encode(msgspec.structs.replace(info, health=health))
        leases.apply(info.instance.encode(), record, 0, float(at))
        found.append(leases.unwell_seconds().get(info.instance))
    assert found == [None, 0.0, 1.0, 0.0, 1.0, None]
    leases.apply(info.instance.encode(), None, 0, 7.0)
    assert leases.unwell_seconds() == {}


def test_leases_tell_since_when_an_instance_shuts_down() -> None:
    leases = Leases(lease_seconds=10.0)
    leases.start_timing(0.0)
    info = ServiceInfo(name="lessons", version="1", host="a", port=1, started_at=NOON)
    for at, is_draining in ((0.0, False), (1.0, True), (3.0, True)):
        record = msgspec.json.encode(msgspec.structs.replace(info, is_draining=is_draining))
        leases.apply(info.instance.encode(), record, 0, at)
    assert leases.unwell_seconds() == {info.instance: 2.0}


def a_report_of(*names: str) -> LagReport:
    """A report in which these are members of the ingesting group, the first with all partitions."""
    report = a_report()
    clients = tuple(Owner(member_id=f"m-{name}", client_id=name, host="10.0.0.1") for name in names)
    ingest = report.groups[0]
    partitions = tuple(msgspec.structs.replace(p, owner=clients[0] if clients else None) for p in ingest.partitions)
    group = msgspec.structs.replace(ingest, clients=clients, partitions=partitions)
    return msgspec.structs.replace(report, groups=(group, *report.groups[1:]))


async def test_the_page_shows_who_is_there_and_who_is_missing(tmp_path: Path) -> None:
    lag = ToldLag(a_report_of("emis-1:6066", "emis-2:6066"))
    node = a_node(None, lag, settings=Settings(data_dir=str(tmp_path), port=6070))  # type: ignore[arg-type]
    html = {"Accept": "text/html", "Accept-Language": "en"}
    async with serving(node) as server, ClientSession(server.make_url("/")) as http:
        async with http.get("api/instances") as response:
            told = await response.json()
        assert {one["name"]: one["partitions"] for one in told["instances"]} == {
            "127.0.0.1:6070": 0, "emis-1:6066": 80, "emis-2:6066": 0,
        }  # fmt: skip
        lag.report = a_report_of("emis-1:6066")
        async with http.get("instances", headers=html) as response:
            page = await response.text()
        assert 'href="http://emis-1:6066/"' in page
        assert "emis-2:6066" in page
        assert page.count("Missing") >= 1
        lag.report = a_report(error="refused")
        async with http.get("api/instances") as response:
            told = await response.json()
        missing = {one["name"] for one in told["instances"] if one["missingSince"] is not None}
        assert missing == {"emis-2:6066"}


async def page_of_instances(http: ClientSession) -> str:
    async with http.get("instances", headers={"Accept": "text/html", "Accept-Language": "en"}) as response:
        return await response.text()


async def test_nobody_is_called_well_by_brokers_that_do_not_answer(tmp_path: Path) -> None:
    lag = ToldLag(a_report_of("emis-1:6066"))
    node = a_node(None, lag, settings=Settings(data_dir=str(tmp_path), port=6070))
    async with serving(node) as server, ClientSession(server.make_url("/")) as http:
        assert "All is well" in await page_of_instances(http)
        lag.report = a_report(error="refused")
        page = await page_of_instances(http)
        assert "All is well" not in page
        assert "Not known now: teacher emis-1:6066" in page
        assert 'href="/help/kafka-is-away"' in page


async def test_the_own_health_is_shown_without_a_registry_too(tmp_path: Path) -> None:
    node = a_node(None, ToldLag(a_report(behind=True)), settings=Settings(data_dir=str(tmp_path)))
    watching = asyncio.create_task(keep_journal(node))
    try:
        await until(lambda: node.health is not None)
        async with serving(node) as server, ClientSession(server.make_url("/")) as http:
            page = await page_of_instances(http)
            assert "Degraded" in page
            assert "All is well" not in page
            async with http.get("api/instances") as response:
                (own,) = [one for one in (await response.json())["instances"] if "self" in one["sources"]]
        assert own["health"] == "degraded"
        assert own["healthSince"] is not None
    finally:
        watching.cancel()
