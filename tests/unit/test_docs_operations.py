"""docs/operations.md says what the code does: settings, topics, states, checks, exit codes, metrics, messages."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec
import pytest
from aiohttp import web
from prometheus_client.core import Metric

from emis_streams import topics
from emis_streams.engine import fatal
from emis_streams.lag_report import State
from emis_streams.node import NODE
from emis_streams.resources import Usage
from emis_streams.services.gateway import GatewayService
from emis_streams.settings import Settings
from tests.integration.service_rig import no_dead_letter
from tests.pages import ToldLag, a_node, a_report
from tests.unit.test_docs import OPERATIONS, README, ROOT, code_in
from tests.unit.test_health_checks import a_follower, an_ingest
from tests.unit.test_health_endpoints import Told
from web import PAGES, circuit_breakers, health_checks, limits, metrics, service, services_status


def section(title: str) -> str:
    """The text below a heading, up to the next one of the same level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {title!r}"
    return found[1]


def cells(text: str) -> Iterator[list[str]]:
    """The rows of the tables in a text, heads too."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


# Settings


def settings_table() -> str:
    """The table as it should be in docs/operations.md."""
    properties = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    rows = [
        f"| `{name.upper()}` | {_default(about['default'])} | {_allowed(about)} | {about['description']} |"
        for name, about in properties.items()
    ]
    return "\n".join(["| variable | default | allowed | what it does |", "| --- | --- | --- | --- |", *rows])


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else ""


def _allowed(about: dict[str, Any]) -> str:
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    if about.get("type") == "boolean":
        return "`false`, `true`"
    if "maximum" in about:
        return f"{about['minimum']:,} to {about['maximum']:,}"
    if "minimum" in about:
        return f"from {about['minimum']:,}"
    return "above 0" if "exclusiveMinimum" in about else ""


def test_the_table_of_settings_is_that_of_the_code() -> None:
    written = re.search(r"<!-- settings:.*?-->\n(.*?)\n<!-- /settings -->", OPERATIONS, re.DOTALL)
    assert written is not None
    assert written[1] == settings_table(), f"put this between the marks of docs/operations.md:\n{settings_table()}"


@pytest.mark.parametrize("text", [README, OPERATIONS], ids=["README", "operations"])
def test_settings_that_are_given_exist(text: str) -> None:
    names = {name.upper() for name in Settings.__struct_fields__}
    given = set(re.findall(r"(?<![\w-])([A-Z][A-Z_]{2,})=", text))
    assert given - names - {"ARGS", "INSTALL"} == set()


# The running system


def test_all_topics_are_listed_with_their_keys_and_nothing_else_is() -> None:
    rows = list(cells(section("Topics")))[1:]
    listed = {name: row[1].replace("\\", "") for row in rows for name in code_in(row[0])}
    keys = {topic.name: topic.key for topic in topics.all_topics()}
    keys[topics.CLASSES.changelog.replace("classes", "assignments")] = "TeacherId|AssignmentId"
    keys[topics.DEAD_LETTER] = "as it came"
    assert listed == keys


def test_all_states_of_lag_are_explained() -> None:
    explained = [row[0].strip("`") for row in cells(section("Lag")) if row[0].strip("`").isupper()]
    assert sorted(explained) == sorted(get_args(State))


def test_all_checks_of_health_are_explained() -> None:
    node = a_node(None, ToldLag(a_report()))
    view = health_checks.View(
        now=node.started_at,
        settings=node.settings,
        report=a_report(),
        ingest=an_ingest(),
        read_model=a_follower("read-model"),
        replica=a_follower("replica"),
        has_reader=True,
        latencies={name: node.sync_latency["read-model"].summary(0.0, 5.0) for name in ("read-model", "replica")},
        usage=Usage(1, 2, 3.0),
    )
    text = section("Probes and health")
    explained = {name for row in cells(text[text.index("| check |") :]) for name in code_in(row[0])}
    assert explained == set(health_checks.checks(view))


def test_all_exit_codes_are_explained() -> None:
    text = section("Start, stop, upgrade")
    assert [int(row[0]) for row in cells(text) if row[0].isdigit()] == [0, 1, 2, fatal.EXIT_FAILED, fatal.EXIT_STALLED]


def test_addresses_that_are_named_are_served() -> None:
    pages = (*PAGES, service, services_status, circuit_breakers)
    served = {route.path for page in pages for route in page.routes if isinstance(route, web.RouteDef)}
    named = {path for path in code_in(OPERATIONS + README) if re.fullmatch(r"/[a-z/-]+", path)}
    assert named
    assert named <= served


def test_all_metrics_are_explained_and_only_those() -> None:
    node = a_node(
        None,
        ToldLag(a_report()),
        ingest=Told(an_ingest()),
        read_model_follower=Told(a_follower("read-model")),
        replica_follower=Told(a_follower("replica")),
    )
    node.service = GatewayService(Settings(), no_dead_letter)
    node.service.breakers.of("lessons", "create-lesson")
    app = web.Application()
    app[NODE] = node
    limits.setup(app)
    metrics.setup(app)
    given = {_exposed(family) for of in (metrics.REGISTRY, metrics.LAG) for family in app[of].collect()}
    text = section("Metrics and alarms")
    explained = [name for row in cells(text) for name in code_in(row[0])]
    assert sorted(explained) == sorted(_ours(given))
    in_alarms = re.findall(r"\b(?:emis|kafka)_\w+", text)
    assert {re.sub("_(sum|count)$", "", name) for name in in_alarms if name not in explained} <= set(explained)


def _exposed(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def _ours(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(("emis_", "kafka_"))]


def test_messages_that_are_explained_are_in_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "emis_streams").rglob("*.py"))
    rows = list(cells(section("Messages and the way out")))[1:]
    assert len(rows) > 10
    for row in rows:
        message = re.findall(r"`([^`]+)`", row[0])[-1]
        assert message in code, f"no message says {message!r} any more"
