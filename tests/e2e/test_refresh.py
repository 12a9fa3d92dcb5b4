"""An open page stays what it is until this very page comes again: on a worker behind a proxy that breaks."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from playwright.async_api import Page, expect

from emis_streams.engine.door import DOOR
from emis_streams.events import TeacherCreated, TeacherDeleted
from emis_streams.node import Node
from emis_streams.read_model.model import ReadModel
from tests.e2e import broken_proxy
from tests.e2e.broken_proxy import Proxy
from tests.e2e.conftest import PHONE, TEACHERS_PAGE, Reading, ask_now
from tests.pages import (
    GONE_TEACHER,
    HOMEROOM_CLASS,
    ToldLag,
    a_node,
    a_report,
    event_id,
    homeroom_class,
    keep,
    serving,
)

FAULTS = {
    fault.__name__: fault
    for fault in (
        broken_proxy.overloaded,
        broken_proxy.bad_gateway,
        broken_proxy.login,
        broken_proxy.forbidden,
        broken_proxy.not_found,
        broken_proxy.welcome,
        broken_proxy.elsewhere,
        broken_proxy.another_page,
        broken_proxy.half_of_it,
        broken_proxy.cut,
        broken_proxy.silent,
        broken_proxy.endless,
    )
}


BACK_MS = 40_000
"""Until the page is there again: two questions, the second after 4 s at most, on a busy machine."""


async def marks_of_being_well(page: Page) -> list[str]:
    """Texts of what is shown in green."""
    found: list[str] = await page.evaluate(
        """() => {
            const probe = document.body.appendChild(document.createElement("i"));
            probe.style.color = "var(--ok)";
            const green = getComputedStyle(probe).color;
            probe.remove();
            const marked = [...document.querySelectorAll("#live .ok")].filter((one) => one.checkVisibility());
            return marked.filter((one) => getComputedStyle(one).color === green).map((one) => one.innerText);
        }"""
    )
    return found


def no_errors_of_the_browser(wrong: list[str]) -> None:
    """The browser itself logs what a fault does to its requests."""
    wrong[:] = [text for text in wrong if "net::ERR" not in text and "Failed to load" not in text]


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("path", [TEACHERS_PAGE, "/consumer-lag"], ids=["teacher", "lag"])
async def test_what_is_shown_stays_and_loses_its_mark_until_this_page_comes_again(
    behind: tuple[Proxy, str], reading: Reading, name: str, path: str
) -> None:
    proxy, site = behind
    async with reading() as reader:
        page = reader.page
        await page.goto(site + path)
        heading = await page.locator("h1").text_content()
        proxy.fault = FAULTS[name]
        assert await marks_of_being_well(page) != []
        await ask_now(page)
        banner = page.get_by_role("alert")
        await expect(banner).to_contain_text(re.compile(r"No answer since \d+:\d\d:\d\d"), timeout=10_000)
        await expect(page.locator("h1")).to_have_text(heading or "")
        await expect(page.locator("#live")).to_have_class(re.compile("outdated"))
        assert await marks_of_being_well(page) == []
        await expect(page.get_by_text("No answer from the worker")).to_be_visible()
        proxy.fault = None
        await expect(banner).to_be_hidden(timeout=BACK_MS)
        assert await marks_of_being_well(page) != []
        await expect(page.locator("#live")).not_to_have_class(re.compile("outdated"))
        await expect(page.locator("h1")).to_have_text(heading or "")
        no_errors_of_the_browser(reader.wrong)


async def test_a_banner_fits_a_phone_and_speaks_its_language(behind: tuple[Proxy, str], reading: Reading) -> None:
    proxy, site = behind
    async with reading(width=PHONE, language="vi", color_scheme="dark") as reader:
        await reader.page.goto(site + TEACHERS_PAGE)
        proxy.fault = broken_proxy.overloaded
        await ask_now(reader.page)
        await expect(reader.page.get_by_role("alert")).to_contain_text("Không có phản hồi từ")
        assert await reader.what_runs_out() == []
        no_errors_of_the_browser(reader.wrong)


async def test_questions_get_rarer_while_nothing_comes(behind: tuple[Proxy, str], reading: Reading) -> None:
    proxy, site = behind
    async with reading() as reader:
        now = datetime.now(UTC)
        await reader.page.clock.install(time=now)
        await reader.page.goto(site + "/health")
        await reader.page.clock.pause_at(now + timedelta(minutes=2))  # From here on its clock is moved by hand only.
        proxy.fault = broken_proxy.overloaded
        before = len(proxy.asked)
        for _ in range(60):  # A minute by the page's clock.
            await reader.page.clock.run_for(1000)
            await reader.page.wait_for_load_state("networkidle")
        assert 3 <= len(proxy.asked) - before <= 6  # After 2, 4, 8, 16 and 30 s, give or take; else it would be 30.


async def test_nothing_new_is_an_answer(behind: tuple[Proxy, str], reading: Reading) -> None:
    proxy, site = behind
    async with reading() as reader:
        page = reader.page
        await page.goto(site + "/health")
        proxy.fault = broken_proxy.overloaded
        await expect(page.get_by_role("alert")).to_be_visible()
        proxy.fault = stamped
        await expect(page.get_by_role("alert")).to_be_hidden(timeout=BACK_MS)
        proxy.fault = broken_proxy.overloaded
        await expect(page.get_by_role("alert")).to_be_visible()
        proxy.fault = broken_proxy.nothing_new
        await expect(page.get_by_role("alert")).to_be_hidden(timeout=BACK_MS)
        no_errors_of_the_browser(reader.wrong)


async def stamped(proxy: Proxy, request: web.Request) -> web.StreamResponse:
    response = await proxy.passed_on(request)
    response.headers["ETag"] = '"x"'
    return response


HTML = "text/html; charset=utf-8"
BEGAN = [
    (TEACHERS_PAGE, "500"),
    (TEACHERS_PAGE, "503"),
    (TEACHERS_PAGE, "busy"),
    ("/consumer-lag", "500"),
    ("/consumer-lag", "busy"),
]


@pytest.mark.parametrize(("path", "kind"), BEGAN)
async def test_a_page_that_began_as_an_error_becomes_the_page(
    behind: tuple[Proxy, str], empty_model: ReadModel, reading: Reading, path: str, kind: str
) -> None:
    proxy, site = behind
    well = proxy.worker
    empty_model.caught_up = False
    async with serving(unwell_node(kind, empty_model)) as unwell, reading() as reader:
        if kind == "busy":
            unwell.app[DOOR].n_requests = 1000
        proxy.worker = str(unwell.make_url("")).rstrip("/")
        response = await reader.page.goto(site + path)
        assert response is not None
        assert (response.status, response.headers["content-type"]) == (int(kind) if kind.isdigit() else 503, HTML)
        proxy.worker = well
        title = "Nguyễn Thị Ánh Nguyệt" if path == TEACHERS_PAGE else "Consumer lag"
        await expect(reader.page.locator("h1")).to_have_text(title, timeout=BACK_MS)
        seconds = 15 if path == TEACHERS_PAGE else 2
        await expect(reader.page.get_by_text(f"Live, every {seconds} s")).to_be_visible()
        if path == "/consumer-lag":
            await expect(reader.page.locator(".plot canvas")).to_have_count(2)


def unwell_node(kind: str, empty: ReadModel) -> Node:
    node = a_node(empty, ToldLag(a_report()))
    if kind == "500":
        node.lag = node.read_model = Broken()  # type: ignore[assignment]
    return node


class Broken:
    """A lag monitor, and a local copy, with a defect."""

    caught_up = True

    def snapshot(self) -> None:
        raise RuntimeError("a defect")

    def teacher(self, *_args: object) -> None:
        raise RuntimeError("a defect")


async def test_a_teacher_who_is_deleted_while_the_page_is_open_is_shown_as_deleted(
    behind: tuple[Proxy, str], model: ReadModel, reading: Reading
) -> None:
    _, site = behind
    gone = "0a000000-0000-4000-8000-00000000000e"
    now = datetime.now(UTC)
    made = TeacherCreated(
        event_id=event_id(70), event_type="emis.teacher.created", timestamp=now, teacher_id=gone, full_name="Sắp Nghỉ"
    )
    await keep(model, [made])
    async with reading() as reader:
        await reader.page.goto(f"{site}/teachers/{gone}")
        await expect(reader.page.locator("h1")).to_have_text("Sắp Nghỉ")
        deleted = TeacherDeleted(
            event_id=event_id(71), event_type="emis.teacher.deleted", timestamp=datetime.now(UTC), teacher_id=gone
        )
        await keep(model, [deleted])
        await ask_now(reader.page)
        await expect(reader.page.locator("h1")).to_have_text("Deleted")
        await expect(reader.page.get_by_role("alert")).to_be_hidden()


async def test_what_is_known_to_be_deleted_stays_so_while_the_worker_cannot_tell(
    behind: tuple[Proxy, str], empty_model: ReadModel, reading: Reading
) -> None:
    proxy, site = behind
    empty_model.caught_up = False
    async with serving(a_node(empty_model, ToldLag(a_report()))) as not_ready, reading() as reader:
        await reader.page.goto(f"{site}/teachers/{GONE_TEACHER}")
        await expect(reader.page.locator("h1")).to_have_text("Deleted")
        proxy.worker = str(not_ready.make_url("")).rstrip("/")
        await ask_now(reader.page)
        await expect(reader.page.get_by_role("alert")).to_contain_text("status 503")
        await expect(reader.page.locator("h1")).to_have_text("Deleted")
        no_errors_of_the_browser(reader.wrong)


async def test_a_refused_form_does_not_ask_for_what_its_address_shows(worker: str, reading: Reading) -> None:
    """The answer to a POST is not what a GET of the same address brings."""
    async with reading() as reader:
        page = reader.page
        await page.goto(f"{worker}/health")
        await page.evaluate(
            """() => {
                const form = document.body.appendChild(document.createElement("form"));
                [form.method, form.action] = ["post", "/circuit-breakers/lessons/create/reset"];
                form.submit();
            }"""
        )
        await expect(page.locator(".code")).to_have_text("403")
        await expect(page.get_by_role("button", name="Pause")).to_be_hidden()
        no_errors_of_the_browser(reader.wrong)


async def test_a_defect_of_a_script_does_not_leave_the_page_called_up_to_date(
    behind: tuple[Proxy, str], reading: Reading
) -> None:
    _, site = behind
    async with reading() as reader:
        page = reader.page
        await page.goto(site + "/health")
        await page.evaluate("() => { htmx.swap = () => { throw new Error('a defect'); }; }")
        await ask_now(page)
        await expect(page.get_by_role("alert")).to_be_visible()
        assert await marks_of_being_well(page) == []
        assert reader.wrong != []  # The console has it.
        reader.wrong.clear()


async def test_an_old_copy_that_does_not_know_a_teacher_takes_nothing_away(
    behind: tuple[Proxy, str], empty_model: ReadModel, reading: Reading
) -> None:
    """Another worker, far behind, answers 404 for what is there."""
    proxy, site = behind
    async with serving(a_node(empty_model, ToldLag(a_report(), age=64.0))) as old, reading() as reader:
        await reader.page.goto(site + TEACHERS_PAGE)
        proxy.worker = str(old.make_url("")).rstrip("/")
        await ask_now(reader.page)
        await expect(reader.page.get_by_role("alert")).to_be_visible()
        await expect(reader.page.locator("h1")).to_have_text("Nguyễn Thị Ánh Nguyệt")
        no_errors_of_the_browser(reader.wrong)


@pytest.fixture
async def empty_model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadModel]:
    model = ReadModel(tmp_path_factory.mktemp("empty") / "read-model")
    model.caught_up = True
    yield model
    model.close()


async def test_a_hidden_tab_asks_nothing_and_asks_at_once_when_it_is_shown_again(
    behind: tuple[Proxy, str], reading: Reading
) -> None:
    proxy, site = behind
    async with reading() as reader:
        page = reader.page
        await page.clock.install()
        await page.goto(site + f"/classes/{HOMEROOM_CLASS}")
        await hide(page, True)
        before = len(proxy.asked)
        await page.clock.run_for(120_000)
        assert len(proxy.asked) == before
        async with page.expect_response(re.compile("/classes/")):
            await hide(page, False)


async def hide(page: Page, hidden: bool) -> None:
    await page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_an_open_page_keeps_its_language_whatever_is_chosen_elsewhere(
    behind: tuple[Proxy, str], reading: Reading
) -> None:
    _, site = behind
    async with reading(language="en") as reader:
        await reader.page.goto(site + "/health")
        other = await reader.page.context.new_page()
        await other.goto(f"{site}/health?lang=vi")
        async with reader.page.expect_response(re.compile("/health")):
            await ask_now(reader.page)
        await expect(reader.page.locator("h1")).to_have_text("Health")
        await other.close()


@pytest.mark.parametrize(("path", "seconds"), [(TEACHERS_PAGE, 15), (f"/classes/{HOMEROOM_CLASS}", 15), ("/health", 2)])
async def test_a_page_is_asked_for_as_often_as_it_is_good_for(
    behind: tuple[Proxy, str], reading: Reading, path: str, seconds: int
) -> None:
    _, site = behind
    async with reading() as reader:
        await reader.page.goto(site + path)
        await expect(reader.page.get_by_text(f"Live, every {seconds} s")).to_be_visible()
        await expect(reader.page.locator("#live")).to_have_attribute("data-every", str(seconds))


async def test_a_page_whose_library_was_refused_is_kept_up_to_date_all_the_same(
    behind: tuple[Proxy, str], model: ReadModel, reading: Reading
) -> None:
    _, site = behind
    async with reading() as reader:
        page = reader.page
        await page.route(re.compile("htmx"), lambda route: route.abort())
        await page.goto(site + f"/classes/{HOMEROOM_CLASS}")
        await keep(model, [homeroom_class(datetime.now(UTC), "Lớp 12 Sau")])
        await ask_now(page)
        await expect(page.locator("h1")).to_have_text("Lớp 12 Sau")
        await keep(model, [homeroom_class(datetime.now(UTC))])
        no_errors_of_the_browser(reader.wrong)
