"""Whatever is asked of gateway and services: answers are as `docs/openapi-services.yaml` says, none a 5xx by mistake.

The lesson service is real, on SQLite, and so are the pages of progress and users; between them and the gateway are no
brokers, but the requests themselves (tests/integration/test_services.py has processes and brokers).
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import requests
import schemathesis
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from emis_streams.events import is_canonical_id
from emis_streams.node import NODE, Node
from emis_streams.read_model.user_rows import UserRows
from emis_streams.services.client import ServiceClient
from emis_streams.services.gateway import GatewayService
from emis_streams.services.lessons import LessonService
from emis_streams.services.messages import Header, Request
from emis_streams.services.registry import ServiceInfo
from emis_streams.settings import Settings
from emis_streams.topics import ACTIVITY, LESSON_AVAILABLE, PROGRESS, USER_ACTIVITY
from tests.integration.service_rig import no_dead_letter
from tests.unit.test_openapi_services import DOCUMENT
from tests.unit.test_user_pages import Following
from tests.unit.test_user_rows import USER, event, follow
from web import activity, circuit_breakers, metrics, pages, progress, service, services_status, site
from web.gateway import routes_of
from web.problems import problem

SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
_STARTED_SECONDS = 30
_ASKS_PER_OPERATION = 25
"""Of each kind, good and bad."""


class Direct:
    """A carrier without brokers: requests go to the service at once."""

    def __init__(self, lessons: LessonService) -> None:
        self._lessons = lessons

    async def ask(self, _service: str, request: Request) -> tuple[list[Header], bytes]:
        return await self._lessons.requests._answer(request)

    async def tell(self, service: str, request: Request) -> None:
        await self.ask(service, request)


@asynccontextmanager
async def worker(folder: Path) -> AsyncIterator[TestServer]:
    """Serves progress and activity of one user, and some teacher."""

    async def teacher(request: web.Request) -> web.Response:
        found = is_canonical_id(request.match_info["id"])
        return web.json_response({}) if found else problem(400, "Bad Request", "no id")

    copy = UserRows(folder / "read-model")
    await follow(copy, PROGRESS, *(event(LESSON_AVAILABLE, minutes=n) for n in range(3)))
    await follow(copy, ACTIVITY, *(event(USER_ACTIVITY, minutes=n) for n in range(3)))
    copy.note_caught_up()
    app = web.Application()
    app[NODE] = Node(settings=Settings(), roles=frozenset(), user_rows=copy, read_model_follower=Following())
    site.setup(app)
    app.add_routes(progress.routes)
    app.add_routes(activity.routes)
    app.router.add_get("/api/teachers/{id}", teacher)
    async with TestServer(app) as server:
        yield server
    copy.close()


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[TestServer]:
    """Nothing is limited or broken off: that is not what is looked at here."""
    lessons = LessonService(Settings(data_dir=str(folder)), no_dead_letter)
    await lessons.own_database.prepare()
    own = GatewayService(Settings(), no_dead_letter)
    own.client = ServiceClient(Direct(lessons), own.breakers)
    own.pages = ClientSession()
    node = Node(settings=own.config, roles=frozenset())
    node.service = own
    app = web.Application()
    app[NODE] = node
    site.setup(app)
    for module in (pages, service, circuit_breakers, services_status, metrics):
        app.add_routes(module.routes)
    app.add_routes(routes_of(own))
    own.has_started.set()
    own.replies.positioned.set()
    async with worker(folder) as others, TestServer(app) as server:
        assert others.port is not None
        for name in ("progress", "users", "teacher"):
            info = ServiceInfo(name=name, version="1", host="127.0.0.1", port=others.port, started_at=datetime.now(UTC))
            own.registry._leases.apply(info.instance.encode(), msgspec.json.encode(info), 1_000)
        yield server
    await own.clean_up_resources()
    await lessons.clean_up_resources()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """In a thread, for Schemathesis asks and waits."""
    started, done = threading.Event(), asyncio.Event()
    url = ""
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        nonlocal url
        async with gateway(folder) as server:
            url = str(server.make_url(""))
            started.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(_STARTED_SECONDS)
    yield url
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("openapi-services")) as address:
        yield address


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as kept:
        yield kept


def answers_as_the_document_says(path: str, method: str) -> Callable[..., None]:
    """The test of one operation."""

    @SCHEMA.include(path=path, method=method.upper()).parametrize()
    @settings(
        max_examples=_ASKS_PER_OPERATION,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def test(case: schemathesis.Case, url: str, session: requests.Session) -> None:
        # Of a POST an idempotency key may come with another body, which is refused.
        not_looked_at = [positive_data_acceptance] if method == "post" else []
        case.call_and_validate(base_url=url, session=session, allow_redirects=False, excluded_checks=not_looked_at)

    return test


for _path, _operations in DOCUMENT["paths"].items():  # Schemathesis gives all tests one id, which xdist runs once.
    for _method in _operations:
        _name = f"test_answers_are_as_the_document_says {_method} {_path}"
        globals()[_name] = answers_as_the_document_says(_path, _method)


def test_a_lesson_and_what_is_known_of_its_user_are_as_the_document_says(url: str, session: requests.Session) -> None:
    create = SCHEMA["/lessons"]["POST"].Case(body={"title": "Phân số", "userId": USER})
    made = create.call_and_validate(base_url=url, session=session)
    assert made.status_code == 201
    for path, parameters in (
        ("/lessons/{lessonId}", {"lessonId": made.json()["lessonId"]}),
        ("/progress/{userId}", {"userId": USER}),
        ("/users/{userId}/activity", {"userId": USER}),
    ):
        case = SCHEMA[path]["GET"].Case(
            path_parameters=parameters, query={"limit": 2} if "userId" in parameters else {}
        )
        assert case.call_and_validate(base_url=url, session=session).status_code == 200
