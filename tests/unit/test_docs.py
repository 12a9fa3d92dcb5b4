"""What the documents say is so: commands, links, paths, decisions, the examples of the README."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

import emis_streams
from emis_streams.cli import main
from emis_streams.producer import records_of
from tests.pages import TEACHER

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


def code_in(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


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
