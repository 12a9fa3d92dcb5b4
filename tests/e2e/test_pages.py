"""The pages as people see and use them, in a real Chromium."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from emis_streams.read_model.model import ReadModel
from tests.e2e.conftest import DESKTOP, PHONE, Reading, ask_now
from tests.pages import (
    GONE_CLASS,
    GONE_TEACHER,
    HOMEROOM_CLASS,
    NOBODY,
    TEACHER,
    UNKNOWN_CLASS,
    ToldLag,
    a_history,
    a_node,
    a_report,
    homeroom_class,
    keep,
    serving,
)

PAGES = {
    "overview": "/",
    "teacher": f"/teachers/{TEACHER}",
    "class": f"/classes/{HOMEROOM_CLASS}",
    "health": "/health",
    "consumer-lag": "/consumer-lag",
    "unknown": f"/teachers/{NOBODY}",
    "deleted": f"/teachers/{GONE_TEACHER}",
}


@pytest.fixture(scope="module")
async def site(model: ReadModel) -> AsyncIterator[str]:
    """A worker where all is well."""
    async with serving(a_node(model, ToldLag(a_report(), a_history()))) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture(scope="module")
async def troubled(model: ReadModel) -> AsyncIterator[str]:
    """A worker with a stalled partition, answers that are too old, and a database that is away."""
    lag = ToldLag(a_report(behind=True), a_history(behind=True), age=12.0)
    async with serving(a_node(model, lag)) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("language", ["vi", "en"])
@pytest.mark.parametrize("name", PAGES)
async def test_a_page_fits_its_screen_and_its_language(
    site: str, reading: Reading, name: str, language: str, width: int
) -> None:
    async with reading(width=width, language=language) as reader:
        await reader.page.goto(site + PAGES[name])
        await expect(reader.page.locator("html")).to_have_attribute("lang", language)
        await expect(reader.page.locator("h1")).to_have_count(1)
        assert await reader.what_runs_out() == []
        await reader.shoot(f"{name}-{language}-{width}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, PHONE, 768, 1366, 1920])
@pytest.mark.parametrize("name", ["overview", "consumer-lag"])
async def test_charts_are_drawn_at_the_first_look(
    site: str, reading: Reading, name: str, width: int, scheme: str
) -> None:
    async with reading(width=width, color_scheme=scheme) as reader:
        await reader.page.goto(site + PAGES[name])
        await expect(reader.page.locator(".plot canvas")).to_have_count(2)
        widths = await reader.page.locator(".plot canvas").evaluate_all("all => all.map(one => one.clientWidth)")
        assert min(widths) > 100


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("name", ["overview", "teacher", "health", "consumer-lag"])
async def test_a_troubled_worker_fits_in_the_dark_too(troubled: str, reading: Reading, name: str, width: int) -> None:
    async with reading(width=width, language="vi", color_scheme="dark") as reader:
        await reader.page.goto(troubled + PAGES[name])
        await reader.page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert await reader.what_runs_out() == []
        await reader.shoot(f"{name}-troubled-dark-{width}")


@pytest.mark.parametrize("language", ["vi", "en"])
async def test_no_page_scrolls_sideways_on_the_smallest_screen(
    site: str, troubled: str, reading: Reading, language: str
) -> None:
    """320 px: as wide as a page is that is enlarged four times on a desktop."""
    others = ("/teachers", "/classes?q=10", "/search?q=nguyen", "/instances", "/help", "/help/kafka-is-away")
    async with reading(width=320, language=language) as reader:
        for address in [place + path for place in (site, troubled) for path in (*PAGES.values(), *others)]:
            await reader.page.goto(address)
            await reader.page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
            assert await reader.what_runs_out() == [], address


async def test_a_teacher_shows_every_kind_of_class(site: str, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.goto(site + PAGES["teacher"])
        await expect(reader.page.get_by_role("heading", level=1)).to_have_text("Nguyễn Thị Ánh Nguyệt")
        homeroom = reader.page.get_by_role("row", name="Lớp 12 Chuyên Văn")
        await expect(homeroom).to_contain_text("Homeroom")
        await expect(homeroom).to_contain_text("2026-2027")
        await expect(homeroom).to_contain_text("34")
        await expect(homeroom).to_contain_text(re.compile(r"just now|[1-9] minutes? ago"))
        await expect(reader.page.get_by_role("row", name=UNKNOWN_CLASS)).to_contain_text("No class details yet")
        await expect(reader.page.get_by_role("row", name=GONE_CLASS)).to_contain_text("Deleted")
        await expect(reader.page.get_by_text("at most 5 s behind")).to_be_visible()


async def test_an_answer_that_can_be_too_old_is_marked(troubled: str, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.goto(troubled + PAGES["teacher"])
        await expect(reader.page.get_by_text("This may be out of date")).to_be_visible()


async def test_the_way_from_the_overview_to_a_teacher_to_a_class_and_back(site: str, reading: Reading) -> None:
    async with reading() as reader:
        page = reader.page
        await page.goto(site)
        await page.locator(".people a").first.click()
        await expect(page).to_have_url(re.compile("/teachers/"))
        await page.locator("tbody a").first.click()
        await expect(page).to_have_url(re.compile("/classes/"))
        await page.get_by_text("Source of this data").click()
        await expect(page.get_by_text("emis.class.created")).to_be_visible()
        await page.get_by_role("link", name="EMIS Streams").click()
        await expect(page).to_have_url(f"{site}/")


async def test_the_language_stays_chosen(site: str, reading: Reading) -> None:
    async with reading(language="en") as reader:
        await reader.page.goto(site)
        await reader.page.get_by_role("link", name="Tiếng Việt").click()
        await expect(reader.page.get_by_role("link", name="Tổng quan")).to_be_visible()
        await reader.page.goto(f"{site}/health")
        await expect(reader.page.locator("html")).to_have_attribute("lang", "vi")


async def test_a_change_appears_by_itself_unless_paused(site: str, model: ReadModel, reading: Reading) -> None:
    async with reading() as reader:
        page = reader.page
        await page.goto(site + PAGES["class"])
        await expect(page.get_by_text("Live, every 15 s")).to_be_visible()
        await keep(model, [homeroom_class(datetime.now(UTC), "Lớp 12 Mới")])
        await ask_now(page)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Lớp 12 Mới")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_text("Paused")).to_be_visible()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await keep(model, [homeroom_class(datetime.now(UTC))])
        await ask_now(page)
        await page.wait_for_load_state("networkidle")
        assert asked == []
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Lớp 12 Chuyên Văn")


async def test_a_page_that_was_not_there_yet_appears(site: str, model: ReadModel, reading: Reading) -> None:
    late = homeroom_class(datetime.now(UTC), "Lớp đến muộn")
    late.class_id = "0c000000-0000-4000-8000-00000000000d"
    async with reading() as reader:
        await reader.page.goto(f"{site}/classes/{late.class_id}")
        await expect(reader.page.get_by_role("heading", level=1)).to_have_text("Not found")
        await keep(model, [late])
        await expect(reader.page.get_by_role("heading", level=1)).to_have_text("Lớp đến muộn")


async def test_what_was_opened_stays_open_while_figures_change(troubled: str, reading: Reading) -> None:
    async with reading() as reader:
        page = reader.page
        await page.goto(troubled + PAGES["consumer-lag"])
        await page.get_by_text("80 partitions").click()
        await expect(page.get_by_text("Stalled").nth(1)).to_be_visible()
        measured = page.get_by_text(re.compile("^Measured"))
        before = await measured.text_content()
        await expect(measured).not_to_have_text(before or "")
        await expect(page.get_by_text("Stalled").nth(1)).to_be_visible()
        await page.get_by_label("only partitions behind").check()
        await expect(page.get_by_role("row", name="emis.class.updated 3 Stalled")).to_be_visible()
        await expect(page.get_by_role("row", name="emis.class.created 0 OK")).to_have_count(0)


async def test_the_trend_is_drawn_beside_its_table(site: str, reading: Reading) -> None:
    async with reading() as reader:
        page = reader.page
        await page.goto(site + PAGES["consumer-lag"])
        await expect(page.get_by_role("img", name=re.compile("Chart: Events per second"))).to_be_visible()
        await expect(page.locator(".plot canvas")).to_have_count(2)
        for width in await page.locator(".plot canvas").evaluate_all("all => all.map(one => one.clientWidth)"):
            assert width > 100  # At the first look: nothing was resized.
        await page.get_by_text("Figures as a table").first.click()
        await expect(page.get_by_role("table", name=re.compile("Events waiting"))).to_be_visible()


async def test_a_worker_that_is_gone_is_said_to_be_gone(model: ReadModel, reading: Reading) -> None:
    async with reading() as reader:
        async with serving(a_node(model, None)) as server:
            await reader.page.goto(str(server.make_url("/health")))
            await expect(reader.page.get_by_text("Live, every 2 s")).to_be_visible()
        await expect(reader.page.get_by_text("No answer from the worker")).to_be_visible()
        reader.wrong.clear()


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_says_everything_without_scripts(site: str, reading: Reading, name: str) -> None:
    async with reading(java_script_enabled=False) as reader:
        await reader.page.goto(site + PAGES[name])
        await expect(reader.page.get_by_role("heading", level=1)).to_be_visible()
        await expect(reader.page.get_by_role("button", name="Pause")).to_be_hidden()


async def test_the_keyboard_reaches_the_content_first(site: str, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.goto(site)
        await reader.page.keyboard.press("Tab")
        skip = reader.page.get_by_role("link", name="Skip to the content")
        await expect(skip).to_be_focused()
        await reader.page.keyboard.press("Enter")
        await expect(reader.page.locator("main")).to_be_focused()
