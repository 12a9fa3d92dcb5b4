"""Who gets an answer of the pages: tokens by role, names that lead here, and headers on every answer."""

import base64
import hashlib
import hmac
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse, ClientSession, web
from msgspec import structs

from emis_streams import exposure
from emis_streams.errors import InvalidSetting
from emis_streams.node import NODE, Node
from emis_streams.read_model.model import ReadModel
from emis_streams.settings import Settings
from tests.pages import HOMEROOM_CLASS, TEACHER, ToldLag, a_history, a_node, a_report, filled_model, serving
from web import PAGES, setup

READER = "reader-token-9b1d0f2c7a6e4f35"
OPERATOR = "operator-token-1c4e8a7b2d9f4e60"
PROBES = {"/livez", "/readyz", "/startupz"}
OPERATORS_ONLY = {
    *("/health", "/health/journal", "/info", "/metrics", "/consumer-lag", "/api/consumer-lag", "/circuit-breakers"),
    *("/dead-letters", "/api/dead-letters", "/dead-letters/0:0", "/api/dead-letters/0:0"),
    *("/instances", "/api/instances"),
}


@pytest.fixture(scope="module")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadModel]:
    async with filled_model(tmp_path_factory.mktemp("access")) as filled:
        yield filled


def tokens_file(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def guarded(model: ReadModel, tmp_path: Path) -> Node:
    """A node that wants tokens; the operator's is kept as its hash."""
    hashed = hashlib.sha256(OPERATOR.encode()).hexdigest()
    file = tokens_file(tmp_path, f"# who may look\nreader:{READER}\n\noperator:sha256:{hashed}\n")
    return a_node(model, ToldLag(a_report(), a_history()), settings=Settings(web_tokens_file=file))


@asynccontextmanager
async def asking(of: Node, path: str, method: str = "GET", **headers: str) -> AsyncIterator[ClientResponse]:
    async with (
        serving(of) as server,
        ClientSession() as session,
        session.request(method, server.make_url(path), headers=headers, allow_redirects=False) as response,
    ):
        yield response


def basic(password: str, user: str = "anybody") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# -- routes -------------------------------------------------------------------------------------


def paths_of(node: Node) -> set[str]:
    """An address of every route of the site."""
    app = web.Application()
    app[NODE] = node
    setup(app)
    for page in PAGES:
        app.add_routes(page.routes)
    templates = {route.resource.canonical for route in app.router.routes() if route.resource is not None}
    parts = {
        **{
            "teacher_id": TEACHER,
            "class_id": HOMEROOM_CLASS,
            "service": "lessons",
            "pattern": "get-lesson",
            "topic": "kafka-is-away",
        },
        "name": "site.css",
        "place": "0:0",
    }
    filled = {template.format_map(parts) for template in templates}
    assert not [path for path in filled if "{" in path]
    return filled


async def statuses(of: Node, token: str | None) -> dict[str, int]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    found = {}
    async with serving(of) as server, ClientSession(headers=headers) as session:
        for path in [*paths_of(of), "/nowhere"]:
            async with session.get(server.make_url(path), allow_redirects=False) as response:
                found[path] = response.status
    return found


async def test_without_a_token_only_probes_and_styles_answer(guarded: Node) -> None:
    found = await statuses(guarded, None)
    assert len(found) > 12
    answering = {path for path, status in found.items() if status != 401}
    assert answering == {*PROBES, "/static/site.css"}


async def test_a_reader_sees_teachers_and_classes_and_an_operator_everything(guarded: Node) -> None:
    reader, operator = await statuses(guarded, READER), await statuses(guarded, OPERATOR)
    assert {path for path, status in reader.items() if status == 403} == OPERATORS_ONLY
    assert {path for path, status in operator.items() if status in (401, 403)} == set()
    assert reader["/nowhere"] == operator["/nowhere"] == 404
    assert reader[f"/api/teachers/{TEACHER}"] == operator["/metrics"] == 200


@pytest.mark.parametrize(("token", "seconds"), [(READER, 15), (OPERATOR, 2)])
async def test_an_open_overview_asks_as_often_as_its_reader_needs(guarded: Node, token: str, seconds: int) -> None:
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/html"}
    async with serving(guarded) as server, ClientSession(headers=headers) as http:
        response = await http.get(server.make_url("/"))
        assert f'data-every="{seconds}"' in await response.text()


def test_the_worker_serves_these_routes_and_none_of_fausts(tmp_path: Path, guarded: Node) -> None:
    code = (
        "from emis_streams.worker import app; app.web.init_server();"
        "print(*sorted({r.resource.canonical for r in app.web.web_app.router.routes() if r.resource}))"
    )
    environment = {"DATA_DIR": str(tmp_path / "data"), "DATABASE_URL": f"sqlite:///{tmp_path}/r.db", "PATH": "/usr/bin"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    routes = [route for page in PAGES for route in page.routes if isinstance(route, web.RouteDef)]
    ours = {re.sub(":[^}]+", "", route.path) for route in routes}
    assert set(ran.stdout.split()) == ours


# -- tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {READER[:-1]}",
        f"Bearer {READER}x",
        f"Bearer {hashlib.sha256(OPERATOR.encode()).hexdigest()}",
        f"Token {READER}",
        basic("wrong"),
        basic("", READER),
        "Basic ????",
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
        "Bearer " + "x" * 4_000,
    ],
)
async def test_a_wrong_token_gets_401_which_says_how_to_bring_one(guarded: Node, header: str) -> None:
    headers = {"Authorization": header} if header else {}
    async with asking(guarded, f"/api/teachers/{TEACHER}", **headers) as response:
        assert response.status == 401
        assert response.content_type == "application/problem+json"
        assert [v.split()[0] for v in response.headers.getall("WWW-Authenticate")] == ["Bearer", "Basic"]
        body = await response.text()
    assert READER not in body
    assert "Nguyễn" not in body


