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
async def canonical_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Parts of the path that are called an id become canonical; handlers refuse what is none."""
    match = request.match_info
    if match.http_exception is not None:
        await _redirect_without_slash(request)
    elif match:
        match.update(with_canonical_ids(match))
    return await handler(request)


async def _redirect_without_slash(request: web.Request) -> None:
    """Raises the redirection, only where something is at the address without the slash."""
    path = request.rel_url.raw_path
    if request.method not in _REDIRECTED or not path.endswith("/"):
        return
    # One slash at the beginning: an address that begins with two would lead to another host.
    there = request.rel_url.with_path("/" + path.strip("/"), encoded=True).with_query(request.rel_url.query)
    found = await request.app.router.resolve(request.clone(rel_url=there))
    if isinstance(found, UrlMappingMatchInfo) and found.http_exception is None:
        raise web.HTTPPermanentRedirect(str(there))


def setup(app: web.Application) -> None:
    """Make the handlers of an application get canonical ids, and addresses with a slash at the end lead on."""
    app.middlewares.append(canonical_address)
