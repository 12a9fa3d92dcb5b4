"""The menu on phones, and the page of overload without scripts."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from emis_streams.engine.door import DOOR
from emis_streams.read_model.model import ReadModel
from tests.e2e.axe import violations
from tests.e2e.conftest import PHONE, Reading
from tests.pages import TEACHER, ToldLag, a_node, a_report, serving
from web.i18n import LANGUAGES, Texts

SMALL_PHONE = 360
_ACROSS = """nav => [...nav.querySelectorAll("a")].map(a => a.getBoundingClientRect())
    .map(box => ({top: Math.round(box.top), right: box.right, height: box.height}))"""


@pytest.fixture(scope="module")
async def site(model: ReadModel) -> AsyncIterator[str]:
    """A worker with all entries of the menu."""
    async with serving(a_node(model, ToldLag(a_report()))) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.mark.parametrize("width", [PHONE, SMALL_PHONE])
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", ["/health", f"/teachers/{TEACHER}"])
async def test_the_menu_is_two_lines_at_most(site: str, reading: Reading, path: str, language: str, width: int) -> None:
    async with reading(width=width, language=language) as reader:
        await reader.page.goto(site + path)
        entries = await reader.page.get_by_role("navigation").first.evaluate(_ACROSS)
        assert len(entries) >= 4
        assert len({entry["top"] for entry in entries}) <= 2
        assert max(entry["right"] for entry in entries) <= width
        assert min(entry["height"] for entry in entries) >= 24
        assert await reader.what_runs_out() == []
        assert await violations(reader.page) == []


async def test_the_keyboard_reaches_each_entry_of_the_menu_on_a_phone(site: str, reading: Reading) -> None:
    async with reading(width=PHONE, language="vi") as reader:
        await reader.page.goto(site + "/health")
        menu = reader.page.get_by_role("navigation").first.get_by_role("link")
        await menu.first.focus()
        for n in range(await menu.count()):
            await expect(menu.nth(n)).to_be_focused()
            await expect(menu.nth(n)).to_be_in_viewport()
            await reader.page.keyboard.press("Tab")


@pytest.mark.parametrize("by_hand", [True, False], ids=["link", "by itself"])
async def test_a_page_that_was_refused_for_overload_opens_without_scripts(
    model: ReadModel, reading: Reading, by_hand: bool
) -> None:
    node = a_node(model, ToldLag(a_report()))
    without_scripts = {"width": PHONE, "language": "vi", "java_script_enabled": False}
    async with serving(node) as server, reading(**without_scripts) as reader:
        door = server.app[DOOR]
        door.n_requests = 1_000
        response = await reader.page.goto(str(server.make_url(f"/teachers/{TEACHER}?lang=vi")))
        assert response is not None
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        for language in LANGUAGES:
            await expect(reader.page.get_by_text(Texts(language)("overloaded.title"))).to_be_visible()
        door.n_requests = 0
        if by_hand:
            await reader.page.get_by_role("link", name=Texts("vi")("overloaded.again")).click()
        await expect(reader.page.get_by_role("heading", level=1)).to_have_text("Nguyễn Thị Ánh Nguyệt")
        assert reader.page.url.endswith(f"{TEACHER}?lang=vi")
        # The style sheet is refused as well while there are too many requests.
        reader.wrong[:] = [message for message in reader.wrong if "Refused to apply style" not in message]