async def test_an_open_page_that_asks_for_itself_makes_no_browser_ask_for_a_password(guarded: Node) -> None:
    async with asking(guarded, f"/teachers/{TEACHER}", **{"Sec-Fetch-Mode": "cors"}) as response:
        assert (response.status, response.headers.getall("WWW-Authenticate")) == (401, ['Bearer realm="emis-streams"'])


@pytest.mark.parametrize("header", [f"Bearer {READER}", f"bearer  {READER}", basic(READER), basic(READER, "")])
async def test_a_token_comes_as_bearer_or_as_the_password_that_browsers_ask_for(guarded: Node, header: str) -> None:
    async with asking(guarded, f"/api/teachers/{TEACHER}", Authorization=header) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/%68ealth", "/static/../health", "//health", "/health/", "/livez/../health"])
async def test_another_spelling_of_an_address_opens_nothing(guarded: Node, path: str) -> None:
    from yarl import URL

    async with serving(guarded) as server, ClientSession() as session:
        url = URL(f"http://127.0.0.1:{server.port}{path}", encoded=True)
        async with session.get(url, headers={"Authorization": f"Bearer {READER}"}, allow_redirects=False) as response:
            assert response.status in (308, 403, 404)
        async with session.get(url, allow_redirects=False) as response:
            assert response.status in (308, 401, 404)
            assert response.status == 308 or (await response.json())["status"] == response.status


async def test_a_browser_is_told_by_a_page(guarded: Node) -> None:
    async with asking(guarded, "/", Accept="text/html", **{"Accept-Language": "vi"}) as response:
        assert response.status == 401
        assert "Cần đăng nhập" in await response.text()


