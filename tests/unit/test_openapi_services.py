"""`docs/openapi-services.yaml` says what gateway and services answer: paths, methods and shapes."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from aiohttp import web
from openapi_spec_validator import validate

import emis_streams
from emis_streams.health_report import Check, HealthReport
from emis_streams.read_model.user_rows import Activity, UserLesson
from emis_streams.services.lessons import Lesson, Lessons, NewLesson
from web import activity, circuit_breakers, help, metrics, progress, service, services_status
from web.activity import Activities
from web.circuit_breakers import BreakerReport
from web.gateway import ROUTES
from web.progress import Progress
from web.services_status import RouteStatus

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi-services.yaml").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
PAGES = (service, circuit_breakers, services_status, help, metrics, progress, activity)


def in_camel(path: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), path.replace(":[^/]+", ""))


def test_it_is_valid_openapi() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == emis_streams.__version__


def test_its_paths_and_methods_are_those_that_are_routed() -> None:
    own = {(r.method, in_camel(r.path)) for page in PAGES for r in page.routes if isinstance(r, web.RouteDef)}
    routed = {(route.method, route.path) for route in ROUTES}
    written = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert written == own | routed


def test_every_route_says_that_it_may_be_refused_and_when_to_come_again() -> None:
    for route in ROUTES:
        answers = DOCUMENT["paths"][route.path][route.method.lower()]["responses"]
        for status in ("429", "503", "504"):
            name = answers[status]["$ref"].rpartition("/")[2]
            assert "Retry-After" in DOCUMENT["components"]["responses"][name]["headers"], (route.path, status)


def properties(schema: dict[str, Any]) -> set[str]:
    return set(schema["properties"])


@pytest.mark.parametrize(
    ("written", "struct"),
    [
        (SCHEMAS["NewLesson"], NewLesson),
        (SCHEMAS["Lesson"], Lesson),
        (DOCUMENT["paths"]["/lessons"]["get"]["responses"]["200"]["content"]["application/json"]["schema"], Lessons),
        (SCHEMAS["Progress"], Progress),
        (SCHEMAS["Progress"]["properties"]["lessons"]["items"], UserLesson),
        (SCHEMAS["Activities"], Activities),
        (SCHEMAS["Activities"]["properties"]["activities"]["items"], Activity),
        (SCHEMAS["CircuitBreaker"], BreakerReport),
        (SCHEMAS["RouteStatus"], RouteStatus),
        (SCHEMAS["HealthReport"], HealthReport),
        (SCHEMAS["HealthCheck"], Check),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_its_shapes_have_the_fields_of_the_structs(written: dict[str, Any], struct: type) -> None:
    fields = msgspec.structs.fields(struct)
    assert properties(written) == {field.encode_name for field in fields}
    assert set(written["required"]) == {field.encode_name for field in fields if field.required}
