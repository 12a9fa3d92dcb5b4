"""Whatever is asked of the real site: answers are as `docs/openapi.yaml` says, and none is a 5xx by mistake."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings

from tests.pages import (
    GONE_TEACHER,
    HOMEROOM_CLASS,
    TEACHER,
    ToldLag,
    a_history,
    a_node,
    a_report,
    filled_model,
    serving,
)
from tests.unit.test_health_checks import a_follower
from tests.unit.test_health_endpoints import Told
from tests.unit.test_openapi import DOCUMENT

SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
_STARTED_SECONDS = 30
_ASKS_PER_OPERATION = 40
"""Of each kind, good and bad, and the examples of the document."""
KNOWN = {"teacherId": (TEACHER, GONE_TEACHER), "classId": (HOMEROOM_CLASS,)}


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """In a thread, for Schemathesis asks and waits."""
    started, done = threading.Event(), asyncio.Event()
    url = ""
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        nonlocal url
        told = ToldLag(a_report(), a_history())
        async with (
            filled_model(folder) as model,
            serving(a_node(model, told, read_model_follower=Told(a_follower("read-model")))) as server,
        ):
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
    with site(tmp_path_factory.mktemp("openapi")) as address:
        yield address


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as kept:
        yield kept


def answers_as_the_document_says(path: str) -> Callable[..., None]:
    """The test of one path."""

    @SCHEMA.include(path=path).parametrize()
    @settings(
        max_examples=_ASKS_PER_OPERATION,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def test(case: schemathesis.Case, url: str, session: requests.Session) -> None:
        case.call_and_validate(base_url=url, session=session, allow_redirects=False)

    return test


for _path in DOCUMENT["paths"]:  # Schemathesis gives the tests of all paths one id, and pytest-xdist runs each id once.
    globals()[f"test_answers_are_as_the_document_says {_path}"] = answers_as_the_document_says(_path)


@pytest.mark.parametrize(
    ("path", "parameter"), [(path, name) for path in DOCUMENT["paths"] for name in KNOWN if f"{{{name}}}" in path]
)
def test_answers_about_what_is_there_are_as_the_document_says(
    path: str, parameter: str, url: str, session: requests.Session
) -> None:
    for known in KNOWN[parameter]:
        for accept in ("application/json", "text/html"):
            operation = SCHEMA[path]["GET"]
            case = operation.Case(path_parameters={parameter: known}, headers={"Accept": accept})
            response = case.call_and_validate(base_url=url, session=session, allow_redirects=False)
            assert response.status_code == (410 if known == GONE_TEACHER else 200)
