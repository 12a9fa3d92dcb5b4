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
import asyncio, importlib, json, sys

async def compose():
    return importlib.import_module(sys.argv[1])

app = asyncio.run(compose()).app
web = app.web.web_app
modules = lambda package: [name for name in sys.modules if name.startswith(package + ".")]
print(json.dumps({
    "agents": modules("agents"),
    "tables": modules("tables"),
    "pages": list({route.handler.__module__ for route in web.router.routes() if hasattr(route.handler, "__module__")}),
    "routes": [f"{r.method} {r.resource.canonical}" for r in web.router.routes() if r.method != "HEAD"],
    "running": list(app.agents),
    "kept": {t.name: [t.changelog_name, list(t.source_topics), t.partitions] for t in app.tables.values()},
}))
"""

SERVICES = ("teacher", *topics.SERVICES)
SUBJECTS = (*topics.SUBJECTS, *topics.LESSON_SUBJECTS)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each service is made of; composed in a process of its own, since importing it opens its databases."""
    told = {}
    for service in SERVICES:
        environment = {**os.environ, "SERVICE": service, "DATA_DIR": str(tmp_path_factory.mktemp(service))}
        root = "emis_streams.worker" if service == "teacher" else "emis_streams.service_worker"
        command = [sys.executable, "-c", _TELL, root]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        told[service] = json.loads(done.stdout)
    return told


def modules_in(package: str) -> set[str]:
    return {f"{package}.{file.stem}" for file in (ROOT / package).glob("*.py") if file.stem != "__init__"}


@pytest.mark.parametrize("package", ["emis_streams", "agents", "tables", "web"])
def test_packages_with_general_names_are_ours_and_no_others(package: str) -> None:
    imported = importlib.import_module(package).__file__
    assert imported is not None
    assert Path(imported) == ROOT / package / "__init__.py"


def test_every_module_of_agents_and_tables_runs_in_one_service(processes: Any) -> None:
    for package in ("agents", "tables"):
        imported = [module for told in processes.values() for module in told[package]]
        assert Counter(imported) == Counter(modules_in(package))


def test_every_subject_has_an_agent_and_a_table_of_its_name_in_its_service(processes: Any) -> None:
    for service, told in processes.items():
        subjects = {subject.name for subject in SUBJECTS if subject.service == service}
        for package in ("agents", "tables"):
            assert set(told[package]) == {f"{package}.{name}" for name in subjects}
        assert set(told["running"]) - {"requests"} == subjects


def test_every_table_has_the_changelog_and_the_sources_that_topics_declare(processes: Any) -> None:
    for service, told in processes.items():
        own = [subject for subject in SUBJECTS if subject.service == service]
        assert told["kept"] == {s.name: [s.changelog, list(s.events), topics.PARTITIONS] for s in own}


def test_every_web_module_with_routes_is_served(processes: Any) -> None:
    with_routes = {name for name in modules_in("web") if hasattr(importlib.import_module(name), "routes")}
    assert with_routes - {page for told in processes.values() for page in told["pages"]} == {
        "web.pages"
    }  # Static files.


def test_every_route_answers_at_one_place_only(processes: Any) -> None:
    for told in processes.values():
        assert [route for route, n in Counter(told["routes"]).items() if n > 1] == []
