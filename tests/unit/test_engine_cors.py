"""CORS on the engine's web server: there for routes that declare it, and free of cost without any."""

import faust
from aiohttp.test_utils import TestClient, TestServer
from faust.types.web import ResourceOptions
from faust.web import Request, Response, View
from faust.web.drivers.aiohttp import Web as FaustWeb

from emis_streams.engine.web import Web

ORIGIN = "https://school.example"


class Hello(View):
    view_name, view_path = "hello", "/hello"

    async def get(self, request: Request) -> Response:
        return self.text("hello")


def _driver() -> Web:
    return Web(faust.App("cors", broker="kafka://127.0.0.1"))


async def _allowed_origin(driver: FaustWeb) -> str | None:
    async with TestClient(TestServer(driver.web_app)) as client:
        answer = await client.get("/hello", headers={"Origin": ORIGIN})
        assert (answer.status, await answer.text()) == (200, "hello")
        return answer.headers.get("Access-Control-Allow-Origin")


async def test_a_route_that_declares_cors_has_it() -> None:
    driver = _driver()
    driver.add_view(Hello, cors_options={ORIGIN: ResourceOptions(allow_credentials=True)})
    driver.drop_idle_cors()
    assert await _allowed_origin(driver) == ORIGIN


async def test_without_such_a_route_no_answer_is_looked_at() -> None:
    driver = _driver()
    driver.add_view(Hello)
    driver.drop_idle_cors()
    assert not driver.web_app.on_response_prepare
    assert await _allowed_origin(driver) is None
