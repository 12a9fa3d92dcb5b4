"""The gateway's page of services in a real browser: open breakers first, and reset by operators."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from playwright.async_api import expect

from emis_streams.services.circuit_breaker import State
from emis_streams.services.gateway import GatewayService
from emis_streams.settings import Settings
from tests.e2e.axe import violations
from tests.e2e.conftest import DESKTOP, PHONE, Reading
from tests.unit.test_service_pages import no_dead_letter, register, site_of

OPERATOR = "operator-token-1c4e8a7b2d9f4e60"
STATUS = "services/status"


@pytest.fixture
def gateway(tmp_path: Path) -> GatewayService:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"operator:{OPERATOR}\n")
    tokens.chmod(0o600)
    own = GatewayService(Settings(web_tokens_file=str(tokens)), no_dead_letter, ["lessons", "teacher"])
    register(own, 8002, "lessons")
    for pattern in ("create-lesson", "get-lesson", "get lessons/all"):
        own.breakers.of("lessons", pattern)
    own.breakers.of("lessons", "get lessons/all")._change(State.OPEN, "5 calls failed in a row")
    return own


@pytest.fixture
async def site(gateway: GatewayService) -> AsyncIterator[str]:
    server = TestServer(site_of(gateway), host="127.0.0.1")
    await server.start_server()
    yield str(server.make_url("/"))
    await server.close()


async def test_an_open_breaker_comes_first_and_is_reset_from_the_page(
    site: str, gateway: GatewayService, reading: Reading
) -> None:
    async with reading(http_credentials={"username": "any", "password": OPERATOR}) as reader:
        page = reader.page
        await page.goto(site + STATUS)
        await expect(page.get_by_role("heading", level=2).first).to_have_text(re.compile("breakers"))
        rows = page.get_by_role("region", name="Table: Circuit breakers").get_by_role("row")
        await expect(rows.nth(1)).to_contain_text("get lessons/all")
        await expect(rows.nth(1)).to_contain_text("Open")
        await expect(page.get_by_role("button", name=re.compile("^Reset"))).to_have_count(1)
        await page.get_by_role("button", name="Reset lessons get lessons/all").press("Enter")
        await expect(page.get_by_role("button", name=re.compile("^Reset"))).to_have_count(0)
        await expect(page).to_have_url(site + STATUS)
        assert gateway.breakers.of("lessons", "get lessons/all").state is State.CLOSED


async def test_a_page_of_another_site_resets_nothing(site: str, gateway: GatewayService, reading: Reading) -> None:
    """The browser knows the operator's password, and sends it along."""
    async with reading(http_credentials={"username": "any", "password": OPERATOR}) as reader:
        await reader.page.goto(site + STATUS)
        elsewhere = site.replace("127.0.0.1", "localhost")
        await reader.page.goto(elsewhere + "livez")
        form = f"<form method=post action='{site}circuit-breakers/lessons/get%20lessons%2Fall/reset'><button>x</button>"
        await reader.page.set_content(form)
        await reader.page.get_by_role("button").click()
        await expect(reader.page.get_by_text("403")).to_be_visible()
        reader.wrong.clear()
    assert gateway.breakers.of("lessons", "get lessons/all").state is State.OPEN


async def test_addresses_lead_to_the_pages_of_a_service(site: str, reading: Reading) -> None:
    async with reading(http_credentials={"username": "any", "password": OPERATOR}) as reader:
        await reader.page.goto(site + STATUS)
        link = reader.page.get_by_role("link", name="127.0.0.1:8002")
        await expect(link).to_have_attribute("href", "http://127.0.0.1:8002/")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
async def test_axe_finds_nothing_wrong_with_the_services(site: str, reading: Reading, width: int) -> None:
    async with reading(
        width=width, language="vi", http_credentials={"username": "any", "password": OPERATOR}
    ) as reader:
        await reader.page.goto(site + STATUS)
        assert await violations(reader.page) == []
        assert await reader.what_runs_out() == []
        await reader.shoot(f"services-vi-{width}")
