"""The probes, health, lag and metrics over HTTP; errors as problem+json."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse, ClientSession, web
from aiokafka import TopicPartition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from emis_streams.engine.open_transactions import OpenTransaction
from emis_streams.health_journal import HealthJournal
from emis_streams.node import NODE, FollowerStatus, IngestStatus, Node
from tests.pages import ToldLag, a_history, a_node, a_report, serving
from tests.services import until
from tests.unit.test_health_checks import a_follower, an_ingest, one
from web import problems
from web.health import as_told_to_others, keep_journal


@dataclass
class Told:
    """A part that says what it was told."""

    found: Any

    def status(self) -> Any:
        return self.found


def node(
    roles: str = "serve",
    read_model: FollowerStatus | None = None,
    ingest: IngestStatus | None = None,
    lag: ToldLag | None = None,
) -> Node:
    return a_node(
        None,
        lag,
        roles=frozenset(roles.split(",")),
        read_model_follower=Told(read_model or a_follower("read-model")),
        ingest=Told(ingest) if ingest is not None else None,
    )


@asynccontextmanager
async def asking(of: Node, path: str, method: str = "GET", **headers: str) -> AsyncIterator[ClientResponse]:
    async with (
        serving(of) as server,
        ClientSession() as session,
        session.request(method, server.make_url(path), headers=headers) as response,
    ):
        yield response


async def test_livez_asks_nothing_of_others() -> None:
    async with asking(a_node(None, None), "/livez") as response:
        assert response.status == 200
        assert (await response.json())["status"] == "alive"


@pytest.mark.parametrize("path", ["/readyz", "/startupz"])
async def test_ready_waits_for_the_read_model(path: str) -> None:
    async with asking(node(read_model=a_follower("read-model", caught_up=False)), path) as response:
        assert response.status == 503
        assert "read model" in (await response.json())["reasons"][0]
    async with asking(node(), path) as response:
        assert response.status == 200


async def test_ready_waits_for_the_tables_and_stays_calm_in_a_rebalance() -> None:
    async with asking(node("ingest", ingest=an_ingest(caught_up=False)), "/readyz") as response:
        assert response.status == 503
    missing = an_ingest(caught_up=False, waits_for="kept-changelog is missing")
    async with asking(node("ingest", ingest=missing), "/readyz") as response:
        assert "kept-changelog is missing" in (await response.json())["reasons"][0]
    async with asking(node("ingest", ingest=an_ingest(waits_for="kept-changelog is missing")), "/readyz") as response:
        assert response.status == 200
        assert (await response.json())["warnings"] == ["kept-changelog is missing"]
    async with asking(node("ingest", ingest=an_ingest(rebalancing=True)), "/readyz") as response:
        assert response.status == 200
        assert (await response.json())["warnings"]


@pytest.mark.parametrize(("name", "part"), [("read-model", "read_model_follower"), ("replica", "replica_follower")])
async def test_ready_warns_of_a_copy_that_waits(name: str, part: str) -> None:
    waiting = a_follower(name, waiting_for="it has not answered for 12 s")
    worker = node()
    setattr(worker, part, Told(waiting))
    async with asking(worker, "/readyz") as response:
        assert response.status == 200
        assert (await response.json())["warnings"] == [f"the {name} waits: it has not answered for 12 s"]


async def test_ready_warns_of_a_copy_that_an_open_transaction_holds() -> None:
    held = OpenTransaction(TopicPartition("classes-changelog", 3), 7, 12, 64.0)
    worker = node(read_model=replace(a_follower("read-model"), open_transaction=held))
    async with asking(worker, "/readyz") as response:
        assert response.status == 200
        assert (await response.json())["warnings"] == [f"the read-model waits: {held.in_words()}"]


async def test_health_has_the_fields_of_the_seed_on_top_and_checks_beside() -> None:
    async with asking(node(lag=ToldLag(a_report(behind=True))), "/health") as response:
        body = await response.json()
        assert response.status == 200
    assert body["status"] == "degraded"
    assert {"used", "total", "percentage"} == body["memory"].keys()
    assert {"usage"} == body["cpu"].keys()
    assert body["uptime"] >= 0
    assert body["checks"]["consumerLag"]["affectedEndpoints"]


async def test_health_is_503_only_if_nothing_can_be_answered() -> None:
    behind = node(read_model=a_follower("read-model", caught_up=False), lag=ToldLag(a_report()))
    async with asking(behind, "/health") as response:
        assert response.status == 503
        assert (await response.json())["status"] == "unhealthy"


async def test_info_names_topics_groups_and_versions() -> None:
    async with asking(node(), "/info") as response:
        body = await response.json()
    assert body["name"] == "emis-teacher-service"
    assert len(body["topics"]) == 8
    assert body["faustVersion"]


async def test_lag_before_the_first_measurement_is_503_and_says_when_to_come_again() -> None:
    async with asking(node(lag=ToldLag(None)), "/api/consumer-lag") as response:
        assert response.status == 503
        assert response.headers["Retry-After"]
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("path", ["/api/consumer-lag", "/consumer-lag"])
async def test_lag_as_json_has_groups_followers_latency_and_trend(path: str) -> None:
    async with asking(node(lag=ToldLag(a_report(behind=True), a_history())), path) as response:
        body = await response.json()
    stalled = next(p for p in body["groups"][0]["partitions"] if p["state"] == "STALLED")
    assert (stalled["committedOffset"], stalled["lag"], stalled["alerts"]) == (120_003, 48_210, ["lag_over_threshold"])
    assert body["followers"][0]["name"] == "read-model"
    assert body["syncLatency"]["read-model"]["count"] == 50
    assert len(body["history"]) == 600
    async with asking(node(lag=ToldLag(a_report(), a_history())), f"{path}?history=false") as response:
        assert (await response.json())["history"] == []


LAG_FAMILIES = {
    "kafka_consumergroup_group_offset",
    "kafka_consumergroup_group_lag",
    "kafka_consumergroup_group_lag_seconds",
    "kafka_consumergroup_group_max_lag",
    "kafka_consumergroup_group_max_lag_seconds",
    "kafka_consumergroup_group_sum_lag",
    "kafka_consumergroup_group_topic_sum_lag",
    "kafka_partition_latest_offset",
    "kafka_partition_earliest_offset",
}
OURS = {
    "emis_build_info",
    "emis_events",
    "emis_follower_records",
    "emis_follower_lag",
    "emis_read_model_caught_up",
    "emis_sync_latency_seconds",
    "emis_answer_age_seconds",
    "emis_http_request_duration_seconds",
    "process_resident_memory_bytes",
}


async def test_metrics_are_what_prometheus_reads() -> None:
    full = node(
        "ingest,serve",
        ingest=an_ingest(events_total=9, refused_total=2, superseded_total=3),
        lag=ToldLag(a_report(behind=True)),
    )
    async with serving(full) as server, ClientSession() as session:
        await (await session.get(server.make_url("/livez"))).read()
        async with session.get(server.make_url("/metrics")) as response:
            text = await response.text()
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with session.get(server.make_url("/metrics"), headers=accept) as response:
            assert list(parse_openmetrics(await response.text()))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert (LAG_FAMILIES | OURS) - families.keys() == set()
    events = {s.labels["outcome"]: s.value for s in families["emis_events"].samples}
    assert events == {"applied": 4.0, "superseded": 3.0, "refused": 2.0}
    stalled = [s for s in families["kafka_consumergroup_group_lag"].samples if s.value == 48_210]
    assert stalled[0].labels == {
        "cluster_name": "x", "group": "emis-teacher-service", "topic": "emis.class.updated", "partition": "3",
        "member_host": "/127.0.0.1", "consumer_id": "m-1", "client_id": "emis-streams-a1",
    }  # fmt: skip
    routes = {s.labels["route"] for s in families["emis_http_request_duration_seconds"].samples}
    assert "/livez" in routes


async def test_lag_of_a_while_ago_is_not_given_to_prometheus_as_that_of_now() -> None:
    async with asking(node(lag=ToldLag(a_report(error="no broker answers"))), "/metrics") as response:
        text = await response.text()
    assert "emis_brokers_reachable 0.0" in text
    assert "kafka_consumergroup_group_lag{" not in text


async def test_what_no_route_takes_is_one_route_in_the_metrics() -> None:
    async with serving(node()) as server, ClientSession() as session:
        for path in ("/a", "/b/c"):
            await (await session.get(server.make_url(path))).read()
        async with session.get(server.make_url("/metrics")) as response:
            text = await response.text()
    assert 'route="unknown"' in text
    assert 'route="/a"' not in text


async def test_an_unknown_address_and_a_wrong_method_are_problems() -> None:
    async with asking(node(), "/nowhere") as response:
        body = await response.json(content_type="application/problem+json")
        assert (response.status, body["status"], body["instance"]) == (404, 404, "/nowhere")
    async with asking(node(), "/livez", method="DELETE") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
        assert response.content_type == "application/problem+json"


async def test_a_failing_handler_is_a_problem_without_its_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(_request: web.Request) -> web.Response:
        raise RuntimeError("a secret")

    response = await problems.problems(_request_to("/broken"), fails)
    assert isinstance(response, web.Response)
    assert response.status == 500
    assert isinstance(response.body, bytes)
    assert b"secret" not in response.body
    assert "a secret" in caplog.text


def _request_to(path: str) -> web.Request:
    from aiohttp.test_utils import make_mocked_request

    app = web.Application()
    app[NODE] = node()
    return make_mocked_request("GET", path, app=app)


async def test_pages_may_only_run_what_is_served_with_them() -> None:
    async with asking(node(lag=ToldLag(a_report())), "/health", Accept="text/html") as response:
        assert response.content_type == "text/html"
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_journal_is_on_the_page_and_as_json_and_checks_say_since_when() -> None:
    worker = node()
    worker.lag = ToldLag(a_report(error="gone"))  # type: ignore[assignment]
    watching = asyncio.create_task(keep_journal(worker))
    try:
        await until(lambda: len(worker.journal.changes) > 1)
        async with asking(worker, "/health/journal") as response:
            changes = (await response.json())["changes"]
            assert changes[-1]["part"] == "process"
            brokers = next(change for change in changes if change["part"] == "brokers")
            assert (brokers["before"], brokers["after"], brokers["outputKey"]) == (None, "fail", "brokers.refused")
        async with asking(worker, "/health") as response:
            checks = (await response.json())["checks"]
            assert checks["brokers"]["since"] == brokers["at"]
        async with asking(worker, "/health", Accept="text/html", **{"Accept-Language": "en"}) as response:
            page = await response.text()
            assert "The process started, version" in page
            assert page.count("gone") >= 2
    finally:
        watching.cancel()


@pytest.mark.parametrize(
    ("worker", "status", "named"),
    [
        (node(lag=ToldLag(a_report())), "pass", "All checks"),
        (node(lag=ToldLag(a_report(behind=True))), "warn", "consumerLag"),
        (node(lag=ToldLag(a_report()), read_model=a_follower("read-model", caught_up=False)), "fail", "readModel"),
    ],
)
async def test_others_hear_of_the_health_that_the_worker_itself_shows(worker: Node, status: str, named: str) -> None:
    found = await as_told_to_others(worker)
    assert found.status == status
    assert named in found.text


async def test_a_start_is_kept_even_if_the_process_is_killed_before_anything_changes(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    worker = node(lag=ToldLag(None))
    worker.journal = HealthJournal(path)
    watching = asyncio.create_task(keep_journal(worker))
    try:
        await until(path.exists)
    finally:
        watching.cancel()
    later = HealthJournal(path)
    later.load()
    assert [change.part for change in later.changes] == ["process"]


async def test_a_journal_of_another_version_is_shown_as_it_came(tmp_path: Path) -> None:
    change = {
        "at": "2026-11-30T08:00:00+07:00", "part": "quotas", "before": "fail", "after": "warn",
        "output": "Written by another version.", "outputKey": "lag.over", "outputParams": {"of_tomorrow": 5},
    }  # fmt: skip
    path = tmp_path / "journal.json"
    path.write_bytes(msgspec.json.encode({"changes": [change], "states": {}, "format": 2}))
    worker = node(lag=ToldLag(a_report()))
    worker.journal = HealthJournal(path)
    worker.journal.load()
    async with asking(worker, "/health", Accept="text/html") as response:
        assert response.status == 200
        assert "Written by another version." in await response.text()


async def test_the_journal_waits_for_the_first_look_at_the_brokers() -> None:
    """What is not known in the first second is no state worth a line."""
    worker = node(lag=ToldLag(None))
    watching = asyncio.create_task(keep_journal(worker))
    try:
        await until(lambda: len(worker.journal.changes) == 1)
        worker.lag = ToldLag(a_report())  # type: ignore[assignment]
        await until(lambda: worker.journal.since("brokers", one("brokers")) is not None)
        assert [change.part for change in worker.journal.changes if change.part == "brokers"] == []
    finally:
        watching.cancel()
