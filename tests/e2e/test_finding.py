"""Finding teachers and classes with a browser: on a phone, with a keyboard, without scripts, in both languages."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from emis_streams.read_model.model import ReadModel
from tests.e2e.axe import violations
from tests.e2e.conftest import DESKTOP, PHONE, SCREENSHOTS, Reader, Reading
from tests.pages import HOMEROOM_CLASS, NOBODY, TEACHER, ToldLag, a_node, a_report, filled_model, serving

PAGES = {
    "search": "/search?q=nguyen",
    "search-nothing": "/search?q=xyz",
    "search-empty": "/search",
    "search-school": f"/search?q={NOBODY}",
    "teachers": "/teachers",
    "classes": "/classes",
    "class-with-teachers": f"/classes/{HOMEROOM_CLASS}",
}


@pytest.fixture(scope="module")
async def site(model: ReadModel) -> AsyncIterator[str]:
    async with serving(a_node(model, ToldLag(a_report()))) as server:
        yield str(server.make_url("")).rstrip("/")


async def look(reader: Reader, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    await reader.page.screenshot(path=SCREENSHOTS / f"viewport-{name}.png")


@pytest.mark.parametrize(
    ("language", "width", "scheme"), [("vi", PHONE, "dark"), ("en", PHONE, "light"), ("vi", DESKTOP, "light")]
)
@pytest.mark.parametrize("name", PAGES)
async def test_a_page_fits_its_screen_and_has_nothing_that_bars_readers(
    site: str, reading: Reading, name: str, language: str, width: int, scheme: str
) -> None:
    async with reading(width=width, language=language, color_scheme=scheme) as reader:
        await reader.page.goto(site + PAGES[name])
        assert await reader.what_runs_out() == []
        assert await violations(reader.page) == []
        await look(reader, f"{name}-{language}-{width}")


async def test_a_teacher_is_found_on_a_phone_without_accents(site: str, reading: Reading) -> None:
    async with reading(width=PHONE, language="vi") as reader:
        await reader.page.goto(f"{site}/classes/{HOMEROOM_CLASS}")
        box = reader.page.locator("header").get_by_role("searchbox")
        await box.fill("anh nguyet")
        await box.press("Enter")
        await reader.page.get_by_role("link", name="Nguyễn Thị Ánh Nguyệt").click()
        await expect(reader.page).to_have_url(f"{site}/teachers/{TEACHER}")


@pytest.mark.parametrize("text", [f"  {TEACHER.upper()} ", f"http://127.0.0.1:6066/teachers/{TEACHER}/"])
async def test_an_id_that_was_copied_badly_and_a_pasted_address_lead_to_the_page(
    site: str, reading: Reading, text: str
) -> None:
    async with reading() as reader:
        await reader.page.goto(site)
        await reader.page.get_by_role("main").get_by_label("Name or id").fill(text)
        await reader.page.get_by_role("main").get_by_role("button", name="Find").click()
        await expect(reader.page).to_have_url(f"{site}/teachers/{TEACHER}")


async def test_finding_works_by_keyboard_alone(site: str, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.goto(f"{site}/nowhere")
        for _ in range(20):
            await reader.page.keyboard.press("Tab")
            if await reader.page.evaluate("document.activeElement.name") == "q":
                break
        await reader.page.keyboard.type("chuyen van")
        await reader.page.keyboard.press("Enter")
        await expect(reader.page.get_by_role("link", name="Lớp 12 Chuyên Văn")).to_be_visible()
        await expect(reader.page.locator("header").get_by_role("searchbox")).to_have_value("chuyen van")


async def test_finding_works_without_scripts(site: str, reading: Reading) -> None:
    async with reading(java_script_enabled=False) as reader:
        await reader.page.goto(f"{site}/classes")
        box = reader.page.locator("header").get_by_role("searchbox")
        await box.fill("chuyen van")
        await box.press("Enter")
        await expect(reader.page.get_by_role("link", name="Lớp 12 Chuyên Văn")).to_be_visible()


async def test_nothing_found_says_what_to_do(site: str, reading: Reading) -> None:
    async with reading(language="vi") as reader:
        await reader.page.goto(f"{site}/search?q=xyz")
        await expect(reader.page.get_by_text("Không tìm thấy")).to_be_visible()
        await expect(reader.page.get_by_text("gõ ít từ hơn")).to_be_visible()


async def test_a_search_that_has_to_wait_shows_its_results_by_itself(tmp_path: Path, reading: Reading) -> None:
    async with (
        filled_model(tmp_path) as model,
        serving(a_node(model, ToldLag(a_report()))) as server,
        reading() as reader,
    ):
        model.caught_up = False
        await reader.page.goto(str(server.make_url("/search?q=chuyen van")))
        await expect(reader.page.locator("h1")).to_have_text("Search is not ready")
        await expect(reader.page.locator("header").get_by_role("searchbox")).to_have_value("chuyen van")
        model.caught_up = True
        await expect(reader.page.get_by_role("link", name="Lớp 12 Chuyên Văn")).to_be_visible(timeout=15_000)
        await expect(reader.page.get_by_role("alert")).to_be_hidden()
        await expect(reader.page.get_by_role("button", name="Pause")).to_be_hidden()  # Results are not refreshed.


async def test_a_search_for_an_id_that_has_to_wait_leads_to_the_page_by_itself(
    tmp_path: Path, reading: Reading
) -> None:
    async with (
        filled_model(tmp_path) as model,
        serving(a_node(model, ToldLag(a_report()))) as server,
        reading() as reader,
    ):
        model.caught_up = False
        await reader.page.goto(str(server.make_url(f"/search?q={TEACHER}")))
        await expect(reader.page.locator("h1")).to_have_text("Search is not ready")
        model.caught_up = True
        await expect(reader.page.locator("h1")).to_have_text("Nguyễn Thị Ánh Nguyệt", timeout=15_000)


async def test_results_are_narrowed_to_classes_by_a_link(site: str, reading: Reading) -> None:
    async with reading(width=PHONE) as reader:
        await reader.page.goto(f"{site}/search?q=van")
        kinds = reader.page.get_by_role("navigation", name="Kinds of results")
        await kinds.get_by_role("link", name="Classes").click()
        await expect(reader.page).to_have_url(f"{site}/classes?q=van")
        await expect(kinds.get_by_role("link", name="Classes")).to_have_attribute("aria-current", "page")
        await expect(reader.page.get_by_role("link", name="Lớp 12 Chuyên Văn")).to_be_visible()
        await expect(reader.page.get_by_role("heading", name="Teachers")).to_have_count(0)


async def test_lists_lead_from_page_to_page(site: str, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.goto(f"{site}/classes")
        await expect(reader.page.locator(".names li")).to_have_count(20)
        first_class = reader.page.locator(".names li > a").first
        first_path = await first_class.get_attribute("href")
        assert first_path is not None
        await reader.page.get_by_role("link", name="Next page").click()
        await expect(reader.page.get_by_role("link", name="First page")).to_be_visible()
        await expect(first_class).not_to_have_attribute("href", first_path)
        await expect(reader.page.locator(".names").get_by_role("link")).not_to_have_count(0)
        assert await reader.page.locator(f'.names a[href="{first_path}"]').count() == 0


async def test_a_class_leads_to_all_its_teachers(site: str, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.goto(f"{site}/search?q=10a1")
        await reader.page.get_by_role("link", name="Lớp 10A1", exact=True).click()
        teachers = reader.page.get_by_role("region", name="Teachers of the class").get_by_role("listitem")
        await expect(teachers.first).to_contain_text("Homeroom")
        assert await teachers.count() >= 6
        await teachers.nth(1).get_by_role("link").click()
        await expect(reader.page.get_by_role("row").first).to_be_visible()
