"""Pages for those who read them: teachers with a phone or a printer, operators, readers with a keyboard only."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Route, expect

from emis_streams.engine.door import DOOR
from emis_streams.read_model.model import ReadModel
from tests.e2e.axe import violations
from tests.e2e.conftest import DESKTOP, PHONE, SCREENSHOTS, Reader, Reading
from tests.pages import (
    BUSY_TEACHER,
    GONE_TEACHER,
    HOMEROOM_CLASS,
    NOBODY,
    TEACHER,
    ToldLag,
    a_history,
    a_node,
    a_report,
    busy_teacher_events,
    keep,
    serving,
)

BUSY = f"/teachers/{BUSY_TEACHER}"
MOST_PIXELS = 6_000
"""Of a teacher's page with 60 classes on a phone."""
WORDS_OF_OPERATIONS = {
    "vi": ("độ trễ xử lý", "bản sao", "UTC", "phiên bản", "consumer", "kafka", "topic", "json", "tiến trình"),
    "en": ("consumer", "local copy", "UTC", "version", "kafka", "topic", "json", "worker"),
}
PAGES = {
    "overview": "/",
    "teacher": f"/teachers/{TEACHER}",
    "busy-teacher": BUSY,
    "class": f"/classes/{HOMEROOM_CLASS}",
    "health": "/health",
    "consumer-lag": "/consumer-lag",
    "instances": "/instances",
    "unknown": f"/teachers/{NOBODY}",
    "deleted": f"/teachers/{GONE_TEACHER}",
    "nothing": "/nothing/here",
    "help": "/help",
    "help-entry": "/help/a-group-has-stalled",
}


@pytest.fixture(scope="module")
async def site(model: ReadModel) -> AsyncIterator[str]:
    """A worker with tokens for nobody: whoever asks sees what readers see, and operations beside."""
    await keep(model, busy_teacher_events())
    async with serving(a_node(model, ToldLag(a_report(behind=True), a_history(behind=True)))) as server:
        yield str(server.make_url("")).rstrip("/")


async def look(reader: Reader, name: str) -> None:
    """A screenshot of what is seen first, without scrolling."""
    SCREENSHOTS.mkdir(exist_ok=True)
    await reader.page.screenshot(path=SCREENSHOTS / f"viewport-{name}.png")


@pytest.mark.parametrize("language", ["vi", "en"])
async def test_sixty_classes_are_a_short_page_on_a_phone(site: str, reading: Reading, language: str) -> None:
    async with reading(width=PHONE, language=language) as reader:
        await reader.page.goto(site + BUSY)
        await expect(reader.page.get_by_role("row")).to_have_count(61)
        assert await reader.page.evaluate("document.documentElement.scrollHeight") < MOST_PIXELS
        assert await reader.what_runs_out() == []
        await look(reader, f"busy-teacher-{language}-phone")


@pytest.mark.parametrize("language", ["vi", "en"])
@pytest.mark.parametrize("name", ["teacher", "busy-teacher", "unknown", "deleted"])
async def test_a_page_for_teachers_has_no_words_of_operations(
    site: str, reading: Reading, name: str, language: str
) -> None:
    async with reading(language=language) as reader:
        await reader.page.goto(site + PAGES[name])
        text = await reader.page.locator("main").inner_text()
        menu = await reader.page.locator("header").inner_text()
        said = f"{menu} {text}".lower()
        assert [word for word in WORDS_OF_OPERATIONS[language] if re.search(rf"\b{word.lower()}\b", said)] == []


async def test_the_classes_of_a_teacher_print_on_few_pages(site: str, reading: Reading) -> None:
    async with reading(language="vi") as reader:
        await reader.page.goto(site + BUSY)
        printed = await reader.page.pdf(prefer_css_page_size=True)
        assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 3
        await reader.page.emulate_media(media="print")
        await expect(reader.page.get_by_role("button")).to_have_count(0)
        await expect(reader.page.get_by_role("row", name=re.compile("^Lớp 6A1 Chủ nhiệm"))).to_be_visible()


async def test_times_are_relative_and_exact_on_demand(site: str, reading: Reading) -> None:
    async with reading(language="vi") as reader:
        await reader.page.goto(site + BUSY)
        row = reader.page.get_by_role("row", name=re.compile("^Lớp 6A2 "))
        await expect(row).to_contain_text(re.compile("vừa xong|phút trước"))
        exact = row.locator(".exact")
        await expect(exact).to_be_hidden()
        await reader.page.get_by_text("Xem thời điểm cập nhật chính xác").click()
        await expect(exact).to_have_text(re.compile(r"^\d\d:\d\d:\d\d, \d\d/\d\d/\d{4}$"))


