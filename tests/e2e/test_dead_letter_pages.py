"""The pages of dead letters in a real browser, on a real Kafka: on phones, by keyboard, and while brokers are away."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from playwright.async_api import expect

from emis_streams import admin
from emis_streams.settings import Settings
from tests.e2e.axe import violations
from tests.e2e.broken_proxy import proxied
from tests.e2e.conftest import DESKTOP, PHONE, SCREENSHOTS, Reading
from tests.integration.test_dead_letter_pages import send
from tests.pages import a_node, serving
from tests.services import free_port, kafka_cluster, settings_for

LETTERS: list[tuple[bytes | None, bytes | None, str]] = [
    (
        b"0c000000-0000-4000-8000-00000000000c",
        '{"className": "Lớp 10A1"}'.encode(),
        "Object missing required field `classId`",
    ),
    (b"0c000000-0000-4000-8000-00000000000d", b'{"className": "' + b"x" * 3000, "JSON is malformed: invalid byte 3015"),
    (None, None, "the record has no value"),
    (b"\xff\xfe\x00", bytes(range(256)), "invalid UTF-8 in byte 0, and a very long reason: " + "because " * 80),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A broker whose dead letters no worker writes."""
    with kafka_cluster() as cluster:
        found = settings_for(cluster.bootstrap, tmp_path_factory.mktemp("dead-letters"))
        # Of a thread: the module's own event loop runs already.
        making = threading.Thread(target=lambda: asyncio.run(admin.ensure_topics(found)))
        making.start()
        making.join()
        yield found


@pytest.fixture(scope="module")
async def empty_site(settings: Settings) -> AsyncIterator[str]:
    """Before anything was rejected."""
    async with serving(a_node(None, None, settings=settings)) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture(scope="module")
async def place(settings: Settings) -> str:
    """Of one of the letters, which are all there from now on."""
    await send(settings, LETTERS[1:])
    [first] = await send(settings, LETTERS[:1])
    return first


LOOKS = [("vi", PHONE, "dark"), ("en", PHONE, "light"), ("vi", DESKTOP, "light"), ("en", DESKTOP, "dark")]


async def test_no_dead_letters_is_good_news(empty_site: str, reading: Reading) -> None:
    async with reading(language="vi") as reader:
        await reader.page.goto(f"{empty_site}/dead-letters")
        await expect(reader.page.get_by_text("Không có sự kiện lỗi")).to_be_visible(
            timeout=30_000
        )  # After a first read.
        assert await violations(reader.page) == []


@pytest.mark.parametrize(("language", "width", "scheme"), LOOKS)
@pytest.mark.parametrize("shown", ["list", "letter"])
async def test_a_page_fits_its_screen_and_axe_finds_nothing_wrong(
    empty_site: str, place: str, reading: Reading, shown: str, language: str, width: int, scheme: str
) -> None:
    path = "dead-letters" if shown == "list" else f"dead-letters/{place}"
    async with reading(width=width, language=language, color_scheme=scheme) as reader:
        await reader.page.goto(f"{empty_site}/{path}")
        assert await violations(reader.page) == []
        assert await reader.what_runs_out() == []
        SCREENSHOTS.mkdir(exist_ok=True)
        await reader.page.screenshot(path=SCREENSHOTS / f"viewport-dead-{shown}-{language}-{width}-{scheme}.png")


async def test_a_letter_is_read_and_its_command_copied_by_keyboard(
    empty_site: str, place: str, reading: Reading
) -> None:
    async with reading(permissions=["clipboard-read", "clipboard-write"]) as reader:
        page = reader.page
        await page.goto(f"{empty_site}/dead-letters")
        letters = page.get_by_role("region", name="Table: Dead letters")
        await letters.get_by_role("link", name=place, exact=True).press("Enter")
        await expect(page.get_by_role("group", name="Why it was rejected")).to_contain_text("classId")
        await expect(page.get_by_role("region", name="Value")).to_contain_text("Lớp 10A1")
        command = f"emis-streams dead-letters replay {place}"
        await page.get_by_role("button", name=f"Copy {command}").press("Enter")
        await expect(page.get_by_role("button", name=f"Copy {command}")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == command


@pytest.mark.parametrize("path", ["dead-letters", "dead-letters/{place}"])
async def test_a_page_that_began_without_brokers_becomes_the_page(
    empty_site: str, settings: Settings, place: str, reading: Reading, path: str
) -> None:
    away = msgspec.structs.replace(settings, kafka_brokers=f"127.0.0.1:{free_port()}")
    async with (
        serving(a_node(None, None, settings=away)) as without_brokers,
        proxied(str(without_brokers.make_url(""))) as (proxy, site),
        reading() as reader,
    ):
        response = await reader.page.goto(f"{site}/{path.format(place=place)}")
        assert response is not None
        assert response.status == 503
        await expect(reader.page.locator("h1")).to_have_text("Dead letters cannot be read now")
        proxy.worker = empty_site
        await expect(reader.page.locator("h1")).to_contain_text(
            place if "{" in path else "Dead letters", timeout=30_000
        )
        await expect(reader.page.get_by_text("classId").first).to_be_visible()
        await expect(reader.page.get_by_role("alert")).to_be_hidden()
