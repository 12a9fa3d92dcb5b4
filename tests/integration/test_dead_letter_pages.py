"""The pages of dead letters on a real Kafka: everything in the topic can be read, within bounds."""

import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession

from emis_streams import dead_letter_list, topics
from emis_streams.dead_letter_headers import as_dead_letter, headers_for
from emis_streams.producer import EventProducer
from emis_streams.settings import Settings
from tests.pages import a_node, serving

HTML = {"Accept": "text/html", "Accept-Language": "en"}


async def send(settings: Settings, letters: list[tuple[bytes | None, bytes | None, str]]) -> set[str]:
    """Dead letters as agents send them; their places."""
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    async with EventProducer(settings) as producer:
        sent = []
        for n, (key, value, reason) in enumerate(letters):
            ours = headers_for("emis.class.updated", 7, n, now_ms, reason, now_ms)
            sent.append(await producer.send_record(topics.DEAD_LETTER, *as_dead_letter(key, value, [], ours)))
        acknowledged = [await one for one in sent]
    return {f"{one.partition}:{one.offset}" for one in acknowledged}


@pytest.fixture
async def http(no_worker: Settings) -> AsyncIterator[ClientSession]:
    async with (
        serving(a_node(None, None, settings=no_worker)) as server,
        ClientSession(server.make_url("/")) as session,
    ):
        yield session


async def every_page(http: ClientSession) -> list[dict[str, Any]]:
    pages: list[dict[str, Any]] = []
    query = ""
    while True:
        async with http.get(f"api/dead-letters{query}") as response:
            assert response.status == 200, await response.text()
            pages.append(await response.json())
        if pages[-1]["nextBefore"] is None:
            return pages
        query = f"?before={pages[-1]['nextBefore']}"


async def test_every_letter_is_on_one_of_the_pages(no_worker: Settings, http: ClientSession) -> None:
    sent = await send(no_worker, [(b"%d" % n, b"{", f"no JSON: byte {n}") for n in range(130)])
    pages = await every_page(http)
    shown = [letter["place"] for page in pages for letter in page["letters"]]
    assert sent <= set(shown)
    assert len(shown) == len(set(shown))
    assert len(pages[0]["letters"]) <= dead_letter_list.PAGE_LETTERS
    by_cause = {cause["cause"]: cause["count"] for cause in pages[0]["causes"]}
    assert by_cause["no JSON: byte …"] > 1


async def test_letters_as_large_as_the_brokers_take_are_listed_too(no_worker: Settings, http: ClientSession) -> None:
    """More bytes than are read for a page: fewer of them are read at once."""
    large = os.urandom(900_000)
    sent = await send(no_worker, [(b"%d" % n, large, "too large") for n in range(40)])
    pages = await every_page(http)
    assert sent <= {letter["place"] for page in pages for letter in page["letters"]}


async def test_strangers_records_are_listed_and_shown(no_worker: Settings, http: ClientSession) -> None:
    async with EventProducer(no_worker) as producer:
        sent = await (await producer.send_record(topics.DEAD_LETTER, b"\xff", b"<script>alert(1)</script>", []))
    place = f"{sent.partition}:{sent.offset}"
    assert place in {letter["place"] for page in await every_page(http) for letter in page["letters"]}
    async with http.get(f"dead-letters/{place}", headers=HTML) as response:
        text = await response.text()
    assert response.status == 200
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text


async def test_a_letter_is_shown_with_why_and_where_from(no_worker: Settings, http: ClientSession) -> None:
    [place] = await send(no_worker, [(b"class-1", json.dumps({"className": "Lớp 10A1"}).encode(), "no classId")])
    async with http.get(f"api/dead-letters/{place}") as response:
        letter = await response.json()
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("emis.class.updated", "7", "0")
    assert (letter["reason"], letter["key"]["text"]) == ("no classId", "class-1")
    for path in ("dead-letters", f"dead-letters/{place}"):
        async with http.get(path, headers=HTML) as response:
            assert response.status == 200
            text = await response.text()
        assert "no classId" in text
        assert "emis.class.updated:7:0" in text


@pytest.mark.parametrize("place", ["0:999999999999", "4711:0", "x", "1", "0:-1"])
async def test_where_no_letter_is_says_so(http: ClientSession, place: str) -> None:
    async with http.get(f"api/dead-letters/{place}") as response:
        assert response.status == 404
    async with http.get(f"dead-letters/{place}", headers=HTML) as response:
        assert (response.status, response.content_type) == (404, "text/html")


@pytest.mark.parametrize("query", ["?before=x", "?before=0-1.0-2", "?page=2"])
async def test_a_bad_parameter_is_named(http: ClientSession, query: str) -> None:
    async with http.get(f"api/dead-letters{query}") as response:
        assert response.status == 400
