"""What a service tells of itself over HTTP, and pages of other services through the gateway."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientTimeout, web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from emis_streams.health_journal import HealthJournal
from emis_streams.health_report import CheckStatus
from emis_streams.node import NODE, Node
from emis_streams.services.circuit_breaker import Limits, State
from emis_streams.services.gateway import GatewayService, page_session
from emis_streams.services.health import Finding, HealthCheck, consumer_lag
from emis_streams.services.registry import Health, ServiceInfo
from emis_streams.services.service import Service
from emis_streams.services.users import UserService
from emis_streams.settings import Settings
from tests.integration.service_rig import no_dead_letter
from tests.openapi_site import in_a_thread
from tests.pages import a_report
from tests.services import free_port
from web import answer_headers, circuit_breakers, compression, help, metrics, pages, service, services_status, site
from web.gateway import ROUTES, Route, routes_of
from web.gateway_pages import Page
from web.limits import OVERLOADED
from web.problems import problem

OPERATOR, READER = "operator-token-of-32-characters!", "reader-token-of-32-characters!!!"
TEACHER_ID = "0012f031-5c6f-4937-8aaf-ad11557972d1"
ENGLISH = {"Accept": "text/html", "Accept-Language": "en"}
OWN_CHECKS = ("brokers", "database", "outbox", "clock", "circuitBreakers", "changelogs", "progress", "memory")
PAGE = next(route for route in ROUTES if isinstance(route, Page) and route.service == "teacher")


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayService]:
    own = GatewayService(Settings(), no_dead_letter, ["teacher"])
    own.pages = page_session()
    yield own
    await own.clean_up_resources()


def site_of(own: Service, routes: Iterable[Route | Page] = ()) -> web.Application:
    """What the service tells of itself; of a gateway, these routes too."""
    node = Node(settings=own.config, roles=frozenset())
    node.service = own
    app = web.Application()
    app[NODE] = node
    site.setup(app)
    for module in (pages, service, circuit_breakers, services_status, help, metrics):
        app.add_routes(module.routes)
    if isinstance(own, GatewayService):
        app.add_routes(routes_of(own, routes))
    return app


@asynccontextmanager
async def http_of(own: Service, *routes: Page) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(site_of(own, routes))) as http:
        yield http


def register(own: GatewayService, port: int, name: str = "teacher", **changes: Any) -> None:
    """As a heartbeat of an instance would."""
    info = ServiceInfo(name=name, version="1", host="127.0.0.1", port=port, started_at=datetime.now(UTC))
    info = msgspec.structs.replace(info, **changes)
    own.registry._leases.apply(info.instance.encode(), msgspec.json.encode(info), 1_000, 0.0)


async def get(http: TestClient[Any, Any], path: str, **headers: str) -> tuple[int, Any]:
    async with http.get(path, headers=headers, allow_redirects=False) as response:
        return response.status, await response.json(content_type=None)


# -- of itself --------------------------------------------------------------------------------


async def test_health_has_the_seeds_shape_and_the_checks_beside_it(gateway: GatewayService) -> None:
    gateway.register_health_checks()
    async with http_of(gateway) as http:
        status, body = await get(http, "/health")
    assert (status, body["status"]) == (200, "healthy")
    assert {"timestamp", "uptime"} <= body.keys()
    assert body["memory"].keys() == {"used", "total", "percentage"}
    assert body["cpu"].keys() == {"usage"}
    assert body["checks"].keys() == {"brokers", "clock", "circuitBreakers", "progress", "memory"}


async def test_an_open_breaker_makes_the_service_degraded(gateway: GatewayService) -> None:
    gateway.register_health_checks()
    breaker = gateway.breakers.of("lessons", "create-lesson")
    for _ in range(breaker.limits.threshold):
        with pytest.raises(ConnectionError), breaker.calling():
            raise ConnectionError("away")
    async with http_of(gateway) as http:
        status, body = await get(http, "/health")
        _, again = await get(http, "/health")
        _, journal = await get(http, "/health/journal")
    assert (status, body["status"]) == (200, "degraded")
    assert "lessons create-lesson" in body["checks"]["circuitBreakers"]["output"]
    assert body["checks"]["circuitBreakers"]["links"] == {"help": "/help/a-circuit-breaker-is-open"}
    assert body["checks"]["memory"]["links"] == {}
    assert again["checks"]["circuitBreakers"]["since"] == body["checks"]["circuitBreakers"]["since"] is not None
    assert [(change["part"], change["after"]) for change in journal["changes"]] == [("circuitBreakers", "warn")]


@pytest.mark.parametrize("status", ["warn", "fail"])
async def test_each_check_of_a_service_that_is_not_well_says_what_to_do(status: CheckStatus) -> None:
    own = UserService(Settings(), no_dead_letter)
    lag = msgspec.structs.replace(a_report().groups[0], state="STALLED", severity="error", reason_key="stalled")
    checks = {
        **dict.fromkeys(OWN_CHECKS, _found(Finding(status, "Not well."))),
        "consumerLag": consumer_lag(lambda: msgspec.structs.replace(a_report(), groups=(lag,))),
        "ofItsOwn": _found(Finding(status, "Not well.")),
    }
    own.health_checks = checks
    async with http_of(own) as http:
        _, body = await get(http, "/health")
        links = {name: check["links"]["help"] for name, check in body["checks"].items()}
        assert {(await get(http, link))[0] for link in links.values()} == {200}
    assert links["consumerLag"] == "/help/a-group-has-stalled"
    assert links["database"] == "/help/the-database-is-away"
    assert [name for name, link in links.items() if link == "/help"] == ["ofItsOwn"]


def _found(finding: Finding) -> HealthCheck:
    async def check() -> Finding:
        return finding

    return check


async def test_the_journal_of_a_service_is_there_again_after_a_restart(gateway: GatewayService, tmp_path: Path) -> None:
    gateway.register_health_checks()
    gateway.journal = HealthJournal(tmp_path / "journal.json")
    gateway.journal.note_start("0.2.0", datetime.now(UTC))
    await gateway._told()  # A heartbeat.
    later = HealthJournal(tmp_path / "journal.json")
    later.load()
    assert [change.part for change in later.changes] == ["process"]
    assert later.since("memory", (await gateway.get_health()).checks["memory"]) is not None


async def test_it_is_alive_at_once_and_ready_when_it_has_what_it_needs(gateway: GatewayService) -> None:
    async with http_of(gateway) as http:
        assert (await get(http, "/livez"))[0] == 200
        status, body = await get(http, "/readyz")
        assert (status, body["status"]) == (503, "not-ready")
        gateway.has_started.set()
        gateway.replies.positioned.set()
        assert (await get(http, "/readyz"))[1]["reasons"] == ["not registered: teacher"]
        register(gateway, 6066)
        assert (await get(http, "/readyz"))[0] == (await get(http, "/startupz"))[0] == 200
        gateway.is_draining = True
        assert (await get(http, "/readyz"))[1]["reasons"] == ["it is being stopped"]


async def test_info_tells_what_is_registered(gateway: GatewayService) -> None:
    async with http_of(gateway) as http:
        _, body = await get(http, "/info")
    assert (body["service"]["name"], body["service"]["port"]) == ("gateway", gateway.config.port)


async def test_circuit_breakers_have_the_seeds_shape(gateway: GatewayService) -> None:
    gateway.breakers.of("lessons", "get-lesson")
    async with http_of(gateway) as http:
        _, body = await get(http, "/circuit-breakers")
    told = body["lessons"]["patterns"]["get-lesson"]
    assert {name: told[name] for name in ("status", "failureCount", "successCount", "threshold", "timeout")} == {
        "status": "CLOSED",
        "failureCount": 0,
        "successCount": 0,
        "threshold": 5,
        "timeout": 60_000,
    }


async def test_metrics_tell_the_state_of_each_breaker(gateway: GatewayService) -> None:
    gateway.breakers.of("lessons", "get-lesson")
    async with http_of(gateway) as http, http.get("/metrics") as response:
        text = await response.text()
    assert 'emis_circuit_breaker{emis_circuit_breaker="CLOSED",pattern="get-lesson",service="lessons"} 1.0' in text


@pytest.mark.parametrize(("token", "status"), [(OPERATOR, 200), (READER, 403), ("wrong", 401), (None, 401)])
async def test_only_an_operator_resets_a_breaker(tmp_path: Path, token: str | None, status: int) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"operator:{OPERATOR}\nreader:{READER}\n")
    tokens.chmod(0o600)
    own = GatewayService(Settings(web_tokens_file=str(tokens)), no_dead_letter)
    breaker = own.breakers.of("lessons", "get-lesson")
    breaker._change(State.OPEN, "for the test")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with http_of(own) as http:
        async with http.post("/circuit-breakers/lessons/get-lesson/reset", headers=headers) as response:
            assert response.status == status
        if token == OPERATOR:
            async with http.post("/circuit-breakers/lessons/nothing/reset", headers=headers) as response:
                assert response.status == 404
    assert breaker.state is (State.CLOSED if status == 200 else State.OPEN)


async def test_where_no_tokens_are_set_nobody_resets_a_breaker(gateway: GatewayService) -> None:
    gateway.breakers.of("lessons", "get-lesson")
    async with http_of(gateway) as http, http.post("/circuit-breakers/lessons/get-lesson/reset") as response:
        assert response.status == 403


# -- of all -----------------------------------------------------------------------------------


async def test_the_status_of_all_services_names_who_is_missing(gateway: GatewayService) -> None:
    register(gateway, 8002, "lessons", health=Health.DEGRADED)
    async with http_of(gateway) as http:
        _, body = await get(http, "/services/status")
    assert body["status"] == "unhealthy"
    assert {s["name"]: (s["status"], s["isRouted"], len(s["instances"])) for s in body["services"]} == {
        "lessons": ("degraded", False, 1),
        "teacher": ("unhealthy", True, 0),
    }


async def test_the_page_says_since_when_an_instance_shuts_down_and_what_that_means(gateway: GatewayService) -> None:
    gateway.registry._leases.start_timing(0.0)
    register(gateway, 6066, is_draining=True)
    async with http_of(gateway) as http, http.get("/services/status", headers=ENGLISH) as response:
        page = await response.text()
    row = page[page.index('id="services"') :]
    state = row[row.index("Shutting down") :].split("</td>")[0]
    assert "Since" in state
    assert "/help/a-service-is-missing" in state


async def test_the_page_says_since_when_a_service_is_missing_or_not_healthy(gateway: GatewayService) -> None:
    register(gateway, 8002, "lessons", health=Health.DEGRADED)
    address, html = "/services/status?lang=en", {"Accept": "text/html"}
    async with http_of(gateway) as http, http.get(address, headers=html) as response:
        text = await response.text()
    rows = re.findall(r'<tr role="row"><th scope="row".*?</tr>', text, re.DOTALL)
    assert len([row for row in rows if "Since" in row and "What to do" in row]) == len(rows) == 2


async def test_nobody_is_called_well_while_the_registry_cannot_be_read(
    gateway: GatewayService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services_status, "this_second", lambda: repr(time.monotonic()))
    register(gateway, 6066)
    register(gateway, 8002, "lessons")
    async with http_of(gateway) as http:
        async with http.get("/services/status", headers=ENGLISH) as response:
            assert "All is well" in await response.text()
        gateway.registry._waiting.reason = "no broker answers at b:9092"  # type: ignore[attr-defined]
        async with http.get("/services/status", headers=ENGLISH) as response:
            page = await response.text()
        async with http.get("/services/status") as response:
            told = await response.json()
    assert (told["status"], told["registryError"]) == ("degraded", "no broker answers at b:9092")
    assert "All is well" not in page
    assert "Not known now: lessons 127.0.0.1:8002; teacher 127.0.0.1:6066" in page
    assert page.count('href="/help/kafka-is-away"') >= 2


@pytest.mark.parametrize(("language", "missing"), [("en", "Missing"), ("vi", "Không hoạt động")])
async def test_the_page_shows_the_same_and_is_live(gateway: GatewayService, language: str, missing: str) -> None:
    gateway.breakers.of("lessons", "get-lesson")
    register(gateway, 8002, "lessons")
    async with http_of(gateway) as http:
        path = f"/services/status?lang={language}"
        async with http.get(path, headers={"Accept": "text/html"}) as response:
            text = await response.text()
    assert response.status == 200
    for shown in ("127.0.0.1:8002", "get-lesson", missing, 'data-every="2"'):
        assert shown in text
    assert 'href="/consumer-lag"' not in text


async def test_why_a_breaker_changed_is_said_in_the_readers_language(gateway: GatewayService) -> None:
    breaker = gateway.breakers.of("lessons", "get-lesson")
    breaker._change(State.OPEN, "5 calls in a row failed, the last: no answer within 2 s")
    breaker._change(State.HALF_OPEN, "60 s are over")
    breaker._change(State.CLOSED, "a probe succeeded")
    breaker.reset()
    async with http_of(gateway) as http:
        path = "/services/status?lang=vi"
        async with http.get(path, headers={"Accept": "text/html"}) as response:
            text = await response.text()
    for shown in (
        "Lỗi: 5 calls in a row failed, the last: no answer within 2 s",
        "Hết thời gian chặn",
        "Lệnh gọi thử thành công",
        "Được người vận hành đặt lại",
    ):
        assert shown in text


async def test_the_gateways_root_leads_to_its_services(gateway: GatewayService) -> None:
    async with http_of(gateway) as http, http.get("/", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "/services/status")


async def test_a_service_without_pages_links_to_none() -> None:
    users = UserService(Settings(), no_dead_letter)
    async with http_of(users) as http, http.get("/nowhere", headers={"Accept": "text/html"}) as response:
        text = await response.text()
    assert response.status == 404
    assert "/services/status" not in text
    assert "/consumer-lag" not in text


# -- pages of others --------------------------------------------------------------------------


@asynccontextmanager
async def worker(
    status: int = 200, seconds: float = 0.0, headers: set[str] | None = None
) -> AsyncIterator[tuple[int, list[str]]]:
    """Its port, and what it was asked; the names of headers that came go into `headers`."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        if headers is not None:
            headers.update(request.headers)
        await asyncio.sleep(seconds)
        return web.json_response({"teacherId": TEACHER_ID}, status=status)

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port, asked


