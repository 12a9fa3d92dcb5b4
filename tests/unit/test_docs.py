"""What the documents say is so: settings, commands, links, paths, topics, states, metrics, messages, examples."""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import pytest
from aiohttp import web
from prometheus_client.core import Metric

import emis_streams
from emis_streams import topics
from emis_streams.cli import main
from emis_streams.engine import fatal
from emis_streams.lag_report import State
from emis_streams.node import NODE
from emis_streams.producer import records_of
from emis_streams.settings import Settings
from tests.pages import TEACHER, ToldLag, a_node, a_report
from tests.unit.test_health_checks import a_follower, an_ingest
from tests.unit.test_health_endpoints import Told
from web import PAGES, health_checks, metrics
from web.resources import Usage

ROOT = Path(__file__).parents[2]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def section(title: str, text: str = OPERATIONS) -> str:
    """The text below a heading, up to the next one of the same level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {title!r}"
    return found[1]


def cells(text: str) -> Iterator[list[str]]:
    """The rows of the tables in a text, without their heads' rules."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code_in(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


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
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else ""


def _allowed(about: dict[str, Any]) -> str:
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
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


# Commands


def commands_in(text: str) -> set[str]:
    """Every `emis-streams …` in code; a text may be broken over two lines."""
    joined = re.sub(r"\\\n\s*", "", text)
    inline = re.findall(r"(?<!`)`(?:[A-Z_]+=\S+ )*(emis-streams [^`]+)`(?!`)", joined)
    blocks = re.findall(r"^```(?:sh|text|ini)\n(.*?)^```", joined, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    in_blocks = [found[1] for line in lines if (found := re.search(r"(?<![\w/@.-])(emis-streams [^#)|<>]+)", line))]
    return {" ".join(command.split()) for command in (*inline, *in_blocks)} - {"emis-streams …"}


def _resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        sub = command.get_command(context, words[0])
        assert sub is not None, f"emis-streams has no {words[0]!r}"
        command, words = sub, words[1:]
    return command, words


@documents
def test_commands_and_their_options_exist(document: Path) -> None:
    for text in commands_in(document.read_text()):
        command, words = _resolve(shlex.split(text)[1:])
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        assert options - known - {"--help", "--version"} == set(), text


def test_the_commands_that_an_operator_needs_are_named() -> None:
    named = {" ".join(text.split()[1:2]) for text in commands_in(README + OPERATIONS)}
    assert {"up", "down", "worker", "topics", "generate", "produce", "sync", "lag", "replica", "dead-letters"} <= named


@documents
def test_targets_of_make_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    used = re.findall(r"(?:`|^)(?:[A-Z_]+=\S+ )*make ([a-z-]+)", text, re.MULTILINE)
    assert set(used) <= targets


# Links and paths


@documents
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", document.read_text()):
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text()), target


def anchors(text: str) -> set[str]:
    """What links to headings are made of."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@documents
def test_paths_of_the_project_exist(document: Path) -> None:
    folders = "emis_streams|agents|tables|web|tests|docs|benchmarks|scripts|requirements"
    for text in code_in(document.read_text()):
        path = re.fullmatch(rf"((?:{folders})/[\w./-]*)(?:::\w+)?", text)
        assert path is None or (ROOT / path[1]).exists(), text


@documents
def test_no_document_names_a_place_of_one_machine(document: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:root|home|work|tmp)/", document.read_text()) == []


def test_every_decision_is_listed_with_its_title() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    listed = re.findall(r"^- \[(.+?)\]\((.+?)\)", index, re.MULTILINE)
    assert listed == [(path.read_text().splitlines()[0].removeprefix("# "), path.name) for path in DECISIONS]


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_context_decision_and_consequence_under_its_number(decision: Path) -> None:
    text = decision.read_text()
    assert text.startswith(f"# {decision.name[:4]} ")
    assert [line for line in text.splitlines() if line.startswith("## ")][:3] == [
        "## Context",
        "## Decision",
        "## Consequence",
    ]


def test_the_changelog_has_this_version() -> None:
    assert f"\n## [{emis_streams.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# What docs/operations.md says of the running system


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
    served = {route.path for page in PAGES for route in page.routes if isinstance(route, web.RouteDef)}
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
    app = web.Application()
    app[NODE] = node
    metrics.setup(app)
    given = {_exposed(family) for family in app[metrics.REGISTRY].collect()}
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


# Examples of the README


def test_the_event_that_the_readme_sends_is_as_the_contract_says() -> None:
    line = re.search(r'^(\{"eventId".*\})$', README, re.MULTILINE)
    assert line is not None
    filled = line[1].replace("$(date -u +%FT%TZ)", "2026-09-05T07:00:00Z").replace("$teacher", TEACHER)
    assert [record.contract.topic for record in records_of([filled.encode()])] == ["emis.class.created"]


def test_the_producer_of_the_readme_sends_an_event_that_is_as_the_contract_says() -> None:
    block = re.search(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block[1], "README.md", "exec"), names)
    (record,) = records_of([names["event"]])
    assert record.contract.topic == "emis.class.updated"
    assert record.key == names["event"]["classId"].encode()
