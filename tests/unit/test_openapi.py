"""`docs/openapi.yaml` says what the code does: paths, schemas and examples."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

import emis_streams
from tests.pages import NOBODY, ToldLag, a_history, a_node, a_report, filled_model, serving
from tests.pages import TEACHER as A_TEACHER
from tests.unit.test_health_endpoints import node
from web.openapi import schemas
from web.site import PAGES

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
REGISTRY = Registry().with_resource("urn:openapi", Resource(DOCUMENT, DRAFT202012))


def errors(name: str, value: Any) -> list[str]:
    schema = {"$ref": f"urn:openapi#/components/schemas/{name}"}
    checker = Draft202012Validator(schema, registry=REGISTRY, format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(value)]


def test_it_is_valid_openapi() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == emis_streams.__version__


def test_its_paths_are_those_that_are_registered() -> None:
    registered = {_in_camel(route.path) for page in PAGES for route in page.routes if isinstance(route, web.RouteDef)}
    assert set(DOCUMENT["paths"]) == {path for path in registered if not path.startswith("/static/")}


def _in_camel(path: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), path.replace(":[^/]+", ""))


def test_its_schemas_are_those_of_the_structs() -> None:
    written = DOCUMENT["components"]["schemas"]
    for name, schema in schemas().items():
        assert written[name] == schema, f"{name} differs: run scripts/write-openapi-schemas"
    assert set(written) - schemas().keys() == {"Id", "AnyId", "Problem", "Overview"}


EXAMPLES = {
    "Teacher": "TeacherDetail",
    "Class": "ClassDetail",
    "Unknown": "Problem",
    "Health": "HealthReport",
    "ConsumerLag": "ConsumerLag",
}


@pytest.mark.parametrize(("example", "schema"), EXAMPLES.items())
def test_its_examples_are_as_its_schemas_say(example: str, schema: str) -> None:
    assert errors(schema, DOCUMENT["components"]["examples"][example]["value"]) == []


def test_every_example_is_checked() -> None:
    assert DOCUMENT["components"]["examples"].keys() == EXAMPLES.keys()


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/health", "HealthReport"),
        ("/livez", "LiveReport"),
        ("/readyz", "ReadyReport"),
        ("/startupz", "ReadyReport"),
        ("/info", "InfoReport"),
        ("/api/consumer-lag", "ConsumerLag"),
        ("/", "Overview"),
        ("/nowhere", "Problem"),
        ("/api/teachers/nobody", "Problem"),
    ],
)
async def test_answers_are_as_the_schemas_say(path: str, schema: str) -> None:
    told = node(lag=ToldLag(a_report(behind=True), a_history()))
    async with serving(told) as server, ClientSession() as session, session.get(server.make_url(path)) as response:
        assert errors(schema, await response.json(content_type=None)) == []


async def test_a_teacher_and_a_class_are_as_the_schemas_say(tmp_path: Path) -> None:
    async with (
        filled_model(tmp_path) as model,
        serving(a_node(model, ToldLag(a_report()))) as server,
        ClientSession() as session,
    ):
        async with session.get(server.make_url(f"/api/teachers/{A_TEACHER}")) as response:
            teacher = await response.json()
        assert errors("TeacherDetail", teacher) == []
        known = next(c["classId"] for c in teacher["classAssignments"] if c["known"] and not c["deleted"])
        async with session.get(server.make_url(f"/api/classes/{known}")) as response:
            assert errors("ClassDetail", await response.json()) == []
        async with session.get(server.make_url(f"/api/teachers/{NOBODY}")) as response:
            assert (response.status, errors("Problem", await response.json(content_type=None))) == (404, [])
