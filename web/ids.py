"""One rule for ids in all paths: a UUID in any usual form is read as its canonical form (`emis_streams/ids.py`).

A slash at the end of a path leads to the address without it.
"""

import re

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from emis_streams.ids import with_canonical_ids
from web.problems import Handler

_ID = re.compile(r"\{(\w*(?:Id|_id))\}")
_REDIRECTED = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


def with_any_id(path: str) -> str:
    """A route's path whose ids may have braces: by default aiohttp matches them with `[^{}/]+`."""
    return _ID.sub(r"{\1:[^/]+}", path)


@web.middleware
async def canonical_ids(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Parts of the path that are called an id; handlers refuse what is none."""
    request.match_info.update(with_canonical_ids(request.match_info))
    return await handler(request)


@web.middleware
async def without_slash_at_end(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Only where something is at the address without it; anything else is as it was."""
    path = request.rel_url.raw_path
    if request.match_info.http_exception is None or request.method not in _REDIRECTED or not path.endswith("/"):
        return await handler(request)
    # One slash at the beginning: an address that begins with two would lead to another host.
    there = request.rel_url.with_path("/" + path.strip("/"), encoded=True).with_query(request.rel_url.query)
    found = await request.app.router.resolve(request.clone(rel_url=there))
    if isinstance(found, UrlMappingMatchInfo) and found.http_exception is None:
        raise web.HTTPPermanentRedirect(str(there))
    return await handler(request)


def setup(app: web.Application) -> None:
    """Make the handlers of an application get canonical ids, and addresses with a slash at the end lead on."""
    app.middlewares.append(without_slash_at_end)
    app.middlewares.append(canonical_ids)
