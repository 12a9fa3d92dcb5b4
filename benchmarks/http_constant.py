"""aiohttp answering the same bytes to everything: `python -m benchmarks.http_constant PORT FILE`.

What a page on this machine could reach at most with aiohttp, uvloop and one process.
"""

import sys
from pathlib import Path

import uvloop
from aiohttp import web


def application(body: bytes) -> web.Application:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{anything:.*}", answer)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(
        application(Path(sys.argv[2]).read_bytes()),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
    )
