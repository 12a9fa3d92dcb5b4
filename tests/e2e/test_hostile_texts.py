"""What strangers write into events, through Kafka into pages in a real browser and the database: text, no more."""

import asyncio
import json
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest
from playwright.async_api import Page

from emis_streams import admin
from tests.e2e.conftest import Reading
from tests.integration.worker_rig import (
    Event,
    Worker,
    a_class,
    a_teacher,
    an_assignment,
    key_of,
    new_id,
    producing,
)
from tests.services import kafka_cluster, mariadb_server, settings_for, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TEXTS = {
    "script": "<script>window.pwned=1</script>",
    "image": '"><img src=x onerror=window.pwned=1>',
    "svg": "'\"><svg/onload=window.pwned=1>",
    "out of the title": "</title></h1><script>window.pwned=1</script>",
    "into an attribute": '" autofocus onfocus=window.pwned=1 x="',
    "address": "javascript:window.pwned=1//@example.edu.vn",
    "htmx": '<b data-hx-get="/livez" data-hx-trigger="load">x</b>',
    "entity": "&lt;script&gt;window.pwned=1&lt;/script&gt; &amp;",
    "comment": "<!-- --!> ]]> <![CDATA[",
    "template": "{{7*7}} ${7*7} <%= 7*7 %> {% raw %} #{7*7}",
    "drop": "'; DROP TABLE ClassInfos; -- ",
    "or": "' OR '1'='1' /* ",
    "backslash": "\\'; DELETE FROM ClassInfos WHERE 1=1; -- \\",
    "union": '") UNION SELECT ClassId, Version FROM ClassInfos # `',
    "placeholders": "%s %(x)s :name ? {0} {name} %",
    "emoji": "Lớp 🏫👩🏽‍🏫 10A1 𝕏",
    "right to left": "\u202egpj.exe\u202c \u200bzero\u200d\ufeff",
    "composed": "Nguyễn",
    "decomposed": "Nguye\u0302\u0303n",
    "lines and colours": "a\r\nSet-Cookie: x=1\r\n\r\n\x1b[31mred\x1b[0m\x07",
    "path": "../../../../etc/passwd",
    "file": "file:///etc/passwd",
    "formula": "=cmd|' /C calc'!A0",
}
"""Numbers 43 and 45 to 50 of the list of bad inputs; 44, too long, is refused (tests/unit/test_bad_events.py)."""


@dataclass
class Hostile:
    """A teacher and his class, with the text in every field that takes one."""

    sent: str
    teacher_id: str = field(default_factory=new_id)
    class_id: str = field(default_factory=new_id)

    @property
    def text(self) -> str:
        """As it is kept: in Unicode's composed form, else one name would be two."""
        return unicodedata.normalize("NFC", self.sent)

    def events(self) -> list[Event]:
        t = self.sent
        teaching = an_assignment(self.teacher_id, self.class_id)
        return [
            a_teacher(self.teacher_id, fullName=t, email=t),
            a_class(self.class_id, t, grade=t[:50], academicYear=t[:20], homeroomTeacherId=self.teacher_id),
            {**teaching, "role": t[:50], "subject": t[:100]},
        ]


@dataclass
class Site:
    worker: Worker
    database_url: str
    kinds: dict[str, Hostile]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.worker.settings.port}"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    with kafka_cluster() as kafka, mariadb_server() as mariadb:
        url = mariadb.create("emis")
        settings = settings_for(kafka.bootstrap, folder / "data", database_url=url)
        # Of a thread: the module's own event loop runs already.
        making = threading.Thread(target=lambda: asyncio.run(admin.ensure_topics(settings)))
        making.start()
        making.join()
        kinds = {kind: Hostile(text) for kind, text in TEXTS.items()}
        with producing(kafka.bootstrap) as producer:
            for event in [event for hostile in kinds.values() for event in hostile.events()]:
                producer.produce(event["eventType"], json.dumps(event).encode(), key_of(event).encode())
        worker = Worker("hostile-worker", settings)
        worker.start()
        yield Site(worker, url, kinds)
        worker.process.stop()


@pytest.fixture
async def site(started: Site) -> Site:
    """All of it is there, in the copy and in the database."""
    await started.worker.ready()

    def all_shown() -> bool:
        return all(started.worker.get(f"/api/classes/{h.class_id}")[0] == 200 for h in started.kinds.values())

    await until(all_shown, 60)
    return started


