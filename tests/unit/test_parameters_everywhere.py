"""Query parameters of all routes of worker, services and gateway: read as a whole, or refused by name."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from emis_streams.node import NODE
from emis_streams.services.gateway import GatewayService
from emis_streams.services.service import Service
from emis_streams.services.users import UserService
from emis_streams.settings import Settings
from tests.integration.service_rig import no_dead_letter
from tests.pages import TEACHER, ToldLag, a_node, a_report, filled_model
from tests.unit.test_service_pages import site_of
from tests.unit.test_user_pages import site_of_users
from web import PAGES, consumer_lag, setup
from web.gateway import ROUTES
from web.parameters import DECLARED, Parameter

WITHOUT_PARAMETERS = {"/livez", "/readyz", "/startupz"}
"""Probes answer whatever is asked: an orchestrator that adds something must not restart the process."""
NOT_NUMBERS = ("", "0", "-1", "+1", " 1", "1 ", "01", "01000000", "1_0", "1e1", "1.0", "0x1", "١", "１", "1\0", "ten")
NOT_NUMBERS += ("9" * 400, "1" * 5_000)
NOT_IDS = ("", "x", "\0", "1", TEACHER[:-1], f"{TEACHER}.", f"{TEACHER}.{TEACHER}.", "a" * 5_000)
GARBAGE = {"limit": NOT_NUMBERS, "after": NOT_IDS, "history": ("", "True", "1"), "only": ("x",), "sort": ("", "x")}
"""What is none of the values of a parameter. `id` and `lang` take any text."""


class Routed(NamedTuple):
    path: str
    parameters: tuple[Parameter[Any], ...]


def routes_of(app: web.Application) -> Iterator[Routed]:
    """All that can be got, with what they declare."""
    of_gateway = {route.path: route.query for route in ROUTES if route.method == "GET"}
    for route in app.router.routes():
        path = route.resource.canonical if route.resource is not None else ""
        if route.method == "GET" and path not in WITHOUT_PARAMETERS and not path.startswith("/static"):
            declared = getattr(route.handler, DECLARED, of_gateway.get(path))
            assert declared is not None, f"{path} declares no parameters: `@takes()` is for none"
            yield Routed("/".join(TEACHER if "{" in part else part for part in path.split("/")), declared)


def refused_queries(parameters: Iterable[Parameter[Any]]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The parameter that has to be named, and the query."""
    yield "unknown", [("unknown", "1")]
    yield "LIMIT", [("LIMIT", "1")]
    declared = {parameter.name for parameter in parameters}
    for name in declared:
        yield name, [(name, "1"), (name, "1")] if name == "limit" else [(name, TEACHER), (name, TEACHER)]
        for text in GARBAGE.get(name, ()):
            yield name, [(name, text)]
    for name in {"limit", "after", "id"} - declared:
        yield name, [(name, "1")]


@asynccontextmanager
async def worker_site(folder: Path) -> AsyncIterator[web.Application]:
    async with filled_model(folder) as model:
        app = web.Application()
        app[NODE] = a_node(model, ToldLag(a_report()))
        setup(app)
        for page in PAGES:
            app.add_routes(page.routes)
        yield app


@asynccontextmanager
async def service_site(_folder: Path) -> AsyncIterator[web.Application]:
    yield site_of(UserService(Settings(), no_dead_letter))


@asynccontextmanager
async def users_site(folder: Path) -> AsyncIterator[web.Application]:
    async with site_of_users(folder) as app:
        app.add_routes(consumer_lag.routes)
        yield app


@asynccontextmanager
async def gateway_site(_folder: Path) -> AsyncIterator[web.Application]:
    own: Service = GatewayService(Settings(), no_dead_letter, ["teacher"])
    async with ClientSession() as own.pages:  # type: ignore[attr-defined]
        yield site_of(own, ROUTES)


SITES = {"worker": worker_site, "service": service_site, "users": users_site, "gateway": gateway_site}


@pytest.mark.parametrize("kind", SITES)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
async def test_what_is_no_parameter_is_refused_by_name(tmp_path: Path, kind: str, accept: str) -> None:
    async with SITES[kind](tmp_path) as app, TestClient(TestServer(app)) as http:
        routed = list(routes_of(app))
        assert routed
        for path, parameters in routed:
            for name, query in refused_queries(parameters):
                url = URL(path).with_query(query)
                async with http.get(url, headers={"Accept": accept}, allow_redirects=False) as response:
                    text = await response.text()
                assert response.status == 400, (url, text)
                assert name in text, (url, text)
                assert len(text) < 20_000
                if "json" in accept:
                    assert response.content_type == "application/problem+json"