def test_tokens_are_compared_in_constant_time_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Any] = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return real(known, given)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    file = tokens_file(tmp_path, f"reader:{READER}\noperator:{OPERATOR}\n")
    tokens = exposure.tokens_of(Settings(web_tokens_file=file))
    assert tokens is not None
    assert (tokens.access(READER), tokens.access(OPERATOR), tokens.access("")) == ("reader", "operator", None)
    assert len(compared) == 6, "all are looked at, whichever it is"
    assert READER not in repr(tokens)
    assert not [known for known in compared if READER.encode() in known]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"writer:{READER}", "line 1 is not reader:TOKEN"),
        (f"reader:{READER}\n{OPERATOR}", "line 2 is not reader:TOKEN"),
        ("reader:short", "line 1 has fewer than 24 characters"),
        (f"reader:sha256:{READER[:20]}", "line 1"),
        ("# none\n\n", "no token"),
    ],
)
def test_a_wrong_file_of_tokens_stops_the_start_and_tells_none(tmp_path: Path, text: str, told: str) -> None:
    settings = Settings(web_tokens_file=tokens_file(tmp_path, text))
    if text.startswith("reader:sha256"):
        settings = msgspec.structs.replace(settings, web_tokens_file=tokens_file(tmp_path, "reader:sha256:00"))
    with pytest.raises(InvalidSetting, match=f"WEB_TOKENS_FILE=.*{told}") as error:
        exposure.check(settings)
    assert READER not in str(error.value)
    assert OPERATOR not in str(error.value)


# -- what is exposed ----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "emis.example.edu.vn"])
def test_beyond_this_machine_nothing_is_served_by_mistake(host: str, tmp_path: Path) -> None:
    tokens = tokens_file(tmp_path, f"reader:{READER}")
    with pytest.raises(InvalidSetting, match=r"WEB_CERT_FILE and WEB_TOKENS_FILE.*WEB_OPEN=true"):
        exposure.check(Settings(host=host))
    with pytest.raises(InvalidSetting, match="not allowed without WEB_CERT_FILE:"):
        exposure.check(Settings(host=host, web_tokens_file=tokens))
    exposure.check(Settings(host=host, web_open=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_alone_needs_no_token(host: str) -> None:
    exposure.check(Settings(host=host))


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:6066", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost", 200),
        ("LOCALHOST.:6066", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:6066", 200),
        ("192.0.2.7", 200),
        ("emis.example.edu.vn", 200),
    ],
)
async def test_a_name_that_was_bent_to_this_address_gets_nothing(model: ReadModel, host: str, status: int) -> None:
    node = a_node(model, ToldLag(a_report()), settings=Settings(web_allowed_hosts="emis.example.edu.vn, other"))
    async with asking(node, f"/api/teachers/{TEACHER}", Host=host) as response:
        assert response.status == status
        assert ("Nguyễn" in await response.text()) == (status == 200)
    async with asking(node, "/livez", Host=host) as response:
        assert response.status == 200


async def test_any_name_is_allowed_if_that_is_said(model: ReadModel) -> None:
    node = a_node(model, ToldLag(a_report()), settings=Settings(web_allowed_hosts="*"))
    async with asking(node, "/", Host="whatever.example") as response:
        assert response.status == 200


# -- other sites, and what readers may not ----------------------------------------------------------

