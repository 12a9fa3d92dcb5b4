"""A real Chromium, and pages of workers to look at with it."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from emis_streams.read_model.model import ReadModel
from tests.e2e.broken_proxy import Proxy, proxied
from tests.pages import TEACHER, ToldLag, a_history, a_node, a_report, filled_model, serving

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
DESKTOP, PHONE = 1280, 390
TEACHERS_PAGE = f"/teachers/{TEACHER}"

# What a browser logs by itself when a page has an error status: expected on pages that tell of one.
_STATUS_LOG = "Failed to load resource"


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The operating system's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield chromium
        await chromium.close()


@pytest.fixture(scope="session")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadModel]:
    async with filled_model(tmp_path_factory.mktemp("pages")) as filled:
        yield filled


@pytest.fixture(scope="module")
async def worker(model: ReadModel) -> AsyncIterator[str]:
    """The address of the pages of a worker."""
    async with serving(a_node(model, ToldLag(a_report(), a_history()))) as server:
        yield str(server.make_url(""))


@pytest.fixture
async def behind(worker: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the worker that a test can break, and the proxy's address."""
    async with proxied(worker) as found:
        yield found


class Reader:
    """Somebody with a browser; whatever goes wrong in it is collected, and no request leaves the machine."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", self._note)
        page.on("request", self._check)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning") and _STATUS_LOG not in message.text:
            self.wrong.append(message.text)

    def _check(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:")):
            self.wrong.append(f"asked elsewhere: {request.url}")

    async def what_runs_out(self) -> list[str]:
        """Texts that run out of their boxes, and "page" if the page itself scrolls sideways."""
        found: list[str] = await self.page.evaluate(
            """[...document.querySelectorAll('html, dd')].filter((e) => e.scrollWidth > e.clientWidth)
               .map((e) => e.tagName === 'HTML' ? 'page' : e.innerText)"""
        )
        return found

    async def shoot(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


async def ask_now(page: Page) -> None:
    """What happens when a tab is shown again: it asks for itself at once."""
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


Reading = Callable[..., Any]


@pytest.fixture
def reading(browser: Browser) -> Reading:
    """`async with reading(width=…, language=…) as reader`: fails afterwards if anything went wrong in the browser."""

    @asynccontextmanager
    async def open_browser(width: int = DESKTOP, language: str = "en", **options: Any) -> AsyncIterator[Reader]:
        context = await browser.new_context(
            viewport={"width": width, "height": 900}, locale=language, timezone_id="Asia/Ho_Chi_Minh", **options
        )
        reader = Reader(await context.new_page())
        yield reader
        await context.close()
        assert reader.wrong == []

    return open_browser
