"""The web views of a serving worker, asked over HTTP; the read model is a real one."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse, ClientSession
from aiokafka import TopicPartition

from emis_streams import lag_rules
from emis_streams.answers import Gone, TeacherDetail
from emis_streams.engine.door import DOOR
from emis_streams.engine.open_transactions import OpenTransaction
from emis_streams.errors import Unavailable
from emis_streams.node import Node
from emis_streams.read_model.model import ReadModel
from emis_streams.settings import Settings
from tests.pages import (
    EMPTY_TEACHER,
    GONE_CLASS,
    GONE_TEACHER,
    HOMEROOM_CLASS,
    NOBODY,
    TEACHER,
    UNKNOWN_CLASS,
    ToldLag,
    a_history,
    a_node,
    a_report,
    filled_model,
    homeroom_class,
    keep,
    serving,
)

HTML = {"Accept": "text/html,application/xhtml+xml"}
PAGES = ("/", f"/teachers/{TEACHER}", f"/classes/{HOMEROOM_CLASS}", "/health", "/consumer-lag")


@pytest.fixture(scope="module")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadModel]:
    async with filled_model(tmp_path_factory.mktemp("pages")) as filled:
        yield filled


@asynccontextmanager
async def asking(node: Node) -> AsyncIterator[ClientSession]:
    """A client of a worker made of these parts."""
    async with serving(node) as server, ClientSession(server.make_url("/")) as client:
        yield client


@pytest.fixture(scope="module")
async def client(model: ReadModel) -> AsyncIterator[ClientSession]:
    async with asking(a_node(model, ToldLag(a_report(), a_history()))) as session:
        yield session


class Database:
    """Answers what it was told (in a worker: the replica's reader)."""

    def __init__(self, answer: TeacherDetail | Gone | Unavailable | None) -> None:
        self.answer = answer

    async def teacher(self, _teacher_id: str, limit: int = 500, after: object = None) -> TeacherDetail | Gone | None:
        if isinstance(self.answer, Unavailable):
            raise self.answer
        return self.answer


async def problem(response: ClientResponse) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = await response.json(content_type=None)
    assert body["status"] == response.status
    return body


async def test_a_teacher_is_told_with_every_class(client: ClientSession) -> None:
    response = await client.get(f"/api/teachers/{TEACHER}")
    body = await response.json()
    assert response.status == 200
    assert body["fullName"] == "Nguyễn Thị Ánh Nguyệt"
    assert (body["source"], body["ageSeconds"], body["stale"]) == ("local", 0.4, False)
    by_id = {c["classId"]: c for c in body["classAssignments"]}
    assert len(by_id) == 6
    homeroom = by_id[HOMEROOM_CLASS]
    assert (homeroom["isHomeroom"], homeroom["role"], homeroom["assignmentId"]) == (True, "homeroom", None)
    unknown, gone = by_id[UNKNOWN_CLASS], by_id[GONE_CLASS]
    assert (unknown["known"], unknown["className"], unknown["lastSyncedAt"]) == (False, None, None)
    assert (gone["deleted"], gone["className"]) == (True, None)


async def test_a_class_is_told_with_its_origin(client: ClientSession) -> None:
    body = await (await client.get(f"/api/classes/{HOMEROOM_CLASS}")).json()
    assert (body["className"], body["syncSource"]) == ("Lớp 12 Chuyên Văn", "emis.class.updated")
    assert body["homeroomTeacherId"] == TEACHER
    assert len(body["version"]) == 58


@pytest.mark.parametrize("path", PAGES)
async def test_who_does_not_ask_for_html_gets_json(client: ClientSession, path: str) -> None:
    for accept in ("*/*", "application/json", "image/png"):
        response = await client.get(path, headers={"Accept": accept})
        assert (response.status, response.content_type) == (200, "application/json"), accept


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("language", ["vi", "en"])
async def test_a_browser_gets_a_page_in_its_language(client: ClientSession, path: str, language: str) -> None:
    response = await client.get(path, headers={**HTML, "Accept-Language": language})
    text = await response.text()
    assert (response.status, response.content_type) == (200, "text/html")
    assert f'<html lang="{language}">' in text
    assert ("Tổng quan" in text) == (language == "vi")


async def test_a_language_that_was_asked_for_is_remembered(client: ClientSession) -> None:
    response = await client.get("/?lang=en", headers={**HTML, "Accept-Language": "vi"})
    assert '<html lang="en">' in await response.text()
    kept = response.cookies["lang"].OutputString().split(";")[0]
    again = await client.get("/health", headers={**HTML, "Accept-Language": "vi", "Cookie": kept})
    assert '<html lang="en">' in await again.text()


@pytest.mark.parametrize("kind", ["teachers", "classes"])
@pytest.mark.parametrize("given", ["1", f"{{{TEACHER}", f"{TEACHER}x", "%00", "zzzzzzzz-0000-4000-8000-000000000001"])
async def test_what_is_no_id_is_400(client: ClientSession, kind: str, given: str) -> None:
    for path in (f"/api/{kind}/{given}", f"/{kind}/{given}"):
        response = await client.get(path)
        assert response.status == 400
        assert "ids are UUIDs" in (await problem(response))["detail"]
    page = await client.get(f"/{kind}/{given}", headers=HTML)
    assert (page.status, page.content_type) == (400, "text/html")


@pytest.mark.parametrize("form", [TEACHER.upper(), f"{{{TEACHER}}}", f"urn:uuid:{TEACHER}", TEACHER.replace("-", "")])
async def test_an_id_in_another_form_is_the_same_id(client: ClientSession, form: str) -> None:
    for path in ("/api/teachers/", "/teachers/"):
        response = await client.get(path + form)
        assert (response.status, (await response.json())["teacherId"]) == (200, TEACHER)
    assert (await client.get(f"/teachers/{form}", headers=HTML)).status == 200


@pytest.mark.parametrize("path", [f"/api/teachers/{NOBODY}", f"/classes/{UNKNOWN_CLASS}", "/nothing/here"])
async def test_what_is_not_known_is_404(client: ClientSession, path: str) -> None:
    response = await client.get(path)
    assert response.status == 404
    await problem(response)


@pytest.mark.parametrize("path", [f"/teachers/{NOBODY}", f"/classes/{UNKNOWN_CLASS}", "/nothing/here"])
async def test_a_browser_is_told_in_its_language_that_something_is_not_known(client: ClientSession, path: str) -> None:
    response = await client.get(path, headers={**HTML, "Accept-Language": "vi"})
    assert (response.status, response.content_type) == (404, "text/html")
    assert "Về trang tổng quan" in await response.text()


@pytest.mark.parametrize("path", [f"/api/teachers/{GONE_TEACHER}", f"/classes/{GONE_CLASS}"])
async def test_what_was_deleted_is_410_with_its_time(client: ClientSession, path: str) -> None:
    response = await client.get(path)
    body = await problem(response)
    assert response.status == 410
    assert abs((datetime.now(UTC) - datetime.fromisoformat(body["deletedAt"])).total_seconds()) < 300


async def test_the_overview_links_teachers_whose_classes_are_known(client: ClientSession) -> None:
    body = await (await client.get("/")).json()
    assert len(body["sampleTeachers"]) >= 10
    first = await (await client.get(body["sampleTeachers"][0])).json()
    assert any(c["known"] for c in first["classAssignments"])
    page = await (await client.get("/", headers=HTML)).text()
    assert page.count('href="/teachers/') >= 10


@pytest.mark.parametrize(
    ("given", "leads_to"),
    [
        (TEACHER, f"/teachers/{TEACHER}"),
        (f"  {TEACHER.upper()} ", f"/teachers/{TEACHER}"),
        ("{" + TEACHER + "}", f"/teachers/{TEACHER}"),
        (HOMEROOM_CLASS, f"/classes/{HOMEROOM_CLASS}"),
        (GONE_CLASS, f"/classes/{GONE_CLASS}"),
    ],
)
async def test_an_id_leads_to_its_page(client: ClientSession, given: str, leads_to: str) -> None:
    response = await client.get("/find", params={"id": given}, headers=HTML, allow_redirects=False)
    assert (response.status, response.headers.get("Location")) == (303, leads_to)


@pytest.mark.parametrize(("given", "status"), [("Nguyễn", 400), ("", 400), (NOBODY, 404)])
async def test_what_leads_nowhere_is_said_with_the_form_again(client: ClientSession, given: str, status: int) -> None:
    response = await client.get("/find", params={"id": given}, headers=HTML, allow_redirects=False)
    assert response.status == status
    assert 'name="q"' in await response.text()


async def test_names_are_text_and_never_markup(client: ClientSession, model: ReadModel) -> None:
    name = '<script>alert(1)</script> & "Lớp" {{ 7*7 }}'
    await keep(model, [homeroom_class(datetime.now(UTC), name)])
    page = await (await client.get(f"/classes/{HOMEROOM_CLASS}", headers=HTML)).text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;Lớp&#34; {{ 7*7 }}" in page
    hostile = await (await client.get('/teachers/"><script>alert(1)</script>', headers=HTML)).text()
    assert "<script>alert" not in hostile
    await keep(model, [homeroom_class(datetime.now(UTC))])


@pytest.mark.parametrize(
    ("path", "kept"), [*((path, "private, no-cache") for path in PAGES), ("/nothing/here", "no-store")]
)
async def test_pages_are_asked_for_each_time_and_run_only_what_is_served_with_them(
    client: ClientSession, path: str, kept: str
) -> None:
    response = await client.get(path, headers=HTML)
    assert response.headers["Cache-Control"] == kept
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert "Accept-Language" in response.headers["Vary"]


async def test_an_answer_that_can_be_too_old_says_so(model: ReadModel) -> None:
    for age, words in ((5.1, "may be out of date"), (None, "not known how recent")):
        async with asking(a_node(model, ToldLag(a_report(), age=age))) as client:
            body = await (await client.get(f"/api/teachers/{TEACHER}")).json()
            assert (body["ageSeconds"], body["stale"]) == (age, True)
            page = await client.get(f"/teachers/{TEACHER}", headers={**HTML, "Accept-Language": "en"})
            assert words in await page.text()


async def test_the_age_is_not_asked_anew_for_every_request(model: ReadModel) -> None:
    lag = ToldLag(a_report())
    async with asking(a_node(model, lag)) as client:
        for _ in range(20):
            await client.get(f"/api/teachers/{TEACHER}")
    assert lag.asked < 20


@pytest.fixture
def empty_model(tmp_path: Path) -> Any:
    model = ReadModel(tmp_path / "empty")
    yield model
    model.close()


async def test_until_the_copy_is_caught_up_the_database_answers(empty_model: ReadModel, model: ReadModel) -> None:
    stored = model.teacher(EMPTY_TEACHER)
    assert isinstance(stored, TeacherDetail)
    stored.source = "mysql"
    async with asking(a_node(empty_model, ToldLag(a_report()), reader=Database(stored))) as client:
        body = await (await client.get(f"/api/teachers/{EMPTY_TEACHER}")).json()
        assert (body["source"], body["fullName"]) == ("mysql", "Lê Quý Đôn")
        page = await client.get(f"/teachers/{EMPTY_TEACHER}", headers={**HTML, "Accept-Language": "en"})
        assert "Up to date" in await page.text()


@pytest.mark.parametrize("nothing", [NOBODY, GONE_TEACHER])
async def test_that_there_is_nothing_may_be_old_news_and_says_so(model: ReadModel, nothing: str) -> None:
    for age, stale in ((0.4, False), (64.0, True), (None, True)):
        async with asking(a_node(model, ToldLag(a_report(), age=age))) as client:
            body = await problem(await client.get(f"/api/teachers/{nothing}"))
            assert (body["source"], body["ageSeconds"], body["stale"]) == ("local", age, stale)


@pytest.mark.parametrize("reader", [None, Database(Unavailable("away")), Database(None)])
async def test_what_nobody_can_tell_yet_is_503_and_asked_again(empty_model: ReadModel, reader: Database | None) -> None:
    async with asking(a_node(empty_model, None, reader=reader)) as client:
        for headers in ({}, HTML):
            response = await client.get(f"/teachers/{TEACHER}", headers=headers)
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0


async def test_a_database_alone_can_say_that_something_is_not_known() -> None:
    async with asking(a_node(None, None, reader=Database(None))) as client:
        assert (await client.get(f"/api/teachers/{TEACHER}")).status == 404


@pytest.mark.parametrize("path", ["/", "/health", "/consumer-lag"])
async def test_every_page_works_on_a_worker_that_only_ingests(path: str) -> None:
    node = a_node(None, None)
    node.roles = frozenset({"ingest"})
    node.sync_latency.clear()
    async with asking(node) as client:
        response = await client.get(path, headers={**HTML, "Accept-Language": "en"})
        assert (response.status, response.content_type) == (200, "text/html")


async def test_the_lag_page_says_why_a_partition_is_marked(model: ReadModel) -> None:
    async with asking(a_node(model, ToldLag(a_report(behind=True), a_history(behind=True)))) as client:
        page = await (await client.get("/consumer-lag?only=lag", headers={**HTML, "Accept-Language": "vi"})).text()
        assert "Offset đã commit không thay đổi (120.003) trong ít nhất 64 giây, còn 48.210 bản ghi đang chờ." in page
        assert "Không tiến triển" in page
        assert page.count("120.003") == 3  # group, partition's reason and its committed offset: no other row


async def test_the_lag_page_names_the_transaction_that_holds_a_copy_in_the_readers_language(model: ReadModel) -> None:
    tp = TopicPartition("classes-changelog", 3)
    held = lag_rules.open_transaction(OpenTransaction(tp, 120_003, 120_009, 64.0))
    report = a_report()
    copies = tuple(msgspec.structs.replace(f, open_transaction=held) for f in report.followers)
    report = msgspec.structs.replace(report, followers=copies, open_transactions=(held,))
    for language, said in (
        ("en", "held the last stable offset at 120,003 (high watermark 120,009) for at least 64 s"),
        ("vi", " chưa kết thúc giữ last stable offset ở 120.003 (cuối log"),
    ):
        async with asking(a_node(model, ToldLag(report))) as client:
            page = await (await client.get("/consumer-lag", headers={**HTML, "Accept-Language": language})).text()
        own_places = 1 + len(copies)
        of_verdict = len(copies)
        assert page.count("classes-changelog-3: ") == own_places + of_verdict
        assert page.count(said) == own_places + of_verdict


async def test_how_long_ago_something_was_goes_by_the_brokers_clock(model: ReadModel) -> None:
    """This machine's clock is ahead by an hour."""
    brokers_now = time.time() - 3600
    report = msgspec.structs.replace(a_report(), measured_at=datetime.fromtimestamp(brokers_now, UTC))
    node = a_node(model, ToldLag(report))
    node.clock.note(round(brokers_now * 1000), time.monotonic(), time.monotonic())
    async with asking(node) as client:
        page = await (await client.get("/consumer-lag", headers={**HTML, "Accept-Language": "en"})).text()
    assert re.search(r"Measured (just now|\d+ s ago)\.", page)


async def test_the_page_of_a_bad_request_names_what_is_wrong(client: ClientSession) -> None:
    for path, named in (("/health?colour=red", "colour"), (f"/teachers/{TEACHER}?limit=0", "a whole number from 1 to")):
        response = await client.get(path, headers={**HTML, "Accept-Language": "vi"})
        assert (response.status, response.content_type) == (400, "text/html")
        shown = await response.text()
        assert "Yêu cầu không hợp lệ" in shown
        assert named in shown


async def test_the_lag_page_sorts_as_asked(model: ReadModel) -> None:
    async with asking(a_node(model, ToldLag(a_report(behind=True)))) as client:
        for sort, first in (("lag", "emis.class.updated"), ("partition", "emis.assignment.created")):
            response = await client.get(f"/consumer-lag?open=partitions-1&sort={sort}", headers=HTML)
            assert response.status == 200
            table = (await response.text()).split("<details id=")[1].split("<tbody")[1]
            assert table.split('scope="row"')[1].split(">")[1].startswith(first)
        assert (await client.get("/consumer-lag?sort=no", headers=HTML)).status == 400


async def test_closed_tables_of_the_lag_page_are_not_sent(client: ClientSession) -> None:
    closed = await (await client.get("/consumer-lag", headers=HTML)).text()
    opened = await (await client.get("/consumer-lag?open=partitions-1", headers=HTML)).text()
    both = await (await client.get("/consumer-lag?open=partitions-1,follower-1", headers=HTML)).text()
    committed = re.compile("120[.,]003")
    assert (len(committed.findall(closed)), len(committed.findall(opened)) > 5) == (0, True)
    assert len(closed) < len(opened) / 2
    assert len(opened) < len(both)
    for page, n_open in ((closed, 0), (opened, 1), (both, 2)):
        assert len(re.findall(r"<details id=\S+ data-part open>", page)) == n_open


@pytest.mark.parametrize("given", ["", ",", "partitions-999", "x" * 500, "<b>", "partitions-1,,partitions-1"])
async def test_any_name_of_a_table_is_taken(client: ClientSession, given: str) -> None:
    response = await client.get("/consumer-lag", params={"open": given}, headers=HTML)
    assert response.status == 200
    assert "<b>" not in await response.text()


async def test_the_pages_go_on_when_the_brokers_cannot_be_asked(model: ReadModel) -> None:
    lag = ToldLag(a_report(error="refused"))
    async with asking(a_node(model, lag)) as client:
        for path in ("/", "/consumer-lag", "/health"):
            response = await client.get(path, headers={**HTML, "Accept-Language": "en"})
            assert response.status == 200
            assert "127.0.0.1:9092" in await response.text()


async def test_a_chart_has_its_figures_in_a_table(client: ClientSession) -> None:
    page = await (await client.get("/consumer-lag", headers=HTML)).text()
    for name in ("rates", "lags"):
        assert f'data-chart="{name}" hidden role="img" aria-label=' in page
        table = page.split(f'id="{name}"')[1].split("</table>")[0]
        assert table.count("<tr>") > 60
        assert "<caption>" in table


async def test_assets_are_served(client: ClientSession) -> None:
    page = await (await client.get("/", headers=HTML)).text()
    for start in ('href="/static/', 'src="/static/'):
        for part in page.split(start)[1:]:
            response = await client.get("/static/" + part.split('"')[0])
            assert response.status == 200


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
async def test_a_browser_that_is_refused_for_overload_gets_a_page_that_loads_itself_again(
    model: ReadModel, accept: str
) -> None:
    async with serving(a_node(model, None)) as server, ClientSession(server.make_url("")) as client:
        server.app[DOOR].n_requests = 10_000
        response = await client.get(f"/teachers/{TEACHER}", headers={"Accept": accept})
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        body = await response.text()
        if accept == "text/html":
            assert response.content_type == "text/html"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert '<meta http-equiv="refresh"' in body
            assert "quá tải" in body
            assert "Too many requests" in body
        else:
            assert response.content_type == "application/problem+json"


async def test_what_an_answer_is_to_an_open_page(model: ReadModel, empty_model: ReadModel) -> None:
    """Only what is known for certain takes the place of what is shown."""
    kinds = {
        (model, 0.4, f"/teachers/{TEACHER}"): "page",
        (model, 0.4, f"/teachers/{GONE_TEACHER}"): "absent",
        (model, 64.0, f"/teachers/{GONE_TEACHER}"): "absent",
        (model, 0.4, f"/teachers/{NOBODY}"): "absent",
        (model, 64.0, f"/teachers/{NOBODY}"): "waiting",
        (model, None, f"/teachers/{NOBODY}"): "waiting",
        (empty_model, 0.4, f"/teachers/{TEACHER}"): "waiting",
        (model, 0.4, "/teachers/x"): "error",
        (model, 0.4, "/nothing/here"): "error",
    }
    for (filled, age, path), kind in kinds.items():
        async with asking(a_node(filled, ToldLag(a_report(), age=age))) as client:
            page = await (await client.get(path, headers=HTML)).text()
            assert f'data-page="{path}" data-answer="{kind}"' in page, (path, age)


async def test_a_language_is_kept_only_if_somebody_opens_the_page(client: ClientSession) -> None:
    """An open page with ?lang= in its address asks for itself; it must not undo what was chosen since."""
    opened = await client.get("/health?lang=en", headers=HTML)
    assert "lang" in opened.cookies
    again = await client.get("/health?lang=en", headers={**HTML, "Sec-Fetch-Mode": "cors"})
    assert "lang" not in again.cookies


async def test_dead_letters_say_that_the_brokers_do_not_answer(tmp_path: Path) -> None:
    nowhere = Settings(kafka_brokers="127.0.0.1:1", data_dir=str(tmp_path))
    async with asking(a_node(None, None, settings=nowhere)) as client:
        for path in ("/dead-letters", "/dead-letters/0:1"):
            response = await client.get(path)
            assert response.status == 503
            assert "127.0.0.1:1" in (await problem(response))["detail"]
            page = await client.get(path, headers={**HTML, "Accept-Language": "en"})
            assert (page.status, page.content_type) == (503, "text/html")
            assert "Dead letters cannot be read now" in await page.text()