RESET = "/circuit-breakers/lessons/get-lesson/reset"
HOST = "teachers.example"
FROM_ELSEWHERE: dict[str, dict[str, str]] = {
    "a page of another host": {"Origin": "https://evil.example"},
    "a page of another port": {"Origin": f"http://{HOST}:8080"},
    "a sandboxed page": {"Origin": "null"},
    "an Origin that is none": {"Origin": "http://[" + HOST},
    "a file": {"Origin": "file://"},
    "a browser that says so": {"Sec-Fetch-Site": "cross-site"},
    "another part of the site": {"Sec-Fetch-Site": "same-site"},
}
FROM_HERE: dict[str, dict[str, str]] = {
    "no browser": {},
    "a page of ours": {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"},
    "a page of ours behind TLS": {"Origin": f"https://{HOST.upper()}"},
    "a person": {"Sec-Fetch-Site": "none"},
}


async def reset(of: Node, headers: dict[str, str], data: bytes | None = None) -> int:
    async with (
        serving(of) as server,
        ClientSession() as session,
        session.post(server.make_url(RESET), headers={"Host": HOST, **headers}, data=data) as response,
    ):
        return response.status


def open_to_names(node: Node) -> Node:
    node.settings = structs.replace(node.settings, web_allowed_hosts=HOST)
    return node


@pytest.mark.parametrize("headers", FROM_ELSEWHERE.values(), ids=FROM_ELSEWHERE)
async def test_another_site_cannot_post_with_and_without_tokens(
    guarded: Node, model: ReadModel, headers: dict[str, str]
) -> None:
    assert await reset(open_to_names(a_node(model, ToldLag(a_report(), a_history()))), headers) == 403
    token = {"Authorization": f"Bearer {OPERATOR}"}
    assert await reset(open_to_names(guarded), {**headers, **token}) == 403


@pytest.mark.parametrize("headers", FROM_HERE.values(), ids=FROM_HERE)
async def test_what_is_of_this_site_is_let_through(guarded: Node, headers: dict[str, str]) -> None:
    token = {"Authorization": f"Bearer {OPERATOR}"}
    assert await reset(open_to_names(guarded), {**headers, **token}) == 404  # There is no such breaker.


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
async def test_a_body_that_is_not_called_json_is_refused(guarded: Node, content_type: str) -> None:
    """These are what a form of another site can send without asking first."""
    headers = {"Authorization": f"Bearer {OPERATOR}", "Content-Type": content_type}
    assert await reset(open_to_names(guarded), headers, b"{}") == 415
    headers["Content-Type"] = "Application/JSON; charset=utf-8"
    assert await reset(guarded, headers, b"{}") == 404


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x"])
async def test_a_compressed_body_is_refused(guarded: Node, encoding: str) -> None:
    headers = {"Authorization": f"Bearer {OPERATOR}", "Content-Type": "application/json"}
    assert await reset(open_to_names(guarded), {**headers, "Content-Encoding": encoding}, b"{}") == 415
    assert await reset(guarded, {**headers, "Content-Encoding": "Identity"}, b"{}") == 404


async def test_a_reader_cannot_post(guarded: Node) -> None:
    assert await reset(open_to_names(guarded), {"Authorization": f"Bearer {READER}"}) == 403


@pytest.mark.parametrize("path", ["/", f"/teachers/{TEACHER}", "/nowhere", "/find?id=x"])
async def test_a_readers_page_shows_and_links_nothing_of_operations(guarded: Node, path: str) -> None:
    async with asking(guarded, path, Accept="text/html", Authorization=f"Bearer {READER}") as response:
        page = await response.text()
    assert not [link for link in OPERATORS_ONLY if f'href="{link}"' in page]
    assert "canvas" not in page
    assert 'id="parts"' not in page
    async with asking(guarded, path, Accept="text/html", Authorization=f"Bearer {OPERATOR}") as response:
        assert 'href="/health"' in await response.text()


async def test_a_readers_overview_as_json_names_no_address_of_operations(guarded: Node) -> None:
    async with asking(guarded, "/", Authorization=f"Bearer {READER}") as response:
        found = await response.json()
    assert found["links"] == []
    assert found["sampleTeachers"]


# -- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize("path", ["/", f"/teachers/{TEACHER}", "/nowhere", "/livez", "/metrics", "/static/site.css"])
async def test_every_answer_has_its_headers_and_no_other_site_may_read_it(
    model: ReadModel, path: str, accept: str
) -> None:
    node = a_node(model, ToldLag(a_report(), a_history()))
    async with asking(node, path, Accept=accept, Origin="https://evil.example") as response:
        headers = response.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Server"] == "emis-streams"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Strict-Transport-Security" not in headers
    if response.content_type == "text/html":
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