async def test_a_page_is_the_workers_own_answer(gateway: GatewayService) -> None:
    async with worker(status=410) as (port, asked), http_of(gateway, PAGE) as http:
        register(gateway, port)
        async with http.get(f"/teachers/{TEACHER_ID}?limit=7&after={TEACHER_ID}") as response:
            assert (response.status, response.content_type) == (410, "application/json")
            assert await response.json() == {"teacherId": TEACHER_ID}
    assert asked == [f"/api/teachers/{TEACHER_ID}?limit=7&after={TEACHER_ID}"]


async def test_a_large_answer_of_a_worker_that_compresses_is_readable(gateway: GatewayService) -> None:
    """The gateway passes on what comes, so it must not ask for gzip, as its HTTP client would by itself."""
    rows = [{"classId": f"class {n}"} for n in range(1_000)]

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(rows)

    app = web.Application()
    answer_headers.setup(app, {})
    app.router.add_get("/{tail:.*}", answer)
    async with TestServer(app) as server, http_of(gateway, PAGE) as http:
        register(gateway, server.port or 0)
        for accepted in ("gzip", "identity"):
            assert await get(http, f"/teachers/{TEACHER_ID}", **{"Accept-Encoding": accepted}) == (200, rows)


async def test_what_a_worker_compresses_all_the_same_is_no_answer(gateway: GatewayService) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=compression.gzipped(b"{}"), headers={"Content-Encoding": "gzip"})

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    async with TestServer(app) as server, http_of(gateway, PAGE) as http:
        register(gateway, server.port or 0)
        status, body = await get(http, f"/teachers/{TEACHER_ID}")
    assert (status, "compressed (gzip)" in body["detail"]) == (503, True)


