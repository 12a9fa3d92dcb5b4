"""What browsers get beside the pages: ours, or vendored with licence and hash; nothing from elsewhere."""

import hashlib
import re
from pathlib import Path

import msgspec
import pytest

import web

FOLDER = Path(web.__file__).parent
VENDOR = FOLDER / "static" / "vendor"
PACKAGES = msgspec.json.decode((FOLDER / "static" / "VENDORED.json").read_bytes())["packages"]
FILES = [file for package in PACKAGES for file in package["files"]]
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file["file"])
def test_a_vendored_file_is_the_one_that_was_taken(file: dict[str, str]) -> None:
    assert hashlib.sha256((VENDOR / file["file"]).read_bytes()).hexdigest() == file["sha256"]


def test_every_vendored_file_is_listed() -> None:
    assert {path.name for path in VENDOR.iterdir()} == {file["file"] for file in FILES}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package["name"])
def test_a_vendored_package_has_its_licence_text(package: dict[str, str]) -> None:
    assert package["licence"]
    assert package["version"]
    assert len((VENDOR / package["licenceFile"]).read_text()) > 300


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
