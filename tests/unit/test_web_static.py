"""What browsers get beside the pages: ours, or vendored with licence and hash; nothing from elsewhere."""

import hashlib
import re
from pathlib import Path

import msgspec
import pytest

import web

FOLDER = Path(web.__file__).parent
TESTS = Path(__file__).parents[1] / "e2e" / "vendor"
LISTS = {FOLDER / "static" / "vendor": FOLDER / "static" / "VENDORED.json", TESTS: TESTS / "VENDORED.json"}
"""Folders of vendored files, of the pages and of the browser tests, and what lists each."""
PACKAGES = [
    (folder, package)
    for folder, about in LISTS.items()
    for package in msgspec.json.decode(about.read_bytes())["packages"]
]
FILES = [(folder, file) for folder, package in PACKAGES for file in package["files"]]
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))


@pytest.mark.parametrize(("folder", "file"), FILES, ids=lambda part: part["file"] if isinstance(part, dict) else "")
def test_a_vendored_file_is_the_one_that_was_taken(folder: Path, file: dict[str, str]) -> None:
    assert hashlib.sha256((folder / file["file"]).read_bytes()).hexdigest() == file["sha256"]


@pytest.mark.parametrize("folder", LISTS, ids=lambda folder: folder.parent.name)
def test_every_vendored_file_is_listed(folder: Path) -> None:
    listed = {file["file"] for of, file in FILES if of == folder}
    assert {path.name for path in folder.iterdir()} - {"VENDORED.json"} == listed


@pytest.mark.parametrize(
    ("folder", "package"), PACKAGES, ids=lambda part: part["name"] if isinstance(part, dict) else ""
)
def test_a_vendored_package_has_its_licence_text(folder: Path, package: dict[str, str]) -> None:
    assert package["licence"]
    assert package["version"]
    assert len((folder / package["licenceFile"]).read_text()) > 300


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_needs_nothing_that_the_security_policy_forbids(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"(src|href|action)=\"(https?:)?//", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|hx-on|javascript:", text)
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_heading_cell_says_what_it_heads(template: Path) -> None:
    assert [cell for cell in re.findall(r"<th\b[^>]*>", template.read_text()) if "scope=" not in cell] == []


def test_the_styles_take_nothing_from_elsewhere() -> None:
    assert re.findall(r"url\(\"(?!vendor/)", (FOLDER / "static" / "site.css").read_text()) == []
