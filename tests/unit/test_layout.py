"""The top-level packages are ours, and nothing that is in them is left out of the worker."""

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emis_streams import topics

ROOT = Path(__file__).parents[2]

_TELL = """
import json
from emis_streams import worker

routes = [route for page in worker.PAGES for route in page.routes if hasattr(route, "method")]
print(json.dumps({
    "agents": [module.__name__ for module in worker.AGENTS],
    "pages": [module.__name__ for module in worker.PAGES],
    "routes": [f"{route.method} {route.path}" for route in routes],
    "running": list(worker.app.agents),
    "tables": {t.name: [t.changelog_name, list(t.source_topics), t.partitions] for t in worker.app.tables.values()},
}))
"""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a worker is made of; composed in a process of its own, since importing it opens its databases."""
    environment = {**os.environ, "DATA_DIR": str(tmp_path_factory.mktemp("worker"))}
    told = subprocess.run([sys.executable, "-c", _TELL], env=environment, cwd=ROOT, capture_output=True, check=True)
    return json.loads(told.stdout)


def modules_in(package: str) -> set[str]:
    return {f"{package}.{file.stem}" for file in (ROOT / package).glob("*.py") if file.stem != "__init__"}


@pytest.mark.parametrize("package", ["emis_streams", "agents", "tables", "web"])
def test_packages_with_general_names_are_ours_and_no_others(package: str) -> None:
    imported = importlib.import_module(package).__file__
    assert imported is not None
    assert Path(imported) == ROOT / package / "__init__.py"


def test_every_agent_runs_in_the_worker(worker: Any) -> None:
    assert modules_in("agents") == set(worker["agents"])


def test_every_subject_has_an_agent_and_a_table_of_its_name(worker: Any) -> None:
    subjects = {subject.name for subject in topics.SUBJECTS}
    assert modules_in("agents") == {f"agents.{name}" for name in subjects}
    assert modules_in("tables") == {f"tables.{name}" for name in subjects}
    assert set(worker["running"]) == subjects


def test_every_table_has_the_changelog_and_the_sources_that_topics_declare(worker: Any) -> None:
    declared = {s.name: [s.changelog, list(s.events), topics.PARTITIONS] for s in topics.SUBJECTS}
    assert worker["tables"] == declared


def test_every_web_module_with_routes_is_served(worker: Any) -> None:
    with_routes = {name for name in modules_in("web") if hasattr(importlib.import_module(name), "routes")}
    assert with_routes == set(worker["pages"])


def test_every_route_answers_at_one_place_only(worker: Any) -> None:
    assert [route for route, n in Counter(worker["routes"]).items() if n > 1] == []
