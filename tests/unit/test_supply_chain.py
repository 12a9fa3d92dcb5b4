"""Packages: pinned with hashes wherever they are installed, with licences that are allowed, and listed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
RUNTIME = ROOT / "requirements" / "runtime.txt"


def pinned(path: Path) -> dict[str, list[str]]:
    """The hashes of each requirement, by its pin."""
    joined = re.sub(r"\\\n\s*", "", path.read_text())
    lines = [line for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]
    return {line.split()[0]: re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line) for line in lines}


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_package_is_pinned_with_hashes(path: Path) -> None:
    found = pinned(path)
    assert found
    for pin, hashes in found.items():
        assert re.fullmatch(r"[A-Za-z0-9][\w.-]*(\[[\w,-]+\])?==[\w.]+", pin), pin
        assert hashes, pin


def test_development_runs_with_the_versions_of_production() -> None:
    assert set(pinned(RUNTIME)) <= set(pinned(ROOT / "requirements" / "dev.txt"))


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_packages_are_installed_by_their_hashes_only(name: str) -> None:
    text = re.sub(r"\\\n\s*", "", (ROOT / name).read_text())
    installs = re.findall(r"pip (?:install|sync)[^&\n]*", text)
    assert len(installs) >= 3
    for line in installs:
        assert "--require-hashes" in line or "--no-deps" in line, line


def test_the_licences_of_what_runs_in_production_are_allowed() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "licences"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) == len(pinned(RUNTIME))


def test_the_bill_of_materials_lists_all_of_it_and_comes_out_the_same_each_time(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    command = re.search(r"cyclonedx-py (.*) --output-file \S+ (\S+)", makefile)
    assert command is not None
    tool = [sys.executable, "-m", "cyclonedx_py", *command[1].split()]
    made = []
    for name in ("first", "second"):
        subprocess.run([*tool, "--output-file", str(tmp_path / name), command[2]], cwd=ROOT, check=True)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    components = json.loads(made[0])["components"]
    assert {f"{c['name']}=={c['version']}" for c in components} == {re.sub(r"\[.*\]", "", p) for p in pinned(RUNTIME)}
