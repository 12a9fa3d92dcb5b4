"""What lives as long as the process and grows with strangers' input has a bound, and forgets.

Others are tested beside what they belong to: breakers (test_breakers), the registry (test_leases), replies that are
waited for (test_replies), users of the gateway's limits (test_admission), connections (test_limits), groups of the lag
report (test_lag_groups), idempotency keys (tests/integration/test_service_database).
"""

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from emis_streams.cli import logs
from emis_streams.cli.logs import OncePerMinute
from emis_streams.read_model import entry_counts
from emis_streams.read_model.entry_counts import MOST_REMEMBERED
from emis_streams.read_model.model import ReadModel
from emis_streams.services.gateway import GatewayService
from emis_streams.services.kafka_carrier import _MOST_TOPICS, Sender
from emis_streams.settings import Settings
from tests.integration.service_rig import no_dead_letter
from tests.pages import ToldLag, a_node, a_report, filled_model, serving
from tests.unit.test_service_pages import site_of
from web import remembered
from web.gateway import ROUTES
from web.remembered import RememberedTeachers

N_STRANGERS = 1_000
METHODS = ("PROPFIND", "MKCOL", "LOCK", "REPORT", "PURGE", "M-SEARCH", "NOTIFY", "SEARCH")
"""That the parser of HTTP knows, and nobody here."""
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[str]:
    async with filled_model(tmp_path) as model, serving(a_node(model, ToldLag(a_report()))) as server:
        yield str(server.make_url("/"))


@pytest.fixture
async def gateway() -> AsyncIterator[str]:
    own = GatewayService(Settings(), no_dead_letter)
    async with TestServer(site_of(own, ROUTES)) as server:
        yield str(server.make_url("/"))
    await own.clean_up_resources()


async def ask_what_there_is_not(http: ClientSession, begin: int, end: int) -> None:
    """Of every kind of thing that a client can make up."""
    for number in range(begin, end):
        method = METHODS[number % len(METHODS)]
        requests: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", f"nowhere-{number}", {}),
            (method, f"nowhere-{number}", {}),
            (method, "metrics", {}),
            ("GET", f"teachers/{number}", {}),
            ("GET", f"livez?stranger={number}", {"headers": {"Accept-Language": f"x-{number}"}}),
            ("POST", f"circuit-breakers/s-{number}/p-{number}/reset", {}),
        ]
        for verb, path, more in requests:
            async with http.request(verb, path, **more) as response:
                await response.read()


async def series(http: ClientSession) -> set[str]:
    """Names with labels of all that `/metrics` shows."""
    async with http.get("metrics") as response:
        lines = (await response.text()).splitlines()
    return {re.sub(r" \S+$", "", line) for line in lines if line and not line.startswith("#")}


async def assert_series_do_not_grow(address: str) -> None:
    async with ClientSession(address) as http:
        await series(http)  # It is a route itself.
        await ask_what_there_is_not(http, 0, len(METHODS))
        before = await series(http)
        await ask_what_there_is_not(http, len(METHODS), N_STRANGERS // 6)
        assert await series(http) == before
    assert not [line for line in before if "nowhere" in line or any(method in line for method in METHODS)]
    assert [line for line in before if 'method="_OTHER",route="unknown"' in line]


async def test_series_of_a_worker_do_not_grow_with_paths_methods_and_queries(worker: str) -> None:
    await assert_series_do_not_grow(worker)


async def test_series_of_a_gateway_do_not_grow_with_paths_methods_and_queries(gateway: str) -> None:
    await assert_series_do_not_grow(gateway)


async def test_answers_are_remembered_up_to_so_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MAX_BYTES", 4_000)
    async with filled_model(tmp_path) as model:
        teachers = [teacher.teacher_id for teacher in model.sample_teachers(100)]
        own, most = RememberedTeachers(), 0
        for _ in range(5):
            for teacher_id in teachers:
                body = own.body(model, teacher_id)
                most = max(most, own.n_bytes - len(body or b""))
    assert 0 < most < 4_000


def test_what_is_not_there_is_not_remembered(tmp_path: Path) -> None:
    model = ReadModel(tmp_path / "read-model")
    own = RememberedTeachers()
    for number in range(N_STRANGERS):
        assert own.body(model, f"0c000000-0000-4000-8000-{number:012}") is None
        assert own.body(model, f"stranger-{number}") is None
    assert not own._bodies
    model.close()


def test_counts_are_remembered_of_so_many_teachers(tmp_path: Path) -> None:
    model = ReadModel(tmp_path / "read-model")
    counts = model.entry_counts
    for number in range(MOST_REMEMBERED + N_STRANGERS):
        assert counts.of(number.to_bytes(entry_counts.ID_BYTES, "big")).n == 0
    assert len(counts) == MOST_REMEMBERED
    model.close()


def test_partitions_are_remembered_of_so_many_topics_of_replies() -> None:
    """Whoever may make topics can name each of them in a request."""
    sender = Sender({})
    for number in range(_MOST_TOPICS + N_STRANGERS):
        sender._remember(f"emis.reply.{number}", 1)
    assert 0 < len(sender._n_partitions) <= _MOST_TOPICS


def test_lines_that_were_logged_are_remembered_up_to_so_many() -> None:
    once = OncePerMinute()
    for number in range(10 * logs._LINES_REMEMBERED):
        once.filter(logging.LogRecord("any", logging.WARNING, "", 0, f"line {number}", (), None))
    assert len(once._said) <= logs._LINES_REMEMBERED
