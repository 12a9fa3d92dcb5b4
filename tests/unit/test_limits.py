"""The door of the web server: too many, too slow and too large are turned away, and all others are answered."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from emis_streams.engine import connection, door
from emis_streams.engine.connection import Connection
from emis_streams.engine.door import DOOR, Door
from emis_streams.node import NODE
from emis_streams.read_model.model import ReadModel
from emis_streams.settings import Settings
from tests.pages import TEACHER, SiteServer, ToldLag, a_history, a_node, a_report, filled_model
from tests.services import until
from tests.unit.test_health_checks import a_follower
from tests.unit.test_health_endpoints import Told
from web import PAGES, setup
from web.i18n import CATALOGUES
from web.limits import limits_of

_ANSWER_SECONDS = 60
_PAGE = f"/api/teachers/{TEACHER}"
Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadModel]:
    async with filled_model(tmp_path_factory.mktemp("limits")) as filled:
        yield filled


class Site:
    """A real site with some limits, and with a page that waits until it may answer."""

    def __init__(self, server: TestServer, door: Door, go_on: asyncio.Event) -> None:
        self.door = door
        self.go_on = go_on
        self.in_the_next_turn: Callable[[Connection], object] = lambda _connection: None
        """Of the loop, after the answer of `/then`: called with the server's side of that connection."""
        self._server = server
        self._open: list[asyncio.StreamWriter] = []

    async def connect(self, receive_buffer: int | None = None) -> Connected:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, (self._server.host, self._server.port))
        reader, writer = await asyncio.open_connection(sock=sock)
        self._open.append(writer)
        return reader, writer

    async def sent(self, request: bytes) -> Connected:
        connected = await self.connect()
        connected[1].write(request)
        return connected

    async def ask(self, path: str, *headers: str) -> str:
        """The whole answer on a connection of its own."""
        reader, _ = await self.sent(get(path, *headers, "Connection: close"))
        return (await read_all(reader)).decode()

    def close(self) -> None:
        for writer in self._open:
            writer.transport.abort()


def get(path: str, *headers: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "")).encode()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Until the site closes the connection, in whatever way."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await reader.read()
    except ConnectionError:
        return b""


@pytest.fixture
async def site_with(model: ReadModel) -> Callable[..., Any]:
    return lambda **limits: a_site(model, **limits)