async def test_a_browser_is_shown_a_page_whatever_a_worker_s_error_looks_like(gateway: GatewayService) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=418, text="<b>no</b>")

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    async with TestServer(app) as server, http_of(gateway, PAGE) as http:
        register(gateway, server.port or 0)
        async with http.get(f"/teachers/{TEACHER_ID}", headers={"Accept": "text/html"}) as response:
            assert (response.status, response.content_type) == (418, "text/html")
            assert "<b>no</b>" not in await response.text()


async def test_an_answer_without_end_is_not_read_to_its_end(gateway: GatewayService) -> None:
    """Whoever writes to the registry names the host that is asked."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 1 << 30:
            await response.write(bytes(1 << 16))
            sent += 1 << 16
        return response

    app = web.Application()
    app.router.add_get("/{tail:.*}", endless)
    async with TestServer(app) as server, http_of(gateway, PAGE) as http:
        register(gateway, server.port or 0)
        status, body = await get(http, f"/teachers/{TEACHER_ID}")
    assert (status, body["service"]) == (503, "teacher")
    assert sent < 64 << 20


async def test_what_stands_in_a_path_cannot_leave_its_place(gateway: GatewayService) -> None:
    async with worker() as (port, asked), http_of(gateway, PAGE) as http:
        register(gateway, port)
        await get(http, "/teachers/..%2F..%2Fmetrics%3Fx")
    assert asked == ["/api/teachers/..%2F..%2Fmetrics%3Fx"]


async def test_no_header_of_the_client_is_passed_on(gateway: GatewayService) -> None:
    came: set[str] = set()
    async with worker(headers=came) as (port, _), http_of(gateway, PAGE) as http:
        register(gateway, port)
        given = {"Authorization": "Bearer secret", "Cookie": "a=b", "X-Forwarded-For": "10.0.0.1"}
        await get(http, f"/teachers/{TEACHER_ID}", **given)
    assert came
    assert came & given.keys() == set()


async def test_the_next_worker_answers_for_one_that_does_not(gateway: GatewayService) -> None:
    async with worker() as (port, _), worker(status=503) as (overloaded, _), http_of(gateway, PAGE) as http:
        register(gateway, port)
        register(gateway, free_port())
        register(gateway, overloaded)
        assert [(await get(http, f"/teachers/{TEACHER_ID}"))[0] for _ in range(6)] == [200] * 6


async def test_nobody_registered_is_told_and_opens_no_breaker(gateway: GatewayService) -> None:
    async with http_of(gateway, PAGE) as http:
        answers = [await get(http, f"/teachers/{TEACHER_ID}") for _ in range(6)]
    assert [status for status, _ in answers] == [503] * 6
    assert {(body["service"], body["circuitBreaker"]) for _, body in answers} == {("teacher", "CLOSED")}


async def test_a_worker_that_hangs_is_told_as_a_time_out(gateway: GatewayService) -> None:
    assert gateway.pages is not None
    gateway.pages._timeout = ClientTimeout(total=0.05)
    async with worker(seconds=5.0) as (port, _), http_of(gateway, PAGE) as http:
        register(gateway, port)
        assert (await get(http, f"/teachers/{TEACHER_ID}"))[0] == 504


async def test_a_worker_that_refuses_as_it_has_too_much_opens_no_breaker(gateway: GatewayService) -> None:
    gateway.breakers._limits = Limits(threshold=2)

    async def refuse(_request: web.Request) -> web.Response:
        return problem(503, OVERLOADED, "This worker has more requests than it can answer soon.")

    app = web.Application()
    app.router.add_get("/{tail:.*}", refuse)
    async with TestServer(app) as server, http_of(gateway, PAGE) as http:
        assert server.port is not None
        register(gateway, server.port)
        answers = [await get(http, f"/teachers/{TEACHER_ID}") for _ in range(5)]
    assert [(status, body["circuitBreaker"]) for status, body in answers] == [(503, "CLOSED")] * 5


@asynccontextmanager
async def blocking() -> AsyncIterator[TestServer]:
    """Its loop does nothing else while it makes a page."""

    async def answer(_request: web.Request) -> web.Response:
        time.sleep(0.3)  # noqa: ASYNC251
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    async with TestServer(app) as server:
        yield server


async def test_many_slow_pages_of_one_user_open_no_breaker_and_are_seen(gateway: GatewayService) -> None:
    """Seen: sixteen of 0.4 s each on one loop, of which the last ones time out, and nobody got a page for a minute."""
    assert gateway.pages is not None
    gateway.pages._timeout = ClientTimeout(total=1.0)
    with in_a_thread(blocking()) as url:
        port = URL(url).port
        assert port is not None
        register(gateway, port)
        async with http_of(gateway, PAGE) as http:
            answers = await asyncio.gather(*(get(http, f"/teachers/{TEACHER_ID}") for _ in range(16)))
            _, status = await get(http, "/services/status")
    statuses = [status for status, _ in answers]
    assert set(statuses) <= {200, 429, 504}
    assert min(statuses.count(each) for each in (200, 429)) > 0
    breaker = gateway.breakers.of(PAGE.service, PAGE.pattern)
    assert (breaker.state, breaker.counts.failed) == (State.CLOSED, 0)
    assert breaker.counts.slow == statuses.count(504)
    (route,) = status["routes"]
    assert (route["service"], route["pattern"], route["underWay"]) == ("teacher", "detail", 0)
    assert route["refusedByShare"] == statuses.count(429)
    assert route["limit"] < route["maxCalls"] == 64


async def test_workers_that_all_fail_open_the_breaker(gateway: GatewayService) -> None:
    gateway.breakers._limits = Limits(threshold=2)
    register(gateway, free_port())
    async with http_of(gateway, PAGE) as http:
        answers = [await get(http, f"/teachers/{TEACHER_ID}") for _ in range(3)]
    assert [(status, body["circuitBreaker"]) for status, body in answers] == [
        (503, "CLOSED"),
        (503, "OPEN"),
        (503, "OPEN"),
    ]


async def test_a_form_that_resets_a_breaker_leads_back_to_the_page(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"operator:{OPERATOR}\n")
    tokens.chmod(0o600)
    own = GatewayService(Settings(web_tokens_file=str(tokens)), no_dead_letter)
    breaker = own.breakers.of("lessons", "get lessons/all")
    breaker._change(State.OPEN, "for the test")
    own.breakers.of("lessons", "create-lesson")
    headers = {"Authorization": f"Bearer {OPERATOR}", "Accept": "text/html"}
    async with http_of(own) as http:
        async with http.get("/services/status?lang=en", headers=headers) as response:
            page = await response.text()
        assert page.index("get lessons/all") < page.index("create-lesson")
        path = "/circuit-breakers/lessons/get%20lessons%2Fall/reset"
        assert f'action="{path}"' in page
        async with http.post(URL(path, encoded=True), headers=headers, allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (303, "/services/status")
        async with http.get("/services/status?lang=en", headers=headers) as response:
            assert "/reset" not in await response.text(), "the page is not one that was kept from before"
    assert breaker.state is State.CLOSED
