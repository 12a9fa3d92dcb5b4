"""Whatever is asked of gateway and services: answers are as `docs/openapi-services.yaml` says, none a 5xx by mistake.

The lesson service is real, on SQLite, and so are the pages of progress and users; between them and the gateway are no
brokers, but the requests themselves (tests/integration/test_services.py has processes and brokers).
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import requests
import schemathesis
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from schemathesis.specs.openapi.checks import positive_data_acceptance

from emis_streams.events import is_canonical_id
from emis_streams.services.client import ServiceClient
from emis_streams.services.gateway import GatewayService
from emis_streams.services.lessons import LessonService
from emis_streams.services.messages import Header, Request
from emis_streams.settings import Settings
from tests.integration.service_rig import no_dead_letter
from tests.openapi_site import answers_as_the_document_says, in_a_thread
from tests.unit.test_openapi_services import DOCUMENT
from tests.unit.test_service_pages import register, site_of
from tests.unit.test_user_pages import site_of_users
from tests.unit.test_user_rows import USER
from web.gateway import ROUTES
from web.problems import problem

SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
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

    async with site_of_users(folder) as app:
        app.router.add_get("/api/teachers/{id}", teacher)
        async with TestServer(app) as server:
            yield server


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[TestServer]:
    """Nothing is limited or broken off: that is not what is looked at here."""
    lessons = LessonService(Settings(data_dir=str(folder)), no_dead_letter)
    await lessons.own_database.prepare()
    own = GatewayService(Settings(), no_dead_letter)
    own.client = ServiceClient(Direct(lessons), own.breakers)
    own.pages = ClientSession()
    own.has_started.set()
    own.replies.positioned.set()
    async with worker(folder) as others, TestServer(site_of(own, ROUTES)) as server:
        assert others.port is not None
        for name in ("progress", "users", "teacher"):
            register(own, others.port, name)
        yield server
    await own.clean_up_resources()
    await lessons.clean_up_resources()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with in_a_thread(gateway(tmp_path_factory.mktemp("openapi-services"))) as address:
        yield address


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as kept:
        yield kept


for _path, _operations in DOCUMENT["paths"].items():
    for _method in _operations:
        globals()[f"test_answers_are_as_the_document_says {_method} {_path}"] = answers_as_the_document_says(
            SCHEMA.include(path=_path, method=_method.upper()),
            _ASKS_PER_OPERATION,
            # Of a POST an idempotency key may come with another body, which is refused.
            [positive_data_acceptance] if _method == "post" else [],
        )


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