@asynccontextmanager
async def a_site(model: ReadModel, **limits: float) -> AsyncIterator[Site]:
    go_on = asyncio.Event()

    async def waits(_request: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response(text="done")

    async def elsewhere(request: web.Request) -> web.Response:
        with request.app[DOOR].elsewhere(request):
            await go_on.wait()
        return web.Response(text="done")

    async def then(request: web.Request) -> web.Response:
        assert request.transport is not None
        asyncio.get_running_loop().call_soon(site.in_the_next_turn, request.transport.get_protocol())
        return web.Response(text="done")

    follower = Told(a_follower("read-model"))
    node = a_node(model, ToldLag(a_report(), a_history()), read_model_follower=follower)
    node.settings = msgspec.structs.replace(node.settings, **limits)
    app = web.Application()
    app[NODE] = node
    setup(app)
    for page in PAGES:
        app.add_routes(page.routes)
    app.router.add_get("/waits", waits)
    app.router.add_get("/then", then)
    app.router.add_get("/elsewhere", elsewhere)
    server = SiteServer(app, host="127.0.0.1")
    await server.start_server()
    site = Site(server, app[DOOR], go_on)
    try:
        yield site
    finally:
        go_on.set()
        site.close()
        await server.close()
    assert (site.door.n_connections, site.door.n_requests) == (0, 0)


# Too many


async def test_more_requests_than_allowed_get_503_at_once_and_probes_get_their_answer(site_with: Any) -> None:
    async with site_with(web_max_requests=3) as site:
        under_way = [await site.sent(get("/waits", "Connection: close")) for _ in range(3)]
        await until(lambda: site.door.n_requests == 3)
        began = time.monotonic()
        refused = await site.ask(_PAGE)
        assert time.monotonic() - began < 1.0
        head, _, body = refused.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
        assert "\r\nRetry-After: 1\r\n" in head
        assert "\r\nContent-Type: application/problem+json\r\n" in head
        assert msgspec.json.decode(body)["status"] == 503
        for path in ("/livez", "/readyz", "/health", "/metrics"):
            assert (await site.ask(path)).startswith("HTTP/1.1 200"), path
        assert 'emis_http_turned_away_total{reason="overload"} 1.0' in await site.ask("/metrics")
        site.go_on.set()
        for reader, _ in under_way:
            assert (await read_all(reader)).startswith(b"HTTP/1.1 200")
        assert (await site.ask(_PAGE)).startswith("HTTP/1.1 200")


async def test_a_browser_that_is_refused_unparsed_gets_a_page_in_both_languages_with_a_way_on(site_with: Any) -> None:
    async with site_with(web_max_requests=1) as site:
        ordinary = (await site.ask("/teachers", "Accept: text/html")).partition("\r\n\r\n")[0]
        await site.sent(get("/waits", "Connection: close"))
        await until(lambda: site.door.n_requests == 1)
        head, _, body = (await site.ask("/teachers", "Accept: text/html")).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    of_its_own = {"Content-Length", "Cache-Control", "Date", "Connection", "Etag", "ETag", "Vary"}
    for line in ordinary.splitlines()[1:]:
        assert line in head.splitlines() or line.partition(":")[0] in of_its_own, line
    assert "\r\nCache-Control: no-store\r\n" in head
    assert "\r\nRetry-After: 1\r\n" in head
    assert '<meta http-equiv="refresh"' in body
    assert '<a class="button" href="">Thử lại ngay <span lang="en"' in body
    for texts in CATALOGUES.values():
        assert texts["overloaded.title"] in body
        assert texts["overloaded.text"] in body
        assert texts["overloaded.again"] in body
    assert "<script" not in body


@pytest.mark.parametrize(("certificate", "is_told"), [("", False), ("cert.pem", True)])
def test_refusals_over_tls_say_that_it_is_always_tls(certificate: str, is_told: bool) -> None:
    limits = limits_of(Settings(web_cert_file=certificate, web_key_file=certificate))
    for refusal in (limits.refusal, limits.refusal_page):
        assert (b"Strict-Transport-Security: max-age=31536000\r\n" in refusal) is is_told
    assert ("Strict-Transport-Security" in limits.headers) is is_told


async def test_requests_that_wait_for_another_process_keep_nobody_out(site_with: Any) -> None:
    async with site_with(web_max_requests=2) as site:
        under_way = [await site.sent(get("/elsewhere", "Connection: close")) for _ in range(5)]
        await until(lambda: site.door.n_connections == 5)
        await until(lambda: site.door.n_requests == 0)
        assert (await site.ask(_PAGE)).startswith("HTTP/1.1 200")
        under_way.pop()[1].transport.abort()  # Its client goes away meanwhile.
        await until(lambda: site.door.n_connections == 4)
        site.go_on.set()
        for reader, _ in under_way:
            assert (await read_all(reader)).startswith(b"HTTP/1.1 200")
        await until(lambda: site.door.n_requests == 0)


REFUSED = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno"


async def test_the_gate_refuses_what_it_knows_before_it_is_parsed_and_lets_in_the_rest(site_with: Any) -> None:
    async with site_with() as site:
        seen: list[str] = []

        def gate(data: bytes, remote: str) -> bytes | None:
            seen.append(remote)
            return REFUSED if data.startswith(b"GET /refused ") else None

        site.door.gate = gate
        reader, writer = await site.sent(get("/refused"))
        assert await reader.readexactly(len(REFUSED)) == REFUSED
        writer.write(get(_PAGE, "Connection: close"))  # The connection stays. This one is none of the gate's.
        assert (await read_all(reader)).startswith(b"HTTP/1.1 200")
        assert set(seen) == {"127.0.0.1"}


@pytest.mark.parametrize(
    "headers", [("Connection: close",), ("Content-Length: 1",), ("Transfer-Encoding: chunked",), ("Expect: x",)]
)
async def test_the_gate_sees_only_plain_requests(site_with: Any, headers: tuple[str, ...]) -> None:
    """Of others nobody knows where they end before they are parsed."""
    async with site_with() as site:
        site.door.gate = lambda _data, _remote: pytest.fail("asked")
        reader, writer = await site.sent(get(_PAGE, *headers))
        writer.write_eof()
        await read_all(reader)


async def test_a_connection_whose_request_was_refused_can_be_used_again(site_with: Any) -> None:
    async with site_with(web_max_requests=1) as site:
        reader, writer = await site.sent(get(_PAGE))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await site.sent(get("/waits"))
        await until(lambda: site.door.n_requests == 1)
        reader, writer = await site.connect()
        writer.write(get(_PAGE))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        site.go_on.set()
        await until(lambda: site.door.n_requests == 0)
        writer.write(get(_PAGE, "Connection: close"))
        assert (await read_all(reader)).startswith(b"HTTP/1.1 200")


async def test_a_refusal_never_gets_between_a_body_and_its_answer(site_with: Any) -> None:
    """A body that looks like a request is none: behind a proxy, its refusal would be told to somebody else."""
    async with site_with(web_max_requests=1) as site:
        body = get("/looks-like-one")
        reader, writer = await site.sent(get(_PAGE, f"Content-Length: {len(body)}"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await site.sent(get("/waits"))
        await until(lambda: site.door.n_requests == 1)
        writer.write(body)
        await asyncio.sleep(0.1)
        site.go_on.set()
        await until(lambda: site.door.n_requests == 0)
        writer.write(get("/livez", "Connection: close"))
        answer = await read_all(reader)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"503" not in answer.split(b"\r\n", 1)[0]


async def test_a_request_that_comes_just_after_an_answer_is_refused_unparsed(site_with: Any) -> None:
    """aiohttp has not begun to wait for it yet. What is parsed costs as much as an answer, and would keep those out."""
    async with site_with(web_max_requests=1) as site:
        others: list[Connection] = []
        n_requests: list[int] = []

        def fill_and_ask(connection: Connection) -> None:
            others[0].data_received(get("/waits"))
            connection.data_received(get(_PAGE))
            n_requests.append(site.door.n_requests)

        site.in_the_next_turn = others.append
        reader, _ = await site.sent(get("/then"))
        assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200")
        site.in_the_next_turn = fill_and_ask
        reader, writer = await site.sent(get("/then"))
        assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
        assert n_requests == [1]
        site.go_on.set()
        await until(lambda: site.door.n_requests == 0)
        writer.write(get("/livez", "Connection: close"))
        assert b"HTTP/1.1 200" in await read_all(reader)


async def test_a_request_that_comes_in_pieces_is_refused_as_well(site_with: Any) -> None:
    async with site_with(web_max_requests=1) as site:
        reader, writer = await site.sent(b"GET / HT")
        await until(lambda: site.door.n_connections == 1)
        await site.sent(get("/waits"))
        await until(lambda: site.door.n_requests == 1)
        writer.write(b"TP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = await read_all(reader)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in answer


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", id="with a body"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", id="HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", id="two at once"),
        pytest.param(b"GET / HT", id="the begin of one"),
        pytest.param(b"nonsense", id="none"),
    ],
)
async def test_what_is_not_one_plain_request_is_refused_with_its_connection(site_with: Any, request_: bytes) -> None:
    async with site_with(web_max_requests=1) as site:
        await site.sent(get("/waits"))
        await until(lambda: site.door.n_requests == 1)
        reader, _ = await site.sent(request_)
        answer = await read_all(reader)
        assert answer.startswith(b"HTTP/1.1 503")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"Connection: close" in answer


async def test_idle_connections_do_not_keep_others_out(site_with: Any) -> None:
    async with site_with(web_max_connections=50) as site:
        idle = [await site.connect() for _ in range(200)]
        assert (await site.ask(_PAGE)).startswith("HTTP/1.1 200")
        assert site.door.n_connections <= 50
        assert site.door.counts["full"] >= 150
        assert await read_all(idle[0][0]) == b""  # the longest idle was closed


async def test_whoever_waits_for_an_answer_is_not_closed_for_others(site_with: Any) -> None:
    async with site_with(web_max_connections=10) as site:
        reader, _ = await site.sent(get("/waits", "Connection: close"))
        await until(lambda: site.door.n_requests == 1)
        for _ in range(50):
            await site.connect()
        await until(lambda: site.door.counts["full"] >= 41)
        site.go_on.set()
        assert (await read_all(reader)).startswith(b"HTTP/1.1 200")


async def test_the_hundred_at_once_of_the_benchmark_are_all_answered(site_with: Any) -> None:
    async with site_with() as site:
        answers = await asyncio.gather(*(site.ask(_PAGE) for _ in range(100)))
        assert {answer.split(" ", 2)[1] for answer in answers} == {"200"}
        assert not site.door.counts


# Too slow


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", id="header"),
        pytest.param(b"GET /" + b"x" * 100, id="path"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\n", id="body"),
        pytest.param(b"\r\n", id="nothing but blank lines"),
    ],
)
async def test_who_does_not_finish_a_request_in_time_is_cut_off(site_with: Any, begin: bytes) -> None:
    async with site_with(web_receive_seconds=1.0) as site:
        reader, writer = await site.sent(begin)
        drop = b"\r\n" if begin == b"\r\n" else b"x"

        async def drips() -> None:
            while not writer.is_closing():
                writer.write(drop)
                await asyncio.sleep(0.2)

        dripping = asyncio.create_task(drips())
        await read_all(reader)
        dripping.cancel()
        await until(lambda: site.door.n_connections == 0)


