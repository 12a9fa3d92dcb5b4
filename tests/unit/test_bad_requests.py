"""Requests of those who try what happens: raw bytes over a socket to a real site with a real read model."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from emis_streams.read_model.model import ReadModel
from tests.pages import ToldLag, a_history, a_node, a_report, filled_model, serving

_ANSWER_SECONDS = 10
_LINE_MOST_CHARACTERS = 400


@pytest.fixture(scope="module")
async def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReadModel]:
    async with filled_model(tmp_path_factory.mktemp("bad-requests")) as filled:
        yield filled


async def _answer(model: ReadModel, request: bytes) -> bytes:
    """Everything that comes back until the worker closes the connection."""
    async with serving(a_node(model, ToldLag(a_report(), a_history()))) as server, asyncio.timeout(_ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


async def test_a_path_of_two_slashes_leads_nowhere_else(model: ReadModel) -> None:
    request = b"GET //evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
    answer = await _answer(model, request)
    assert answer.startswith(b"HTTP/1.1 404")
    assert b'href="?lang=en"' in answer
    assert b'href="//' not in answer


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: <script>\x00\r\n\r\n", id="NUL in a header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", id="header of 20 kB"),
        pytest.param(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="path of 20 kB"),
        pytest.param(b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", id="version that there is not"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            id="two lengths of the body",
        ),
    ],
)
async def test_what_is_not_http_gets_400_and_one_bounded_line_in_the_log(
    model: ReadModel, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = await _answer(model, request_)
    assert answer.split()[1] == b"400"
    assert len(caplog.records) <= 1
    for record in caplog.records:
        assert record.exc_info is None
        assert len(record.getMessage()) < _LINE_MOST_CHARACTERS
        assert "\n" not in record.getMessage()
