"""Requests of those who try what happens: raw bytes over a socket to a real site with a real read model."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from aiohttp.test_utils import TestServer

from emis_streams.read_model.model import ReadModel
from tests.bad_requests import KINDS, SENT, Answered, Elsewhere, Kind
from tests.pages import ToldLag, a_history, a_node, a_report, filled_model, serving
from web.answer_headers import HEADERS

ROOT = Path(__file__).parents[2]
_ANSWER_SECONDS = 60
_LINE_MOST_CHARACTERS = 400
_MOST_GROWTH_BYTES = 50 * 2**20
_N_IDS = 2_000


@pytest.fixture(scope="module")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadModel]:
    async with filled_model(tmp_path_factory.mktemp("bad-requests")) as filled:
        yield filled


@pytest.fixture(scope="module")
async def site(model: ReadModel) -> AsyncIterator[TestServer]:
    async with serving(a_node(model, ToldLag(a_report(), a_history()))) as server:
        yield server


async def _answer(site: TestServer, request: bytes) -> bytes:
    """Everything that comes back until the worker closes the connection."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(site.host, site.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def _has_the_headers_of_every_answer(answer: bytes) -> None:
    head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert {f"{name}: {value}" for name, value in HEADERS.items()} <= set(head)
    assert b"aiohttp" not in answer
    assert b"Python" not in answer


@pytest.mark.parametrize("kind", SENT, ids=[kind.id for kind in SENT])
async def test_a_bad_request_gets_what_the_table_says_and_one_bounded_line_in_the_log(
    site: TestServer, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(kind.outcome, Answered)
    with caplog.at_level(logging.INFO):
        answer = await _answer(site, kind.request)
    assert _status(answer) in kind.outcome.statuses
    _has_the_headers_of_every_answer(answer)
    assert b"bytearray(" not in answer
    if kind.outcome.without:
        assert kind.outcome.without.encode() not in answer
    assert len(caplog.records) <= 1
    for record in caplog.records:
        assert record.exc_info is None
        assert len(record.getMessage()) < _LINE_MOST_CHARACTERS
        assert record.getMessage().isprintable()


async def test_programs_are_told_in_their_form_what_cannot_be_read(site: TestServer) -> None:
    answer = await _answer(site, b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in head
    assert b"too long" in body


def test_all_kinds_of_the_list_are_in_the_table() -> None:
    assert {kind.number for kind in KINDS} == set(range(61, 95))


def test_what_is_shown_elsewhere_is_shown_there() -> None:
    for kind in KINDS:
        if isinstance(kind.outcome, Elsewhere):
            path, _, name = kind.outcome.test.partition("::")
            assert f"def {name}(" in (ROOT / path).read_text(), kind.id


async def test_all_of_them_many_times_leave_nothing_behind(site: TestServer) -> None:
    async def once() -> None:
        await asyncio.gather(*(_answer(site, kind.request) for kind in SENT))

    await once()
    before = psutil.Process().memory_info().rss
    for _ in range(5):
        await once()
    assert psutil.Process().memory_info().rss - before < _MOST_GROWTH_BYTES


async def test_trying_ids_leaves_nothing_behind(site: TestServer) -> None:
    paths = [f"/api/teachers/{n:08x}-0000-4000-8000-000000000000" for n in range(_N_IDS)]
    requests = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode() for path in paths]
    before = psutil.Process().memory_info().rss
    answer = await _answer(site, b"\r\n".join(requests) + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 404 Not Found\r\n") == _N_IDS
    assert psutil.Process().memory_info().rss - before < _MOST_GROWTH_BYTES
    metrics = await _answer(site, b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    counted = [
        line for line in metrics.splitlines() if b'duration_seconds_count{method="GET",route="/api/teach' in line
    ]
    assert len(counted) <= 2  # one for each status: labels never hold ids
