"""What a browser has kept, or shows after a sleep, is not called up to date until the worker says that it is."""

import asyncio
import re
from datetime import UTC, datetime

import pytest
from aiohttp import web
from playwright.async_api import Page, expect

from emis_streams.node import Node
from emis_streams.read_model.model import ReadModel
from tests.e2e import broken_proxy
from tests.e2e.broken_proxy import Proxy
from tests.e2e.conftest import PHONE, TEACHERS_PAGE, Reading, ask_now
from tests.pages import HOMEROOM_CLASS, ToldLag, a_history, a_node, a_report, homeroom_class, keep, serving

SOON_MS = 8_000
"""Before the next question of a page for teachers, on a busy machine."""


async def fall_asleep(page: Page) -> None:
    """For eight hours: the clock on the wall has moved when the machine wakes up, its timers have not."""
    await page.evaluate("() => { const now = Date.now; Date.now = () => now() + 8 * 3_600_000; }")


async def test_a_machine_that_slept_calls_nothing_up_to_date_and_asks_at_once(
    behind: tuple[Proxy, str], reading: Reading
) -> None:
    proxy, site = behind
    async with reading() as reader:
        page = reader.page
        await page.goto(site + TEACHERS_PAGE)
        await expect(page.get_by_text("Up to date")).to_be_visible()
        proxy.fault = broken_proxy.silent
        await fall_asleep(page)
        await expect(page.get_by_text("Up to date")).to_be_hidden(timeout=SOON_MS)
        await expect(page.get_by_text("at most")).to_be_hidden()
        proxy.fault = None
        await expect(page.get_by_role("alert")).to_be_visible(timeout=15_000)
        await expect(page.get_by_text("Up to date")).to_be_visible(timeout=15_000)
        reader.wrong[:] = [text for text in reader.wrong if "net::ERR" not in text]


async def test_the_way_back_shows_what_is_there_now(
    behind: tuple[Proxy, str], model: ReadModel, reading: Reading
) -> None:
    _, site = behind
    async with reading() as reader:
        page = reader.page
        await page.goto(site + f"/classes/{HOMEROOM_CLASS}")
        await page.goto(site + "/help")
        await keep(model, [homeroom_class(datetime.now(UTC), "Lớp 12 Về Sau")])
        await page.go_back()
        await expect(page.locator("h1")).to_have_text("Lớp 12 Về Sau", timeout=SOON_MS)
        await keep(model, [homeroom_class(datetime.now(UTC))])


async def test_a_page_that_is_sent_elsewhere_offers_the_way_to_the_login(
    behind: tuple[Proxy, str], reading: Reading
) -> None:
    proxy, site = behind
    async with reading(width=PHONE) as reader:
        page = reader.page
        await page.goto(site + TEACHERS_PAGE)
        proxy.fault = broken_proxy.elsewhere
        await ask_now(page)
        banner = page.get_by_role("alert")
        await expect(banner).to_contain_text("perhaps to log in")
        await expect(banner.get_by_role("link", name="Reload to log in")).to_be_visible()
        await expect(page.locator("h1")).to_have_text("Nguyễn Thị Ánh Nguyệt")
        assert await reader.what_runs_out() == []


async def data(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    return web.json_response({"lessonId": "x"})


async def test_an_error_page_gives_way_to_data_and_a_page_does_not(behind: tuple[Proxy, str], reading: Reading) -> None:
    """The gateway shows errors as pages, and what its services answer as JSON."""
    proxy, site = behind
    async with serving(broken_node()) as broken, reading() as reader:
        page = reader.page
        well = proxy.worker
        proxy.worker = str(broken.make_url("")).rstrip("/")
        await page.goto(site + "/consumer-lag")
        await expect(page.locator(".code")).to_have_text("500")
        proxy.fault = data
        await expect(page.locator("body")).to_contain_text("lessonId", timeout=15_000)
        proxy.worker, proxy.fault = well, None
        await page.goto(site + "/consumer-lag")
        proxy.fault = data
        await ask_now(page)
        await expect(page.get_by_role("alert")).to_contain_text("status 200")
        await expect(page.locator("h1")).to_have_text("Consumer lag")


class Broken:
    """A lag monitor with a defect."""

    def snapshot(self) -> None:
        raise RuntimeError("a defect")


def broken_node() -> Node:
    node = a_node(None, None)
    node.lag = Broken()  # type: ignore[assignment]
    return node


FIT = """async () => {
    const fits = (place) => Math.abs(place.clientWidth - place.querySelector("canvas").clientWidth) < 2;
    while (![...document.querySelectorAll(".plot")].every(fits)) await new Promise(requestAnimationFrame);
}"""
"""Comes to an end when all charts are as wide as there is room."""


@pytest.mark.parametrize("path", ["/", "/consumer-lag"])
async def test_charts_follow_a_screen_that_is_turned(behind: tuple[Proxy, str], reading: Reading, path: str) -> None:
    _, site = behind
    async with reading(width=844) as reader:
        page = reader.page
        await page.goto(site + path)
        canvas = page.locator(".plot canvas")
        await expect(canvas).to_have_count(2)
        for width in (320, 844):
            await page.set_viewport_size({"width": width, "height": 844})
            async with asyncio.timeout(10):
                await page.evaluate(FIT)
            widths = await canvas.evaluate_all("all => all.map(one => one.clientWidth)")
            assert all(100 < found <= width for found in widths)
            assert await reader.what_runs_out() == []


async def test_a_chart_of_a_worker_that_has_just_started_is_not_that_of_the_one_before(
    model: ReadModel, reading: Reading
) -> None:
    lag = ToldLag(a_report(), a_history())
    async with serving(a_node(model, lag)) as server, reading() as reader:
        page = reader.page
        await page.goto(str(server.make_url("/consumer-lag")))
        await expect(page.locator(".plot canvas")).to_have_count(2)
        lag.points = a_history()[-1:]
        await expect(page.locator(".plot canvas")).to_have_count(0)
        lag.points = a_history()
        await expect(page.locator(".plot canvas")).to_have_count(2)


async def test_on_paper_times_are_exact(behind: tuple[Proxy, str], reading: Reading) -> None:
    _, site = behind
    async with reading(language="vi", color_scheme="dark") as reader:
        page = reader.page
        await page.goto(site + TEACHERS_PAGE)
        await page.emulate_media(media="print")
        row = page.get_by_role("row", name=re.compile("Lớp 12 Chuyên Văn"))
        await expect(row.locator(".exact")).to_be_visible()
        await expect(row.locator("time")).to_be_hidden()
