"""A page that did not change is not sent again, and mostly not even made again."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import make_mocked_request

from emis_streams.read_model.model import ReadModel
from tests.pages import (
    HOMEROOM_CLASS,
    NOBODY,
    TEACHER,
    ToldLag,
    a_history,
    a_node,
    a_report,
    filled_model,
    homeroom_class,
    keep,
    serving,
)
from web import page_cache, pages
from web.conditional import etag_of, is_unchanged
from web.freshness import Freshness
from web.page_cache import PageCache, RenderedPage

HTML = {"Accept": "text/html", "Accept-Language": "en"}
TEACHER_PAGE, CLASS_PAGE = f"/teachers/{TEACHER}", f"/classes/{HOMEROOM_CLASS}"
OPERATORS_PAGES = ("/", "/health", "/consumer-lag")


@pytest.fixture
async def model(tmp_path: Path) -> AsyncIterator[ReadModel]:
    async with filled_model(tmp_path) as filled:
        yield filled


@pytest.fixture
def lag() -> ToldLag:
    return ToldLag(a_report(), a_history())


@pytest.fixture
async def client(model: ReadModel, lag: ToldLag) -> AsyncIterator[ClientSession]:
    async with serving(a_node(model, lag)) as server, ClientSession(server.make_url("/")) as session:
        yield session


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The second of operators' pages, as a test sets it."""
    now = [1]
    for module in ("overview", "lag_page", "health_page"):
        monkeypatch.setattr(f"web.{module}.this_second", lambda: f"second {now[0]}")
    return now


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Templates, in the order in which they were rendered."""
    found: list[str] = []
    render = aiohttp_jinja2.render_string

    def note(template: str, *arguments: Any) -> str:
        found.append(template)
        return render(template, *arguments)

    monkeypatch.setattr(pages.aiohttp_jinja2, "render_string", note)
    return found


async def etag(client: ClientSession, path: str, **headers: str) -> str:
    response = await client.get(path, headers={**HTML, **headers})
    assert response.status == 200
    return response.headers["ETag"]


async def again(client: ClientSession, path: str, known: str, **headers: str) -> int:
    """Status of asking for a page whose ETag is known."""
    response = await client.get(path, headers={**HTML, "If-None-Match": known, **headers})
    assert response.headers["Cache-Control"] == "private, no-cache"
    if response.status == 304:
        assert await response.read() == b""
        assert response.headers["ETag"] == known
        assert response.headers["Vary"] == "Accept, Accept-Encoding, Accept-Language, Page-Language, Cookie"
    return response.status


@pytest.mark.parametrize("path", [TEACHER_PAGE, CLASS_PAGE, *OPERATORS_PAGES])
async def test_a_page_that_did_not_change_is_neither_sent_nor_made_again(
    client: ClientSession, second: list[int], rendered: list[str], path: str
) -> None:
    known = await etag(client, path)
    assert len(rendered) == 1
    for _ in range(3):
        assert await again(client, path, known) == 304
    assert len(rendered) == 1


@pytest.mark.parametrize("path", [TEACHER_PAGE, CLASS_PAGE, *OPERATORS_PAGES])
async def test_what_many_look_at_is_made_once(
    client: ClientSession, second: list[int], rendered: list[str], path: str
) -> None:
    first = await (await client.get(path, headers=HTML)).read()
    second_reader = await (await client.get(path, headers={**HTML, "Accept-Encoding": "identity"})).read()
    assert first == second_reader
    assert len(rendered) == 1


@pytest.mark.parametrize("path", OPERATORS_PAGES)
async def test_an_operators_page_is_a_new_one_each_second(client: ClientSession, second: list[int], path: str) -> None:
    known = await etag(client, path)
    second[0] = 2
    assert await again(client, path, known) == 200


async def test_a_change_of_a_class_is_a_change_of_all_pages_that_show_it(
    client: ClientSession, model: ReadModel
) -> None:
    known = {path: await etag(client, path) for path in (TEACHER_PAGE, CLASS_PAGE)}
    await keep(model, [homeroom_class(datetime.now(UTC), "Lớp 12 Mới", 35)])
    for path, before in known.items():
        assert await again(client, path, before) == 200
        assert "Lớp 12 Mới" in await (await client.get(path, headers=HTML)).text()


async def test_a_change_elsewhere_changes_no_other_page(client: ClientSession, model: ReadModel) -> None:
    teacher = (await (await client.get("/", headers={"Accept": "*/*"})).json())["sampleTeachers"][3]
    path = teacher.removeprefix("/api")
    known = await etag(client, path)
    await keep(model, [homeroom_class(datetime.now(UTC), "Lớp 12 Khác", 36)])
    assert await again(client, path, known) == 304


@pytest.mark.parametrize("path", [TEACHER_PAGE, CLASS_PAGE])
async def test_an_age_that_goes_on_is_no_change_until_it_is_too_much(
    client: ClientSession, lag: ToldLag, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("web.freshness.REMEMBERED_SECONDS", 0.0)
    known = await etag(client, path)
    for age in (0.1, 0.9, 4.9):
        lag.age = age
        assert await again(client, path, known) == 304
    for worse in (5.1, 10.1, None):
        lag.age = worse
        assert await again(client, path, known) == 200
        known = await etag(client, path)
    lag.age = 0.3
    assert await again(client, path, known) == 200


async def test_each_language_and_each_address_has_its_own_page(client: ClientSession) -> None:
    known = await etag(client, TEACHER_PAGE)
    assert await again(client, TEACHER_PAGE, known, **{"Accept-Language": "vi"}) == 200
    assert await again(client, TEACHER_PAGE, known, Cookie="lang=vi") == 200
    assert await again(client, f"{TEACHER_PAGE}?limit=3", known) == 200
    vietnamese = await (await client.get(TEACHER_PAGE, headers={**HTML, "Accept-Language": "vi"})).text()
    assert '<html lang="vi">' in vietnamese


async def test_a_language_that_the_address_names_is_remembered_with_304_too(client: ClientSession) -> None:
    path = f"{TEACHER_PAGE}?lang=en"
    known = await etag(client, path)
    response = await client.get(path, headers={**HTML, "If-None-Match": known})
    assert (response.status, response.cookies["lang"].value) == (304, "en")


async def test_etags_in_several_headers_are_one_list(client: ClientSession) -> None:
    known = await etag(client, TEACHER_PAGE)
    headers = [*HTML.items(), ("If-None-Match", '"another"'), ("If-None-Match", known)]
    assert (await client.get(TEACHER_PAGE, headers=headers)).status == 304


@pytest.mark.parametrize(
    "path", [TEACHER_PAGE, CLASS_PAGE, *OPERATORS_PAGES, "/help", "/teachers", f"/teachers/{NOBODY}"]
)
async def test_what_is_a_page_or_json_by_the_accept_header_says_so_to_caches(client: ClientSession, path: str) -> None:
    for accept in ("text/html", "*/*"):
        response = await client.get(path, headers={"Accept": accept})
        assert "Accept" in response.headers["Vary"].split(", ")
    assert "Accept" not in (await client.get(f"/api{TEACHER_PAGE}")).headers.get("Vary", "").split(", ")


@pytest.mark.parametrize("path", ["/nothing/here", f"/teachers/{NOBODY}"])
async def test_an_error_is_told_whole_each_time(client: ClientSession, path: str) -> None:
    response = await client.get(path, headers={**HTML, "If-None-Match": "*"})
    assert response.status == 404
    assert response.headers["Cache-Control"] == "no-store"
    assert "ETag" not in response.headers


async def test_json_has_the_age_of_now_and_is_sent_whole(client: ClientSession) -> None:
    response = await client.get(f"/api{TEACHER_PAGE}", headers={"If-None-Match": "*"})
    assert response.status == 200
    assert (await response.json())["ageSeconds"] == 0.4


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        ('W/"a"', True),
        ('"a"', True),
        ('"x", W/"a"', True),
        ("*", True),
        ('"aa"', False),
        ("a", False),
        ("", False),
        ('W/"b"', False),
        ("\x00,,W/", False),
    ],
)
def test_etags_are_compared_weakly(header: str, matches: bool) -> None:
    request = make_mocked_request("GET", "/", headers={"If-None-Match": header})
    assert is_unchanged(request, 'W/"a"') is matches


def test_parts_of_an_etag_do_not_run_into_each_other() -> None:
    assert etag_of(("a", "b")) != etag_of(("ab", "")) != etag_of(("", "ab"))


@pytest.mark.parametrize(
    ("age", "bound"),
    [(None, None), (0.0, 5.0), (5.0, 5.0), (5.1, 10.0), (61.0, 120.0), (50_000.0, 86_400.0), (86_401.0, 172_800.0)],
)
def test_an_age_on_a_page_is_rounded_up(age: float | None, bound: float | None) -> None:
    assert Freshness(a_node(None, ToldLag(None, age=age))).bound("local") == bound


def test_the_cache_forgets_what_was_asked_for_longest_ago() -> None:
    cache = PageCache(max_bytes=30)
    for name in ("a", "b"):
        cache.keep(name, RenderedPage(bytes(8), bytes(2)))
    assert cache.get("a") is not None
    cache.keep("c", RenderedPage(bytes(10), b""))
    cache.keep("d", RenderedPage(bytes(10), b""))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.n_bytes == 30
    cache.keep("e", RenderedPage(bytes(31), b""))
    assert cache.n_bytes == 0


def test_the_bound_of_the_cache_is_small_beside_the_rest() -> None:
    assert page_cache.MAX_BYTES <= 32 << 20