async def test_who_asks_for_nothing_is_cut_off(site_with: Any) -> None:
    async with site_with(web_idle_seconds=0.5) as site:
        silent, _ = await site.connect()
        asked, writer = await site.connect()
        writer.write(get(_PAGE))
        assert b"200 OK" in await read_all(asked)
        assert await read_all(silent) == b""
        assert site.door.counts["idle"] == 2


async def test_who_does_not_read_is_cut_off(site_with: Any) -> None:
    async with site_with(web_send_seconds=0.5) as site:
        _, writer = await site.connect(receive_buffer=4_096)
        writer.transport.pause_reading()
        writer.write(get("/api/consumer-lag") * 100)
        await until(lambda: site.door.counts["slow_reader"] == 1)
        assert site.door.n_requests == 0
        await until(lambda: site.door.n_connections == 0)


async def test_of_many_that_do_not_read_only_some_are_kept(site_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_MOST_STUCK", 3)
    async with site_with() as site:
        for _ in range(10):
            _, writer = await site.connect(receive_buffer=4_096)
            writer.transport.pause_reading()
            writer.write(get("/api/consumer-lag") * 100)
        await until(lambda: site.door.n_connections == 3)
        assert site.door.counts == {"slow_reader": 7}


async def test_who_does_not_read_is_not_counted_as_under_way(site_with: Any) -> None:
    async with site_with(web_max_requests=2) as site:
        for _ in range(4):
            _, writer = await site.connect(receive_buffer=4_096)
            writer.transport.pause_reading()
            writer.write(get("/api/consumer-lag") * 100)
        await until(lambda: site.door.n_requests == 0)
        assert (await site.ask(_PAGE)).startswith("HTTP/1.1 200")


# Too large, too much at once, gone


async def test_bodies_above_the_limit_are_refused_unread(site_with: Any) -> None:
    async with site_with(web_max_body_bytes=1_000) as site:
        for headers in (("Content-Length: 1001",), ("Transfer-Encoding: chunked",)):
            reader, writer = await site.sent(get(_PAGE, *headers))
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 413"), headers
            writer.transport.abort()
        reader, writer = await site.sent(get(_PAGE, "Content-Length: 1000", "Connection: close") + bytes(1_000))
        assert (await read_all(reader)).startswith(b"HTTP/1.1 200")


async def test_nothing_is_made_of_what_comes_after_a_request_that_is_none(site_with: Any) -> None:
    """aiohttp would keep an error of each piece, larger than the piece: megabytes of some connections at once."""
    async with site_with() as site:
        n_messages: list[int] = []

        def send_pieces(connection: Connection) -> None:
            for piece in (b"GET /" + b"x" * 100_000, b"x" * 100_000, b"x" * 100_000):
                connection.data_received(piece)
            assert connection.handler is not None
            n_messages.append(len(connection.handler._messages))

        site.in_the_next_turn = send_pieces
        reader, _ = await site.sent(get("/then"))
        assert b"HTTP/1.0 400 Bad Request\r\n" in await read_all(reader)
        assert n_messages == [1]


@pytest.mark.parametrize(
    "request_",
    [get(f"/{'x' * 9_000}", "Accept: text/html"), get("/", f"Cookie: {'x' * 9_000}", "Accept: text/html,*/*;q=0.8")],
    ids=["address", "cookie"],
)
async def test_a_browser_whose_request_is_none_is_shown_a_page(site_with: Any, request_: bytes) -> None:
    async with site_with() as site:
        reader, _ = await site.sent(request_)
        head, _, body = (await read_all(reader)).decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.0 400 Bad Request\r\n")
        assert "Content-Type: text/html; charset=utf-8" in head
        assert "Content-Security-Policy: " in head
        assert "Invalid request" in body
        assert "Yêu cầu không hợp lệ" in body
        assert "http-equiv" not in body, "it stays wrong, however often it is asked"
        reader, _ = await site.sent(request_.replace(b"text/html", b"text/css"))
        assert "application/problem+json" in (await read_all(reader)).decode()


async def test_a_browser_that_sends_too_much_is_shown_a_page(site_with: Any) -> None:
    async with site_with() as site:
        answer = await site.ask("/teachers", "Accept: text/html", "Content-Length: 10000000")
        assert answer.startswith("HTTP/1.1 413 ")
        assert "Content-Type: text/html; charset=utf-8" in answer
        assert "Connection: close" in answer


async def test_many_requests_at_once_on_one_connection_are_all_answered(site_with: Any) -> None:
    async with site_with() as site:
        reader, writer = await site.connect()
        writer.write(get("/livez") * 1_999 + get("/livez", "Connection: close"))
        assert (await read_all(reader)).count(b"HTTP/1.1 200 OK\r\n") == 2_000
        assert not site.door.counts


async def test_a_connection_at_rest_keeps_nothing_of_its_last_request_and_can_be_used_again(
    site_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_REST_SECONDS", 0.1)
    async with site_with() as site:
        reader, writer = await site.sent(get("/livez") + get("/livez"))
        for _ in range(3):
            for _ in range(2):
                assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(b"alive"))
            (served,) = site.door._connections
            await until(lambda served=served: served.handler is None)  # type: ignore[misc]
            assert not site.door._of_handler
            await until(lambda: not site.door._server.connections)
            writer.write(get("/livez") + get("/livez"))


async def test_a_connection_whose_request_is_half_here_or_under_way_is_not_at_rest(
    site_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_REST_SECONDS", 0.0)
    async with site_with() as site:
        under_way, _ = await site.sent(get("/waits"))
        half, rest = await site.sent(get("/livez")[:-2])
        at_rest, _ = await site.sent(get("/livez"))
        assert b"200 OK" in await at_rest.readuntil(b"\r\n\r\n")
        await until(lambda: len(site.door._of_handler) == 2)
        site.go_on.set()
        rest.write(b"\r\n")
        for reader in (under_way, half):
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")


async def test_clients_that_go_leave_nothing_behind(site_with: Any) -> None:
    async with site_with() as site:
        for _ in range(100):
            reader, writer = await site.connect(receive_buffer=4_096)
            writer.write(get("/api/consumer-lag") * 3)
            await reader.read(10)
            writer.transport.abort()
        for _ in range(100):
            _, writer = await site.sent(get("/waits"))
            writer.transport.abort()
        site.go_on.set()
        await until(lambda: (site.door.n_connections, site.door.n_requests) == (0, 0))
        assert (await site.ask(_PAGE)).startswith("HTTP/1.1 200")