BROUGHT = ("img", "iframe", "object", "[onerror]", "[onload]", "[onfocus]", "b[data-hx-get]", "a[href^='javascript']")


async def is_harmless(page: Page) -> None:
    """No script but ours, and nothing that a text brought along."""
    assert await page.evaluate("window.pwned") is None
    assert await page.evaluate("window.violations") == []
    sources = await page.locator("script").evaluate_all("all => all.map(one => one.getAttribute('src') || 'inline')")
    assert all(source.startswith("/static/") for source in sources)
    brought = (
        "img, iframe, object, embed, [onerror], [onload], [onfocus], [autofocus], b[data-hx-get], a[href^='javascript']"
    )
    assert await page.locator(brought).count() == 0


def watched(page: Page) -> Any:
    return page.add_init_script(
        "window.violations = [];"
        "document.addEventListener('securitypolicyviolation', event => window.violations.push(event.violatedDirective))"
    )


def as_read(text: str) -> str:
    """HTML has one kind of line end."""
    return text.replace("\r\n", "\n")


@pytest.mark.parametrize("kind", TEXTS)
async def test_a_hostile_text_is_shown_as_it_is(site: Site, reading: Reading, kind: str) -> None:
    hostile = site.kinds[kind]
    shown = as_read(hostile.text)
    async with reading() as reader:
        await watched(reader.page)
        await reader.page.goto(f"{site.base}/classes/{hostile.class_id}")
        assert (await reader.page.locator("h1").text_content() or "").strip() == shown.strip()
        await is_harmless(reader.page)
        await reader.page.goto(f"{site.base}/teachers/{hostile.teacher_id}")
        assert (await reader.page.locator("h1").text_content() or "").strip() == shown.strip()
        assert await reader.page.locator("tbody th a").first.text_content() == shown
        cells = await reader.page.locator("tbody td").all_text_contents()
        role = as_read(f"{hostile.text[:50]} · {hostile.text[:100]}")
        assert {shown[:50], as_read(hostile.text[:20]), role} <= set(cells)
        await is_harmless(reader.page)


async def test_the_overview_shows_hostile_names_and_goes_on_to_refresh(site: Site, reading: Reading) -> None:
    async with reading() as reader:
        await watched(reader.page)
        async with reader.page.expect_response(
            lambda response: "page-language" in response.request.headers
        ) as refreshed:
            await reader.page.goto(site.base)
        assert (await refreshed.value).status == 200
        names = [(name or "").strip() for name in await reader.page.locator(".people a").all_text_contents()]
        known = [as_read(h.text).strip() for h in site.kinds.values()]
        assert len([name for name in names if any(text in name for text in known)]) >= 10
        await is_harmless(reader.page)


async def test_a_hostile_id_is_shown_as_it_is(site: Site, reading: Reading) -> None:
    async with reading() as reader:
        await watched(reader.page)
        for text in ("<script>window.pwned=1</script>", "' OR '1'='1", '"><svg onload=window.pwned=1>'):
            await reader.page.goto(site.base)
            await reader.page.locator("main input[name=q]").fill(text)
            await reader.page.locator("main form button").first.click()
            await reader.page.wait_for_url("**/search?**")
            assert escape(text, quote=False) in (await reader.page.content()).replace("&quot;", '"')
            await is_harmless(reader.page)


async def test_the_database_holds_hostile_texts_as_they_came_and_is_unharmed(site: Site) -> None:
    at = urlsplit(site.database_url)
    where: dict[str, Any] = {"host": at.hostname, "port": at.port, "database": at.path[1:]}
    expected = {
        (h.class_id, h.text, h.text[:50], h.text[:20], h.teacher_id, h.text, h.text, h.text[:50], h.text[:100])
        for h in site.kinds.values()
    }
    query = (
        "SELECT c.ClassId, c.ClassName, c.Grade, c.AcademicYear, t.TeacherId, t.FullName, t.Email, a.Role, a.Subject "
        "FROM ClassInfos c JOIN Teachers t ON t.TeacherId = c.HomeroomTeacherId "
        "JOIN TeacherAssignments a ON a.ClassId = c.ClassId"
    )

    def rows() -> set[tuple[str, ...]]:
        with (
            pymysql.connect(**where, user=at.username, password=at.password or "", charset="utf8mb4") as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query)
            return set(cursor.fetchall())

    await until(lambda: rows() == expected, 60)
    assert site.worker.get("/health")[1]["checks"]["replica"]["status"] == "pass"
