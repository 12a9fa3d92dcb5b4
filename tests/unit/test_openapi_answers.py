"""Whatever is asked of the real site: answers are as `docs/openapi.yaml` says, and none is a 5xx by mistake."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import requests
import schemathesis
from aiohttp.test_utils import TestServer

from tests.openapi_site import answers_as_the_document_says, in_a_thread
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
_ASKS_PER_OPERATION = 40
"""Of each kind, good and bad, and the examples of the document."""
_WITHOUT_BROKERS = ("/api/dead-letters", "/dead-letters")
"""Addresses of what is read from the brokers, of which this site has none: here their answer is 503."""
KNOWN = {"teacherId": (TEACHER, GONE_TEACHER), "classId": (HOMEROOM_CLASS,)}


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[TestServer]:
    told = ToldLag(a_report(), a_history())
    async with (
        filled_model(folder) as model,
        serving(a_node(model, told, read_model_follower=Told(a_follower("read-model")))) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with in_a_thread(site(tmp_path_factory.mktemp("openapi"))) as address:
        yield address


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as kept:
        yield kept


for _path in DOCUMENT["paths"]:
    globals()[f"test_answers_are_as_the_document_says {_path}"] = answers_as_the_document_says(
        SCHEMA.include(path=_path),
        _ASKS_PER_OPERATION,
        [schemathesis.checks.not_a_server_error] if _path.startswith(_WITHOUT_BROKERS) else (),
    )


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
