"""What browsers get beside the pages: ours, or vendored with licence and hash; nothing from elsewhere."""

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession

import web
from tests.pages import ToldLag, a_node, a_report, serving
from web import assets

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


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    node = a_node(None, ToldLag(a_report()))
    node.roles = frozenset({"ingest"})
    async with serving(node) as server, ClientSession(server.make_url("/"), auto_decompress=False) as session:
        yield session


@pytest.mark.parametrize("name", sorted(assets.assets()))
async def test_a_file_is_never_asked_for_twice(client: ClientSession, name: str) -> None:
    response = await client.get(assets.static_url(name), headers={"Accept-Encoding": "identity"})
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert await response.read() == (FOLDER / "static" / name).read_bytes()


@pytest.mark.parametrize("before", ["/static/", "/static/0123456789ab/"])
async def test_a_file_of_another_version_is_asked_for_each_time_and_not_sent_again(
    client: ClientSession, before: str
) -> None:
    response = await client.get(f"{before}site.css")
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-cache")
    known = {"If-None-Match": response.headers["ETag"]}
    assert (await client.get(f"{before}site.css", headers=known)).status == 304


@pytest.mark.parametrize("name", ["site.css", "charts.js", "vendor/uplot.min.js"])
async def test_texts_are_compressed_for_who_takes_it(client: ClientSession, name: str) -> None:
    response = await client.get(assets.static_url(name), headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["Vary"] == "Accept-Encoding"
    assert len(await response.read()) < (FOLDER / "static" / name).stat().st_size / 2


async def test_fonts_are_compressed_already(client: ClientSession) -> None:
    font = assets.static_url("vendor/be-vietnam-pro-latin-400-normal.woff2")
    response = await client.get(font, headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Type"] == "font/woff2"
    assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("name", ["nothing.css", "../pages.py", "vendor", "0123456789ab/", "%2e%2e/pages.py", ""])
async def test_nothing_else_is_served(client: ClientSession, name: str) -> None:
    assert (await client.get(f"/static/{name}")).status == 404


def test_the_stamp_is_of_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stamped(content: str) -> str:
        (tmp_path / "site.css").write_text(content)
        assets.assets.cache_clear()
        assets.stamp.cache_clear()
        return assets.stamp()

    monkeypatch.setattr(assets, "STATIC", tmp_path)
    try:
        first = stamped("a { color: red }")
        assert stamped("a { color: blue }") != first
        assert stamped("a { color: red }") == first
    finally:
        assets.assets.cache_clear()
        assets.stamp.cache_clear()


async def test_only_a_page_with_a_chart_loads_what_draws_charts(client: ClientSession) -> None:
    with_charts = {"/": True, "/consumer-lag": True, "/health": False, "/nothing/here": False}
    for path, has in with_charts.items():
        page = await (await client.get(path, headers={"Accept": "text/html", "Accept-Encoding": "identity"})).text()
        assert ("uplot.min.js" in page, "uplot.min.css" in page) == (has, has)
