"""Which answers are compressed, for whom, and what else changes with that."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer, make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.read_model.model import ReadModel
from emis_streams.settings import Settings
from tests.pages import TEACHER, ToldLag, a_history, a_node, a_report, filled_model, serving
from web import answer_headers, compression

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadModel]:
    async with filled_model(tmp_path_factory.mktemp("pages")) as filled:
        yield filled


@pytest.fixture(scope="module")
async def client(model: ReadModel) -> AsyncIterator[ClientSession]:
    """Asks for nothing compressed unless a test says so, and shows bodies as they were sent."""
    async with (
        serving(a_node(model, ToldLag(a_report(), a_history()))) as server,
        ClientSession(server.make_url("/"), auto_decompress=False, headers={"Accept-Encoding": "identity"}) as session,
    ):
        yield session


@pytest.mark.parametrize("path", ["/", f"/teachers/{TEACHER}", "/health", "/consumer-lag", "/nothing/here"])
async def test_a_page_is_the_same_compressed_and_as_it_is(client: ClientSession, path: str) -> None:
    plain = await client.get(path, headers=HTML)
    packed = await client.get(path, headers={**HTML, "Accept-Encoding": "gzip, deflate, br"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    whole, sent = await plain.read(), await packed.read()
    assert len(sent) < len(whole) / 1.5
    assert int(packed.headers["Content-Length"]) == len(sent)
    assert gzip.decompress(sent).startswith(b"<!doctype html>")
    for response in (plain, packed):
        assert response.headers["Vary"] == "Accept, Accept-Encoding, Accept-Language, Page-Language, Cookie"


@pytest.mark.parametrize("path", [f"/api/teachers/{TEACHER}", "/api/consumer-lag", "/metrics", "/health"])
async def test_answers_for_programs_are_compressed_if_they_ask_for_it(client: ClientSession, path: str) -> None:
    plain = await client.get(path)
    packed = await client.get(path, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert zlib.decompress(await packed.read(), zlib.MAX_WBITS | 16)
    of_page_too = "Accept, Accept-Encoding" if path == "/health" else "Accept-Encoding"
    assert plain.headers["Vary"] == packed.headers["Vary"] == of_page_too


async def test_a_small_answer_stays_as_it_is(client: ClientSession) -> None:
    response = await client.get("/livez", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in response.headers
    assert "Vary" not in response.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_what_another_site_asks_for_is_not_compressed(client: ClientSession, site: str) -> None:
    """Else its page could learn from lengths whether a text that it puts into the address is in the answer."""
    for path in ("/", f"/teachers/{TEACHER}", f"/api/teachers/{TEACHER}", "/nothing/here"):
        headers = {**HTML, "Accept-Encoding": "gzip", "Sec-Fetch-Site": site}
        assert "Content-Encoding" not in (await client.get(path, headers=headers)).headers


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_what_our_pages_and_people_ask_for_is_compressed(client: ClientSession, site: str) -> None:
    headers = {**HTML, "Accept-Encoding": "gzip", "Sec-Fetch-Site": site}
    assert "Content-Encoding" in (await client.get("/", headers=headers)).headers


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("br;q=1.0, gzip;q=0.2", True),
        ("*", True),
        ("deflate, *;q=0.1", True),
        ("", False),
        ("br", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("gzip;q=much", False),
        ("*;q=0", False),
    ],
)
def test_gzip_is_sent_to_who_takes_it(accepted: str, takes: bool) -> None:
    request = make_mocked_request("GET", "/", headers={"Accept-Encoding": accepted})
    assert compression.takes_gzip(request) is takes


def test_who_does_not_say_gets_it_as_it_is() -> None:
    assert not compression.takes_gzip(make_mocked_request("GET", "/"))


@given(st.text(max_size=60))
def test_any_header_is_understood(accepted: str) -> None:
    assert compression.takes_gzip(make_mocked_request("GET", "/", headers={"Accept-Encoding": accepted})) in (
        True,
        False,
    )


@given(st.binary(max_size=5_000))
def test_what_is_compressed_is_what_was_given(body: bytes) -> None:
    assert gzip.decompress(compression.gzipped(body)) == body


async def test_pictures_streams_and_what_is_compressed_already_are_left_alone() -> None:
    async def picture(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(5_000), content_type="image/png")

    async def packed(_request: web.Request) -> web.Response:
        body = gzip.compress(b"x" * 90_000)
        return web.Response(body=body + bytes(2_000), content_type="text/html", headers={"Content-Encoding": "gzip"})

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        await response.write(bytes(5_000))
        await asyncio.sleep(0)
        return response

    app = web.Application()
    answer_headers.setup(app, {})
    app.add_routes([web.get("/picture", picture), web.get("/packed", packed), web.get("/stream", stream)])
    headers = {"Accept-Encoding": "gzip"}
    async with TestServer(app) as server, ClientSession(server.make_url("/"), auto_decompress=False) as session:
        for path in ("/picture", "/stream"):
            response = await session.get(path, headers=headers)
            assert "Content-Encoding" not in response.headers
            assert await response.read() == bytes(5_000)
        once = await session.get("/packed", headers=headers)
        assert (await once.read()).startswith(gzip.compress(b"x" * 90_000)[:4])


async def test_a_head_request_is_told_the_length_and_gets_nothing(client: ClientSession) -> None:
    response = await client.head("/nothing/here", headers={**HTML, "Accept-Encoding": "gzip"})
    assert response.status == 404
    assert await response.read() == b""


async def test_no_answer_holds_a_token(model: ReadModel, tmp_path: Path) -> None:
    tokens = {"reader": "reader-token-1c9f2ab84d7e6035", "operator": "operator-token-77ab10c4e2d9f836"}
    file = tmp_path / "tokens"
    file.write_text("".join(f"{name}:{token}\n" for name, token in tokens.items()))
    file.chmod(0o600)
    node = a_node(model, ToldLag(a_report(), a_history()), settings=Settings(web_tokens_file=str(file)))
    async with serving(node) as server, ClientSession(server.make_url("/")) as session:
        for token in tokens.values():
            for path in ("/", f"/teachers/{TEACHER}", f"/api/teachers/{TEACHER}", "/health", "/consumer-lag", "/no"):
                for accept in ("text/html", "*/*"):
                    headers = {"Authorization": f"Bearer {token}", "Accept": accept}
                    async with session.get(path, headers=headers) as response:
                        told = f"{response.headers} {await response.text()}"
                        assert not [known for known in tokens.values() if known in told]
                        assert response.status != 401
