"""A snapshot behind an address: bounded, from the host that was named, and no password is shown."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from emis_streams.cli.download import download
from emis_streams.errors import Unavailable

MOST_BYTES = 1_000_000
BOMB = gzip.compress(bytes(50_000_000))


async def _text(_request: web.Request) -> web.Response:
    return web.Response(body=b"{}\n" * 100)


async def _with_password(request: web.Request) -> web.Response:
    return web.Response(body=request.headers.get("Authorization", "none").encode())


async def _bomb(_request: web.Request) -> web.Response:
    return web.Response(body=BOMB, headers={"Content-Encoding": "gzip"})


async def _hostile(_request: web.Request) -> web.Response:
    return web.Response(status=418, reason="\x1b[31mred" + "x" * 500)


async def _not_gzip(_request: web.Request) -> web.Response:
    return web.Response(body=b"\x1b[31mred", headers={"Content-Encoding": "gzip"})


async def _redirect(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": request.query.get("to", "/redirect")})


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    app = web.Application()
    for path, handler in {
        "/text": _text,
        "/authorization": _with_password,
        "/bomb": _bomb,
        "/hostile": _hostile,
        "/not-gzip": _not_gzip,
        "/redirect": _redirect,
    }.items():
        app.router.add_get(path, handler)
    async with TestServer(app) as started:
        yield started


async def read(url: str) -> bytes:
    return b"".join([block async for block in download(url, MOST_BYTES)])


def with_password(server: TestServer, path: str, password: str = "qu%2Fux") -> str:
    return f"http://emis:{password}@127.0.0.1:{server.port}{path}"


async def test_a_text_comes_as_it_is(server: TestServer) -> None:
    assert await read(str(server.make_url("/text"))) == b"{}\n" * 100


async def test_what_grows_too_large_when_it_is_unpacked_is_refused(server: TestServer) -> None:
    with pytest.raises(Unavailable, match=r"more than 1,000,000 bytes unpacked: see --max-gib"):
        await read(str(server.make_url("/bomb")))


async def test_a_redirect_on_the_same_host_is_followed_with_the_password(server: TestServer) -> None:
    assert (await read(with_password(server, "/redirect?to=/authorization"))).startswith(b"Basic ")


@pytest.mark.parametrize(
    "to",
    ["http://169.254.1.1/latest", "//elsewhere.example/x", "http://127.0.0.1:1/x", "file:///etc/passwd", "ftp://x"],
)
async def test_a_redirect_to_another_host_is_refused(server: TestServer, to: str) -> None:
    with pytest.raises(Unavailable, match=r"leads to .*, another host: give that address itself"):
        await read(f"{server.make_url('/redirect')}?to={to}")


async def test_redirects_without_an_end_are_refused(server: TestServer) -> None:
    with pytest.raises(Unavailable, match="leads on more than 5 times"):
        await read(f"{server.make_url('/redirect')}?to=/redirect?to=/redirect")


@pytest.mark.parametrize("path", ["/hostile", "/not-gzip", "/redirect?to=http://%1b[31mred@x"])
async def test_what_a_server_says_gives_no_commands_to_the_terminal(server: TestServer, path: str) -> None:
    with pytest.raises(Unavailable) as told:
        await read(str(server.make_url("/")).rstrip("/") + path)
    assert str(told.value).isprintable()
    assert str(told.value).isascii()
    assert len(str(told.value)) < 500


@pytest.mark.parametrize("path", ["/hostile", "/bomb", "/not-gzip", "/nowhere", "/redirect?to=http://x/"])
async def test_no_password_is_shown(server: TestServer, path: str) -> None:
    for password in ("qu%2Fux", "qu@ux", "quux?", "qu:ux"):
        with pytest.raises(Unavailable) as told:
            await read(with_password(server, path, password))
        assert "***" in str(told.value)
        assert not [part for part in ("quux", "qu@", "qu:", "qu%", "ux@") if part in str(told.value)]


@pytest.mark.parametrize(
    "url", ["http://", "http://[", "https://emis:canary@127.0.0.1:99999/x", "http://127.0.0.1:1/x"]
)
async def test_an_address_that_is_none_is_told(url: str) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(Unavailable) as told:
            await read(url)
    assert "canary" not in str(told.value)