async def test_several_roles_in_a_class_are_one_row(site: str, reading: Reading) -> None:
    async with reading(language="vi") as reader:
        await reader.page.goto(site + BUSY)
        row = reader.page.get_by_role("row", name=re.compile("^Lớp 6A1 Chủ nhiệm"))
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("Chủ nhiệm")
        await expect(row).to_contain_text("Giáo viên bộ môn · Giáo dục thể chất")
        await expect(row).to_contain_text("Trợ giảng · Hoạt động trải nghiệm, hướng nghiệp")


async def test_an_id_is_copied_by_its_button_also_from_the_keyboard(site: str, reading: Reading) -> None:
    async with reading(language="en", permissions=["clipboard-read", "clipboard-write"]) as reader:
        await reader.page.goto(site + BUSY)
        button = reader.page.get_by_role("button", name=f"Copy {BUSY_TEACHER}")
        await button.focus()
        await reader.page.keyboard.press("Enter")
        await expect(button).to_have_text("Copied")
        assert await reader.page.evaluate("navigator.clipboard.readText()") == BUSY_TEACHER
        await expect(button).to_have_text("Copy")


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
@pytest.mark.parametrize("name", PAGES)
async def test_axe_finds_nothing_wrong(site: str, reading: Reading, name: str, width: int, scheme: str) -> None:
    async with reading(width=width, language="vi", color_scheme=scheme) as reader:
        await reader.page.goto(site + PAGES[name])
        await reader.page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert await violations(reader.page) == []


async def test_axe_finds_nothing_wrong_with_a_page_of_overload(model: ReadModel, reading: Reading) -> None:
    async with serving(a_node(model, ToldLag(a_report()))) as server, reading(width=PHONE, language="vi") as reader:
        door = server.app[DOOR]

        async def with_style(route: Route) -> None:
            door.n_requests = 0
            await route.continue_()

        await reader.page.route("**/static/**", with_style)
        door.n_requests = 1000
        response = await reader.page.goto(str(server.make_url("/consumer-lag")))
        assert response is not None
        assert response.status == 503
        # It loads itself again by its head: a script would be refused as well.
        assert [found for found in await violations(reader.page) if not found.startswith("meta-refresh ")] == []
        assert await reader.what_runs_out() == []


@pytest.mark.parametrize(("table", "topic", "first"), [(1, "emis.class", "Stalled"), (2, "changelog", "OK")])
async def test_a_sorted_table_keeps_its_place_and_its_order_through_refreshes(
    site: str, reading: Reading, table: int, topic: str, first: str
) -> None:
    async with reading(language="en") as reader:
        page = reader.page
        await page.goto(f"{site}/consumer-lag")
        group = page.locator(f"#partitions-{table}")
        await group.locator("summary").click()
        await expect(group.get_by_role("row", name=topic).first).to_be_visible()
        heading = group.get_by_role("columnheader", name="Lag", exact=True)
        await heading.scroll_into_view_if_needed()
        before = await heading.bounding_box()
        await heading.get_by_role("link").click()
        await expect(page).to_have_url(re.compile(r"sort=lag"))
        await expect(heading).to_have_attribute("aria-sort", "descending")
        await expect(group.get_by_role("row").nth(1)).to_contain_text(first)
        after = await heading.bounding_box()
        assert before is not None
        assert after is not None
        assert abs(after["y"] - before["y"]) < 100
        measured = page.get_by_text(re.compile("^Measured"))
        shown = await measured.text_content()
        await expect(measured).not_to_have_text(shown or "")
        await expect(group.get_by_role("row").nth(1)).to_contain_text(first)
        await expect(heading).to_have_attribute("aria-sort", "descending")


async def test_a_filter_stays_while_it_is_typed_and_after(site: str, reading: Reading) -> None:
    async with reading(language="en") as reader:
        page = reader.page
        await page.goto(f"{site}/consumer-lag")
        box = page.get_by_label("Filter", exact=True)
        await box.fill("updated-3")
        measured = page.get_by_text(re.compile("^Measured"))
        shown = await measured.text_content()
        await expect(measured).not_to_have_text(shown or "")
        await expect(box).to_have_value("updated-3")
        await box.press("Enter")
        await expect(page).to_have_url(re.compile("filter=updated-3"))
        rows = page.locator("#partitions-1 tbody tr")
        await expect(rows).to_have_count(2)
        await page.get_by_label("only partitions behind").check()
        await expect(page).to_have_url(re.compile("only=lag"))
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("Stalled")


async def test_lag_on_a_phone_shows_state_and_lag_of_each_partition(site: str, reading: Reading) -> None:
    async with reading(width=PHONE, language="vi") as reader:
        await reader.page.goto(f"{site}/consumer-lag?only=lag")
        row = reader.page.locator("#partitions-1").get_by_role("row", name=re.compile("emis.class.updated"))
        for text in ("Không tiến triển", "48.210"):
            box = await row.get_by_text(text).first.bounding_box()
            assert box is not None
            assert 0 <= box["x"] <= PHONE - box["width"], text
        assert await reader.what_runs_out() == []
        await row.scroll_into_view_if_needed()
        await look(reader, "consumer-lag-vi-phone")
