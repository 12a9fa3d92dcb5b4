"""Times that go on in the browser, while the worker has nothing new to send."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import expect

from emis_streams.read_model.model import ReadModel
from tests.e2e.conftest import Reading
from tests.pages import TEACHER, ToldLag, a_node, a_report, serving

AGO = "time[data-ago]"
JUST_NOW = re.compile(r"^(just now|\d+ minutes? ago)$")
"""The teacher's rows are as old as the test process."""


@pytest.fixture
async def page_address(model: ReadModel) -> AsyncIterator[str]:
    async with serving(a_node(model, ToldLag(a_report()))) as server:
        yield str(server.make_url(f"/teachers/{TEACHER}"))


async def test_an_age_goes_on_without_an_answer_of_the_worker(page_address: str, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.clock.install(time=datetime.now(UTC))
        await reader.page.goto(page_address)
        age = reader.page.locator(AGO).first
        await expect(age).to_have_text(JUST_NOW)
        await reader.page.clock.fast_forward("05:00:00")
        await expect(age).to_have_text("5 hours ago")


@pytest.mark.parametrize("hours", [-30, 30])
async def test_a_browser_whose_clock_is_wrong_counts_by_the_workers(
    page_address: str, reading: Reading, hours: int
) -> None:
    async with reading() as reader:
        await reader.page.clock.install(time=datetime.now(UTC) + timedelta(hours=hours))
        await reader.page.goto(page_address)
        await expect(reader.page.locator(AGO).first).to_have_text(JUST_NOW)


async def test_a_clock_that_is_set_while_a_page_is_open_changes_no_age(page_address: str, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.goto(page_address)
        age = reader.page.locator(AGO).first
        await expect(age).to_have_text(JUST_NOW)
        async with reader.page.expect_response(re.compile("/livez")):
            await reader.page.evaluate("() => { const now = Date.now; Date.now = () => now() + 30 * 3_600_000; }")
        await expect(age).to_have_text(JUST_NOW)


async def test_a_page_that_began_without_times_counts_by_the_workers_clock(
    model: ReadModel, tmp_path: Path, reading: Reading
) -> None:
    node = a_node(model, ToldLag(a_report()))
    empty = node.read_model = ReadModel(tmp_path / "empty")
    async with serving(node) as server, reading() as reader:
        await reader.page.clock.install(time=datetime.now(UTC) + timedelta(hours=30))
        await reader.page.goto(str(server.make_url(f"/teachers/{TEACHER}")))
        await expect(reader.page.locator(".code")).to_have_text("503")
        node.read_model = model
        await reader.page.clock.fast_forward("00:10")
        await expect(reader.page.locator(AGO).first).to_have_text(JUST_NOW)
    empty.close()


async def test_it_speaks_the_language_of_the_page(page_address: str, reading: Reading) -> None:
    async with reading(language="vi") as reader:
        await reader.page.goto(page_address)
        await expect(reader.page.locator(AGO).first).to_have_text(re.compile(r"^(vừa xong|\d+ phút trước)$"))


async def test_without_scripts_the_time_itself_is_there(page_address: str, reading: Reading) -> None:
    async with reading(java_script_enabled=False) as reader:
        await reader.page.goto(page_address)
        await expect(reader.page.locator(AGO).first).to_have_text(re.compile(r"^\d\d:\d\d:\d\d, .* \d{4}$"))
