"""What people and machines run before a change is taken: the same commands everywhere."""

import configparser
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _commands(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def test_a_pull_request_runs_commands_that_the_documents_show() -> None:
    commands = _commands(yaml.safe_load(_read(".github/workflows/pull-request.yml")))
    shown = _read("README.md") + _read("CONTRIBUTING.md")
    assert commands
    assert [command for command in commands if not re.search(rf"^{re.escape(command)}\b", shown, re.MULTILINE)] == []


def test_a_pull_request_runs_all_that_ci_runs() -> None:
    commands = _commands(yaml.safe_load(_read(".github/workflows/pull-request.yml")))
    of_ci = re.findall(r"^(?:exec )?(make \S+)$", _read(".ci/run"), re.MULTILINE)
    assert of_ci == ["make test", "make faults-ci"]
    assert set(of_ci) <= set(commands)


def test_a_pull_request_is_tried_with_every_python_that_is_named() -> None:
    matrix = yaml.safe_load(_read(".github/workflows/pull-request.yml"))["jobs"]["unit"]["strategy"]["matrix"]["python"]
    first, last = re.search(r"Python (3\.\d+) to (3\.\d+)", _read("CONTRIBUTING.md")).groups()  # type: ignore[union-attr]
    assert (matrix[0], matrix[-1]) == (first, last)


def test_a_commit_is_checked_by_the_same_command() -> None:
    (repository,) = yaml.safe_load(_read(".pre-commit-config.yaml"))["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == ["make check"]


def test_all_these_commands_can_be_made() -> None:
    commands = [*_commands(yaml.safe_load(_read(".github/workflows/pull-request.yml"))), "make check"]
    for command in commands:
        subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_editors_wrap_where_ruff_does() -> None:
    editor = configparser.ConfigParser()
    editor.read_string("[top]\n" + _read(".editorconfig"))
    assert f"line-length = {editor['*']['max_line_length']}\n" in _read("ruff.toml")
