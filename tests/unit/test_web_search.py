"""Search, lists of teachers and classes, and the teachers of a class: asked over HTTP, on a real read model."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from emis_streams.read_model.model import ReadModel
from tests.pages import (
    EMPTY_TEACHER,
    GONE_CLASS,
    GONE_TEACHER,
    HOMEROOM_CLASS,
    NOBODY,
    TEACHER,
    UNKNOWN_CLASS,
    ToldLag,
    a_node,
    a_report,
    filled_model,
    homeroom_class,
    keep,
    serving,
)

HTML = {"Accept": "text/html"}


@asynccontextmanager
async def asking(model: ReadModel | None) -> AsyncIterator[ClientSession]:
    async with (
        serving(a_node(model, ToldLag(a_report()))) as server,
        ClientSession(server.make_url("/")) as client,
    ):
        yield client


@pytest.fixture(scope="module")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadModel]:
    async with filled_model(tmp_path_factory.mktemp("search")) as filled:
        yield filled


@pytest.fixture(scope="module")
async def client(model: ReadModel) -> AsyncIterator[ClientSession]:
    async with asking(model) as session:
        yield session


async def answer(client: ClientSession, path: str, **query: Any) -> dict[str, Any]:
    async with client.get(path, params=query) as response:
        assert response.status == 200, await response.text()
        found: dict[str, Any] = await response.json()
        return found


async def page(client: ClientSession, path: str, **query: Any) -> str:
    async with client.get(path, params={"lang": "en", **query}, headers=HTML) as response:
        assert response.status == 200
        return await response.text()


def names(found: dict[str, Any]) -> list[str]:
    return [one.get("fullName") or one["className"] for one in found["results"]]


async def test_a_teacher_is_found_without_accents_by_json_and_page(client: ClientSession) -> None:
    for query in ("anh nguyet", "NGUYET nguy", "ánh nguyệt"):
        found = await answer(client, "/api/search", q=query)
        assert (names(found), found["complete"], found["nextAfter"]) == (["Nguyễn Thị Ánh Nguyệt"], True, None)
        assert (found["source"], found["ageSeconds"], found["stale"]) == ("local", 0.4, False)
        shown = await page(client, "/search", q=query)
        assert f'href="/teachers/{TEACHER}"' in shown
        assert "Nguyễn Thị Ánh Nguyệt" in shown


async def test_what_finds_nothing_as_typed_is_searched_without_its_title(client: ClientSession) -> None:
    found = await answer(client, "/api/search", q="cô Ánh Nguyệt")
    assert names(found) == ["Nguyễn Thị Ánh Nguyệt"]
    after = await answer(client, "/api/teachers", limit=1, q="")
    assert names(await answer(client, "/api/teachers", q="cô Ánh Nguyệt", after=after["nextAfter"])) != []
    assert names(await answer(client, "/api/search", q="lớp Ánh Bình")) == []


async def test_the_page_without_html_is_the_json(client: ClientSession) -> None:
    for of in ("search", "teachers", "classes"):
        assert await answer(client, f"/{of}", q="chuyen van") == await answer(client, f"/api/{of}", q="chuyen van")


async def test_what_tells_namesakes_apart_is_on_the_page(client: ClientSession) -> None:
    shown = await page(client, "/search", q="12 chuyen van")
    for text in (
        "Khối 12",
        "2026-2027",
        "34 pupils",
        "Homeroom teacher: Nguyễn Thị Ánh Nguyệt",
        f"School {NOBODY[:8]}",
    ):
        assert text in shown, text
    assert "Ngữ văn" in await page(client, "/search", q="anh nguyet")


@pytest.mark.parametrize(
    "text",
    [
        *(TEACHER, TEACHER.upper(), f" {{{TEACHER}}} ", TEACHER.replace("-", ""), f"urn:uuid:{TEACHER}"),
        f"http://127.0.0.1:6066/teachers/{TEACHER.upper()}/?lang=vi",
        f"emis.example.vn/api/teachers/{TEACHER}",
    ],
)
async def test_an_id_in_any_form_or_an_address_leads_to_the_page(client: ClientSession, text: str) -> None:
    async with client.get("/search", params={"q": text}, headers=HTML, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, f"/teachers/{TEACHER}")


@pytest.mark.parametrize(
    ("id_", "there"),
    [
        (HOMEROOM_CLASS, f"/classes/{HOMEROOM_CLASS}"),
        (GONE_TEACHER, f"/teachers/{GONE_TEACHER}"),
        (GONE_CLASS, f"/classes/{GONE_CLASS}"),
    ],
)
async def test_ids_of_classes_and_of_deleted_ones_lead_to_their_pages(
    client: ClientSession, id_: str, there: str
) -> None:
    async with client.get("/search", params={"q": id_}, headers=HTML, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, there)


async def test_the_id_of_a_school_finds_what_is_of_it(client: ClientSession) -> None:
    found = await answer(client, "/api/search", q=NOBODY.upper())
    assert names(found) == ["Lê Quý Đôn", "Nguyễn Thị Ánh Nguyệt", "Lớp 12 Chuyên Văn"]
    assert names(await answer(client, "/api/search", q=f"don {NOBODY}")) == ["Lê Quý Đôn"]
    assert "Lê Quý Đôn" in await page(client, "/search", q=NOBODY)


async def test_an_id_finds_its_teacher_or_class_as_json(client: ClientSession) -> None:
    assert names(await answer(client, "/api/search", q=TEACHER)) == ["Nguyễn Thị Ánh Nguyệt"]
    assert names(await answer(client, "/api/classes", q=HOMEROOM_CLASS)) == ["Lớp 12 Chuyên Văn"]
    assert names(await answer(client, "/api/search", q=f"http://127.0.0.1:6066/teachers/{TEACHER.upper()}/")) == [
        "Nguyễn Thị Ánh Nguyệt"
    ]
    for id_ in (GONE_TEACHER, GONE_CLASS, UNKNOWN_CLASS, "ffffffff-ffff-4fff-bfff-fffffffffff0"):
        assert names(await answer(client, "/api/search", q=id_)) == []
    assert names(await answer(client, "/api/classes", q=TEACHER)) == []


async def test_results_can_be_narrowed_to_teachers_or_classes(client: ClientSession) -> None:
    shown = await page(client, "/search", q="van & 10")
    for path in ("/search", "/teachers", "/classes"):
        assert f'<a href="{path}?q=van%20%26%2010"' in shown
    assert '<nav class="kinds"' not in await page(client, "/teachers")


async def test_a_deleted_teacher_is_not_found_by_name(client: ClientSession) -> None:
    assert names(await answer(client, "/api/search", q="Trần Văn Cũ")) == []
    assert "Nothing was found" in await page(client, "/search", q="Trần Văn Cũ")


async def test_a_renamed_class_is_found_by_its_new_name_at_once(tmp_path: Path) -> None:
    async with filled_model(tmp_path) as model, asking(model) as client:
        assert names(await answer(client, "/api/search", q="chuyen van")) == ["Lớp 12 Chuyên Văn"]
        await keep(model, [homeroom_class(datetime.now(UTC), "Lớp 12 Chuyên Sử")])
        assert names(await answer(client, "/api/search", q="chuyen van")) == []
        assert names(await answer(client, "/api/search", q="chuyen su")) == ["Lớp 12 Chuyên Sử"]


@pytest.mark.parametrize("of", ["teachers", "classes"])
async def test_pages_of_a_list_follow_each_other_in_natural_order(client: ClientSession, of: str) -> None:
    whole = await answer(client, f"/api/{of}", limit=100)
    assert whole["nextAfter"] is None
    found, query = [], {"limit": 7}
    while True:
        part = await answer(client, f"/api/{of}", **query)
        assert len(part["results"]) <= 7
        found += part["results"]
        if part["nextAfter"] is None:
            break
        query["after"] = part["nextAfter"]
    assert found == whole["results"]
    assert {one["kind"] for one in found} == {"teacher" if of == "teachers" else "class"}
    if of == "classes":
        assert names(whole)[:4] == ["Lớp 10A1", "Lớp 10A2", "Lớp 10A3", "Lớp 10A4"]


async def test_the_pages_of_a_list_are_linked(client: ClientSession) -> None:
    shown, seen = await page(client, "/classes", limit=15), set()
    while True:
        seen |= set(re.findall(r'href="(/classes/[^"]+)"', shown))
        following = re.search(r'href="\?([^"]+)" rel="next"', shown)
        if following is None:
            break
        async with client.get(f"/classes?{following[1].replace('&amp;', '&')}", headers=HTML) as response:
            shown = await response.text()
        assert "First page" in shown
    assert len(seen) == 41


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/teachers", "/classes", "/search", "/health", "/consumer-lag", "/nowhere"),
        *(f"/teachers/{TEACHER}", f"/classes/{HOMEROOM_CLASS}", f"/teachers/{NOBODY}"),
    ],
)
async def test_the_box_is_on_every_page(client: ClientSession, path: str) -> None:
    async with client.get(path, headers=HTML) as response:
        assert '<form class="search" action="/search" method="get"' in await response.text()


async def test_markup_in_a_query_stays_text(client: ClientSession) -> None:
    shown = await page(client, "/search", q='"><script>alert(1)</script>')
    assert "<script>alert" not in shown


async def test_a_query_without_words_finds_nothing_and_says_so(client: ClientSession) -> None:
    for query in ("---", "★", "   "):
        assert names(await answer(client, "/api/search", q=query)) == []
    assert names(await answer(client, "/api/teachers", q="***")) == []
    assert "first letters" in await page(client, "/search")


@pytest.mark.parametrize(
    ("query", "named"),
    [("", "'q'"), (f"q={'a' * 201}", "'q'"), ("q=a&limit=101", "'limit'"), ("q=a&after=x", "'after'")],
)
async def test_a_bad_query_is_refused_by_name(client: ClientSession, query: str, named: str) -> None:
    async with client.get(f"/api/search?{query}") as response:
        assert response.status == 400
        assert named in (await response.json())["detail"]


async def test_until_the_copy_has_caught_up_search_says_so(tmp_path: Path) -> None:
    async with filled_model(tmp_path) as model, asking(model) as client:
        model.caught_up = False
        for path in ("/api/search?q=an", "/teachers", "/api/classes"):
            async with client.get(path) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "2")
        async with client.get("/search?q=an&lang=en", headers=HTML) as response:
            assert (response.status, "Search is not ready" in await response.text()) == (503, True)


async def test_a_class_shows_all_its_teachers_once(client: ClientSession) -> None:
    found = await answer(client, f"/api/classes/{HOMEROOM_CLASS}/teachers")
    assert [(one["fullName"], one["isHomeroom"]) for one in found["teachers"]] == [("Nguyễn Thị Ánh Nguyệt", True)]
    (first, *_), _ = (await answer(client, "/api/classes"))["results"], None
    found = await answer(client, f"/api/classes/{first['classId']}/teachers")
    assert len(found["teachers"]) >= 6
    assert [one["isHomeroom"] for one in found["teachers"]] == [True] + [False] * (len(found["teachers"]) - 1)
    shown = await page(client, f"/classes/{first['classId']}")
    for one in found["teachers"]:
        assert f'<li><a href="/teachers/{one["teacherId"]}">{one["fullName"]}</a>' in shown
        assert all(role["subject"] in shown for role in one["roles"])


async def test_teachers_of_a_class_that_is_not_there(client: ClientSession) -> None:
    for class_id, status in ((GONE_CLASS, 410), (NOBODY, 404), ("x", 400)):
        async with client.get(f"/api/classes/{class_id}/teachers") as response:
            assert response.status == status


@pytest.mark.parametrize(
    ("path", "there"),
    [
        (f"/teachers/{TEACHER}/", f"/teachers/{TEACHER}"),
        (f"/classes/{HOMEROOM_CLASS}/?lang=en", f"/classes/{HOMEROOM_CLASS}?lang=en"),
        (f"/api/teachers/{EMPTY_TEACHER}//", f"/api/teachers/{EMPTY_TEACHER}"),
        ("/teachers/", "/teachers"),
        ("/search/?q=a%20b", "/search?q=a+b"),
        ("/health/", "/health"),
    ],
)
async def test_a_slash_at_the_end_leads_to_the_address_without_it(client: ClientSession, path: str, there: str) -> None:
    async with client.get(path, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (308, there)


@pytest.mark.parametrize("path", ["//evil.example/", "/nowhere/", "/teachers/a/b/", "//teachers/"])
async def test_a_slash_at_the_end_leads_nowhere_else(client: ClientSession, path: str) -> None:
    async with client.get(str(client._base_url).rstrip("/") + path, allow_redirects=False) as response:
        assert response.status == 404 or response.headers["Location"] == "/teachers"


@pytest.mark.parametrize("id_", [TEACHER.upper(), f"{{{TEACHER}}}", TEACHER.replace("-", ""), f"urn:uuid:{TEACHER}"])
async def test_an_id_in_any_form_is_the_page_itself(client: ClientSession, id_: str) -> None:
    async with client.get(f"/teachers/{id_}", headers=HTML) as response:
        assert (response.status, "Nguyễn Thị Ánh Nguyệt" in await response.text()) == (200, True)
