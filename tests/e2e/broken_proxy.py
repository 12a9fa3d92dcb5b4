"""Something between a browser and a worker that passes everything on, until a test breaks it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientSession, hdrs, web
from aiohttp.test_utils import TestServer

HTML = "text/html"
_PASSED_ON = (hdrs.CONTENT_TYPE, hdrs.CACHE_CONTROL, hdrs.WWW_AUTHENTICATE, hdrs.ETAG, hdrs.SET_COOKIE, hdrs.VARY)


@dataclass
class Proxy:
    """`fault` answers in place of the worker, for pages only: static files always come through."""

    worker: str
    """Where the worker is, without a slash at the end; a test may name another one."""
    session: ClientSession
    fault: "Fault | None" = None
    asked: list[str] = field(default_factory=list)
    """Paths of pages that were asked for."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith("/static/"):
            self.asked.append(request.path)
            if self.fault is not None:
                return await self.fault(self, request)
        return await self.passed_on(request)

    async def passed_on(self, request: web.Request, path: str | None = None) -> web.Response:
        url = self.worker + (path or request.path_qs)
        headers = {name: value for name, value in request.headers.items() if name != hdrs.HOST}
        async with self.session.get(url, headers=headers, allow_redirects=False) as response:
            kept = {name: response.headers[name] for name in _PASSED_ON if name in response.headers}
            return web.Response(status=response.status, body=await response.read(), headers=kept)


Fault = Callable[[Proxy, web.Request], Awaitable[web.StreamResponse]]


async def overloaded(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    return web.json_response({"title": "Overloaded", "status": 503}, status=503)


async def bad_gateway(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    return web.Response(status=502, text="<html><body><h1>502 Bad Gateway</h1></body></html>", content_type=HTML)


async def login(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    return web.Response(status=401, text="<html><body>Log in</body></html>", content_type=HTML)


async def forbidden(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    return web.json_response({"title": "Forbidden"}, status=403)


async def not_found(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="<html><body>no such host</body></html>", content_type=HTML)


async def welcome(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    """As networks do that want a click first: 200, and not this page."""
    text = '<!doctype html><html><body><main id="live">Welcome to our network</main></body></html>'
    return web.Response(text=text, content_type=HTML)


async def elsewhere(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={hdrs.LOCATION: "/static/site.css"})


async def another_page(proxy: Proxy, request: web.Request) -> web.StreamResponse:
    """A page of the same worker, but not the one that was asked for."""
    return await proxy.passed_on(request, "/classes/0c000000-0000-4000-8000-00000000000b")


async def half_of_it(proxy: Proxy, request: web.Request) -> web.StreamResponse:
    whole = (await proxy.passed_on(request)).body
    assert isinstance(whole, bytes)
    return web.Response(body=whole[: len(whole) // 2], content_type=HTML)


async def cut(_proxy: Proxy, request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def silent(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def endless(_proxy: Proxy, request: web.Request) -> web.StreamResponse:
    """Begins to answer, and does not come to an end."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: HTML})
    await response.prepare(request)
    await response.write(b"<!doctype html>")
    await asyncio.sleep(60)
    return response


async def nothing_new(_proxy: Proxy, _request: web.Request) -> web.StreamResponse:
    return web.Response(status=304)


@asynccontextmanager
async def proxied(worker: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before a worker, and its address."""
    async with ClientSession(auto_decompress=True) as session:
        proxy = Proxy(worker.rstrip("/"), session)
        app = web.Application()
        app.router.add_get("/{path:.*}", proxy.answer)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server(shutdown_timeout=0.1)
        try:
            yield proxy, str(server.make_url("")).rstrip("/")
        finally:
            await server.close()
