"""Tables that are closed are sent when somebody opens them."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from emis_streams.read_model.model import ReadModel
from tests.e2e.conftest import Reading
from tests.pages import ToldLag, a_history, a_node, a_report, serving

ROW = "emis.class.updated"


@pytest.fixture
async def lag_page(model: ReadModel) -> AsyncIterator[str]:
    async with serving(a_node(model, ToldLag(a_report(), a_history()))) as server:
        yield str(server.make_url("/consumer-lag"))


async def test_a_table_comes_when_it_is_opened_and_stays_up_to_date(lag_page: str, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.goto(lag_page)
        table = reader.page.locator("#partitions-1")
        await expect(table.get_by_role("row")).to_have_count(0)
        await table.locator("summary").click()
        await expect(table.get_by_role("row", name=ROW).first).to_be_visible()
        assert "open=partitions-1" in reader.page.url
        async with reader.page.expect_response(lambda response: "open=partitions-1" in response.url):
            pass
        await expect(table.get_by_role("row", name=ROW).first).to_be_visible()
        await table.locator("summary").click()
        await expect(reader.page).to_have_url(re.compile(r"/consumer-lag$"))


async def test_without_scripts_a_link_opens_it(lag_page: str, reading: Reading) -> None:
    async with reading(java_script_enabled=False) as reader:
        await reader.page.goto(lag_page)
        await reader.page.locator("#partitions-1 summary").click()
        await reader.page.locator("#partitions-1").get_by_role("link", name="Show the partitions").click()
        await expect(reader.page.locator("#partitions-1").get_by_role("row", name=ROW).first).to_be_visible()


async def test_tables_that_a_filter_opens_are_closed_again_without_it(lag_page: str, reading: Reading) -> None:
    async with reading() as reader:
        async with reader.page.expect_response(lambda response: "/consumer-lag" in response.url):
            await reader.page.goto(f"{lag_page}?filter=updated-3")
        table = reader.page.locator("#partitions-1")
        await expect(table.get_by_role("row", name=ROW).first).to_be_visible()
        async with reader.page.expect_response(lambda response: "/consumer-lag" in response.url):
            pass  # The page has asked for itself: by now it would have the tables in its address.
        assert "open=" not in reader.page.url
        await reader.page.get_by_role("link", name="Show all").click()
        await expect(reader.page).to_have_url(re.compile(r"/consumer-lag\??$"))
        await expect(table).not_to_have_attribute("open", re.compile(".*"))
