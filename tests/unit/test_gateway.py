"""The gateway over HTTP, in front of a carrier that answers as a script says."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from emis_streams.node import NODE, Node
from emis_streams.services.breakers import Breakers
from emis_streams.services.circuit_breaker import CircuitBreaker, Counts, Limits, State
from emis_streams.services.client import ServiceClient
from emis_streams.services.errors import (
    DeadlineExceeded,
    NotReady,
    NotSent,
    Refused,
    ServiceBroken,
    ServiceOverloaded,
    ServiceUnavailable,
)
from emis_streams.services.gateway import GatewayService
from emis_streams.services.retry_budget import RetryBudget
from emis_streams.settings import Settings
from tests.integration.service_rig import no_dead_letter
from tests.scripted_carrier import Answer, Scripted
from tests.services import until
from web import ids, pages, problems, refusals
from web.gateway import ROUTES, Route, gate_of, routes_of
from web.gateway_pages import Page

LESSON_ID = "00000000-0000-4000-8000-000000000007"
LESSON = {"lessonId": "7b0e", "title": "Phân số"}
NEW = {"title": "Phân số", "userId": "00000000-0000-4000-8000-000000000001"}


class Gateway:
    def __init__(self, http: TestClient[Any, Any], carrier: Scripted, breakers: Breakers) -> None:
        self.http = http
        self.carrier = carrier
        self.breakers = breakers

    @property
    def asked(self) -> list[tuple[str, str, bytes]]:
        """Service, pattern and data of each request that was sent on."""
        return [(service, request.pattern, request.value) for service, request in self.carrier.requests]

    def breaker(self, pattern: str) -> CircuitBreaker:
        """Of the lesson service."""
        return self.breakers.of("lessons", pattern)


@asynccontextmanager
async def gateway(
    *script: Answer,
    routes: tuple[Route | Page, ...] = ROUTES,
    threshold: int = 5,
    settings: Settings | None = None,
) -> AsyncIterator[Gateway]:
    carrier = Scripted(list(script))
    no_retries = RetryBudget(ratio=0, per_second=0.001)
    client = ServiceClient(carrier, Breakers(Limits(threshold=threshold)), budget=no_retries)
    service = GatewayService(settings or Settings(), no_dead_letter)
    service.client, service.breakers = client, client.breakers
    app = web.Application()
    app[NODE] = Node(service.config, frozenset(), service=service)
    problems.setup(app)
    app[problems.PROBLEM_PAGE] = refusals.problem_page
    ids.setup(app)
    pages.setup(app)
    app.add_routes(routes_of(service, routes))
    async with TestClient(TestServer(app)) as http:
        yield Gateway(http, carrier, client.breakers)


async def problem_of(response: ClientResponse) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    told: dict[str, Any] = await response.json()
    assert told["status"] == response.status
    return told


async def test_what_was_created_is_answered_with_its_place() -> None:
    async with gateway(LESSON) as own:
        response = await own.http.post("/lessons", json=NEW)
        assert (response.status, response.headers["Location"]) == (201, "/lessons/7b0e")
        assert await response.json() == LESSON
        assert [(s, p) for s, p, _ in own.asked] == [("lessons", "create-lesson")]


@pytest.mark.parametrize("answer", [[], "text", {}, {"lessonId": None}, {"lessonId": 5}, {"lessonid": "x"}])
async def test_an_answer_that_names_nothing_that_was_made_is_the_services_mistake(answer: Any) -> None:
    async with gateway(answer) as own:
        response = await own.http.post("/lessons", json=NEW)
        assert response.status == 502
        assert "the answer has no lessonId" in (await problem_of(response))["detail"]


async def test_path_and_query_reach_the_service() -> None:
    async with gateway(LESSON) as own:
        await own.http.get("/lessons/7b0e")
        await own.http.get(f"/lessons?limit=3&after={LESSON_ID}")
        assert own.asked == [
            ("lessons", "get-lesson", b'{"lessonId":"7b0e"}'),
            ("lessons", "get-lessons", f'{{"limit":3,"after":"{LESSON_ID}"}}'.encode()),
        ]


async def test_ids_in_any_form_reach_the_service_as_the_canonical_one() -> None:
    id_ = "0c0000ab-0000-4000-8000-00000000000f"
    async with gateway(LESSON, LESSON) as own:
        await own.http.get(f"/lessons/{{{id_.upper()}}}")
        await own.http.post("/lessons", json={"title": id_.upper(), "userId": f"{{{id_.upper()}}}"})
        assert [value for _, _, value in own.asked] == [
            f'{{"lessonId":"{id_}"}}'.encode(),
            f'{{"title":"{id_.upper()}","userId":"{id_}"}}'.encode(),
        ]


async def test_the_idempotency_key_goes_along() -> None:
    async with gateway(LESSON) as own:
        await own.http.post("/lessons", json=NEW, headers={"Idempotency-Key": "mine"})
        assert own.carrier.requests[0][1].idempotency_key == "mine"


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ữ"])
async def test_a_key_that_is_none_is_refused(key: str) -> None:
    async with gateway(LESSON) as own:
        response = await own.http.post("/lessons", json=NEW, headers={"Idempotency-Key": key})
        assert response.status == 400
        assert "Idempotency-Key" in (await problem_of(response))["detail"]
        assert own.asked == []


async def test_two_idempotency_keys_are_refused() -> None:
    """Which of them counts would be a guess: a proxy and this gateway may guess differently."""
    async with gateway(LESSON) as own:
        headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
        response = await own.http.post("/lessons", json=NEW, headers=headers)
        assert response.status == 400
        assert own.asked == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("invalid", "title: missing"), 422),
        (Refused("not-found", "there is no lesson 7"), 404),
        (Refused("key-reused", "came with another content"), 422),
        (Refused("too-large", "too large"), 413),
        (Refused("unknown-pattern", "'get-lesson' is none of them"), 502),
    ],
)
async def test_a_refusal_of_the_service_says_of_what_kind(error: Refused, status: int) -> None:
    async with gateway(error) as own:
        told = await problem_of(await own.http.get("/lessons/7"))
        assert (told["status"], told["kind"], told["detail"]) == (status, error.kind, error.detail)


@pytest.mark.parametrize(
    ("error", "status", "may_come_again"),
    [
        (ServiceBroken("it failed"), 502, False),
        (ServiceUnavailable("no database"), 503, True),
        (NotSent("no broker"), 503, True),
        (DeadlineExceeded("nothing within 8 s"), 504, True),
    ],
)
async def test_no_answer_says_whose_and_whether_to_come_again(
    error: Exception, status: int, may_come_again: bool
) -> None:
    async with gateway(error) as own:
        response = await own.http.get("/lessons/7")
        told = await problem_of(response)
        assert (told["status"], told["detail"]) == (status, str(error))
        assert (told["service"], told["pattern"], told["circuitBreaker"]) == ("lessons", "get-lesson", "CLOSED")
        assert ("Retry-After" in response.headers) == may_come_again


async def test_while_the_breaker_is_open_the_service_is_not_asked() -> None:
    async with gateway(NotSent("no broker"), threshold=2) as own:
        for _ in range(2):
            await own.http.get("/lessons/7")
        n_asked = len(own.asked)
        response = await own.http.get("/lessons/7")
        told = await problem_of(response)
        assert (told["status"], told["circuitBreaker"]) == (503, "OPEN")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        assert len(own.asked) == n_asked


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10_000])
async def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    async with gateway(LESSON) as own:
        response = await own.http.post("/lessons", data=body)
        assert (await problem_of(response))["status"] == 400
        assert own.asked == []


async def test_a_body_in_chunks_is_read() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in (b'{"title": "Ph', "ân số".encode(), b'", "userId": "', str(NEW["userId"]).encode(), b'"}'):
            yield piece

    async with gateway(LESSON) as own:
        response = await own.http.post("/lessons", data=chunks(), headers={"Content-Type": "application/json"})
        assert response.status == 201
        assert response.request_info.headers["Transfer-Encoding"] == "chunked"


async def test_a_body_that_does_not_come_is_waited_for_for_a_bounded_time() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with gateway(settings=Settings(web_receive_seconds=0.05)) as own:
        response = await own.http.post("/lessons", data=never(), headers={"Content-Type": "application/json"})
        assert response.status == 408


async def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 1_000

    async with gateway(LESSON) as own:
        for body in (b" " * 40_000, chunks()):
            response = await own.http.post("/lessons", data=body)
            assert (await problem_of(response))["status"] == 413
        assert own.asked == []


@pytest.mark.parametrize("query", ["limit=many", "limit=1&limit=2", "colour=red"])
async def test_a_parameter_that_is_not_known_or_cannot_be_read_is_refused(query: str) -> None:
    async with gateway(LESSON) as own:
        response = await own.http.get(f"/lessons?{query}")
        assert (await problem_of(response))["status"] == 400
        assert own.asked == []


async def test_more_requests_than_a_route_takes_are_told_when_to_come_again() -> None:
    few = Route(method="GET", path="/few", service="lessons", pattern="get-lessons", per_second=2)
    async with gateway(LESSON, routes=(few,)) as own:
        statuses = [(await own.http.get("/few")).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await own.http.get("/few")).headers["Retry-After"] == "1"


def of_user(number: int) -> dict[str, str]:
    return {"title": "Phân số", "userId": f"00000000-0000-4000-8000-{number:012}"}


@asynccontextmanager
async def slow(settings: Settings) -> AsyncIterator[tuple[Gateway, asyncio.Event]]:
    """Answers nothing until the event is set."""
    go_on = asyncio.Event()

    async def answer() -> Any:
        await go_on.wait()
        return LESSON

    async with gateway(answer, settings=settings) as own:
        yield own, go_on


async def test_one_users_calls_leave_room_for_another_and_are_refused_at_once() -> None:
    async with slow(Settings(gateway_max_calls=4)) as (own, go_on):
        heavy = [asyncio.create_task(own.http.post("/lessons", json=of_user(1))) for _ in range(6)]
        refused = [await task for task in itertools.islice(asyncio.as_completed(heavy), 4)]
        assert [response.status for response in refused] == [429] * 4
        assert {response.headers["Retry-After"] for response in refused} == {"1"}
        assert "share" in (await problem_of(refused[0]))["detail"]
        other = asyncio.create_task(own.http.post("/lessons", json=of_user(2)))
        await until(lambda: len(own.asked) == 3)
        go_on.set()
        assert (await other).status == 201


async def test_calls_that_a_service_cannot_manage_are_refused_and_no_other_route_or_breaker_sees_them() -> None:
    async with slow(Settings(gateway_max_calls=4)) as (own, go_on):
        asking = [asyncio.create_task(own.http.post("/lessons", json=of_user(n))) for n in range(4)]
        await until(lambda: len(own.asked) == 4)
        for n in range(10, 20):
            told = await problem_of(await own.http.post("/lessons", json=of_user(n)))
            assert (told["status"], told["pattern"], told["circuitBreaker"]) == (503, "create-lesson", "CLOSED")
        other_route = asyncio.create_task(own.http.get("/lessons/7b0e"))
        await until(lambda: len(own.asked) == 5)
        go_on.set()
        assert (await other_route).status == 200
        assert [(await task).status for task in asking] == [201] * 4
        assert own.breaker("create-lesson").counts == Counts(succeeded=4)


async def test_a_service_that_has_too_much_to_do_is_not_asked_again_and_opens_no_breaker() -> None:
    async with gateway(ServiceOverloaded("no turn within 0.5 s"), threshold=2) as own:
        for n in range(1, 6):
            response = await own.http.get("/lessons/7b0e")
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert len(own.asked) == n
        assert own.breaker("get-lesson").state is State.CLOSED


async def test_a_gateway_that_cannot_ask_yet_says_so_and_opens_no_breaker() -> None:
    async with gateway(NotReady("the end of emis.reply.gateway is not known"), threshold=2) as own:
        for _ in range(5):
            assert (await own.http.get("/lessons/7b0e")).status == 503
        assert own.breaker("get-lesson").state is State.CLOSED


def test_every_address_is_answered_by_one_route() -> None:
    addresses = [(route.method, route.path) for route in ROUTES]
    assert len(set(addresses)) == len(addresses)


def plain(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode()


async def test_the_gate_refuses_by_route_and_user_what_came_in_one_turn_of_the_loop() -> None:
    own = GatewayService(Settings(gateway_max_calls=4), no_dead_letter)
    gate = gate_of(own)
    told = [gate(plain("/progress/A"), "127.0.0.1") for _ in range(3)]
    assert told[:2] == [None, None]
    assert told[2] is not None
    assert told[2].startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: 1\r\n" in told[2]
    assert gate(plain("/progress/a?limit=1"), "127.0.0.1") is not None  # The same user.
    assert [gate(plain(f"/progress/{user}"), "127.0.0.1") for user in "bc"] == [None, None]
    full = gate(plain("/progress/d"), "127.0.0.1")
    assert full is not None
    assert full.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert gate(plain("/lessons"), "127.0.0.1") is None  # Another route.
    assert gate(plain("/services/status"), "127.0.0.1") is None  # No route of the table.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert gate(plain("/progress/a"), "127.0.0.1") is None  # No handler has taken a slot: nobody is under way.


async def test_a_request_that_names_no_user_is_of_the_address_that_it_comes_from() -> None:
    gate = gate_of(GatewayService(Settings(gateway_max_calls=4), no_dead_letter))
    told = [gate(plain("/lessons?limit=1"), "127.0.0.1") for _ in range(3)]
    assert [each is None for each in told] == [True, True, False]
    assert gate(plain("/lessons"), "127.0.0.2") is None


# -- what a browser sees ------------------------------------------------------------------------

BROWSER = {"Accept": "text/html,application/xhtml+xml", "Accept-Language": "en"}
PAGE_ID = "0a000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("answer", "status", "title"),
    [
        (Refused("not-found", "there is no such lesson"), 404, "Page not found"),
        (Refused("invalid", "not like this"), 422, "Not accepted"),
        (Refused("too-large", "too large"), 413, "Too large"),
        (ServiceBroken("it failed"), 502, "The service failed"),
        (ServiceUnavailable("away"), 503, "Not available now"),
        (NotReady("not yet"), 503, "Not available now"),
        (ServiceOverloaded("too much to do"), 503, "Not available now"),
        (DeadlineExceeded("too late"), 504, "No answer in time"),
    ],
)
async def test_a_browser_is_shown_every_failure_of_a_service_as_a_page(
    answer: Exception, status: int, title: str
) -> None:
    async with gateway(answer) as g:
        response = await g.http.get(f"/lessons/{LESSON_ID}", headers=BROWSER)
        text = await response.text()
    assert (response.status, response.content_type) == (status, "text/html")
    assert f"<h1>{title}</h1>" in text
    assert response.headers["Cache-Control"] == "no-store"


async def test_a_page_of_an_error_says_when_to_come_again_and_what_is_wrong() -> None:
    async with gateway(ServiceUnavailable("the lessons are <away>")) as g:
        response = await g.http.get(f"/lessons/{LESSON_ID}", headers=BROWSER)
        assert int(response.headers["Retry-After"]) >= 1
        assert "the lessons are &lt;away&gt;" in await response.text()


@pytest.mark.parametrize("path", [f"/teachers/{PAGE_ID}", "/lessons?limit=x", "/nothing", f"/progress/{PAGE_ID}?no=1"])
async def test_a_browser_is_shown_every_refusal_of_the_gateway_as_a_page(path: str) -> None:
    async with gateway() as g:
        page = await g.http.get(path, headers=BROWSER)
        json = await g.http.get(path)
    assert page.status == json.status
    assert page.status >= 400
    assert (page.content_type, json.content_type) == ("text/html", "application/problem+json")


async def test_what_a_worker_refuses_is_a_page_whatever_it_looks_like() -> None:
    async def nonsense(_request: web.Request) -> web.Response:
        return web.Response(status=404, body=b"{", content_type="application/problem+json")

    async with gateway(routes=(Page(path="/x", service="s", pattern="x", page="/x"),)) as g:
        g.http.app.router._frozen = False  # type: ignore[union-attr]
        g.http.app.router.add_get("/nonsense", nonsense)  # type: ignore[union-attr]
        response = await g.http.get("/nonsense", headers=BROWSER)
        assert (response.status, response.content_type) == (404, "text/html")


def test_a_browser_that_is_refused_before_it_is_parsed_gets_a_page() -> None:
    route = Page(path="/x/{userId}", service="s", pattern="x", page="/x", user="userId")
    service = GatewayService(Settings(), no_dead_letter)
    gate = gate_of(service, (route,))
    admission = service.admission("s", "x", is_page=True)
    with ExitStack() as full:
        for n in range(admission.limit):
            full.enter_context(admission.slot(f"user {n}"))
        request = b"GET /x/one HTTP/1.1\r\nAccept: %s\r\n\r\n"
        page, json = gate(request % b"text/html", "127.0.0.1"), gate(request % b"*/*", "127.0.0.1")
    assert page is not None
    assert json is not None
    assert page.split(b"\r\n", 1)[0] == json.split(b"\r\n", 1)[0] == b"HTTP/1.1 503 Service Unavailable"
    assert b"Content-Type: text/html" in page
    assert b"Content-Security-Policy" in page
    assert b"application/problem+json" in json
