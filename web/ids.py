"""One rule for ids in all paths: a UUID in any usual form is read as its canonical form (`emis_streams/ids.py`)."""

import re

from aiohttp import web

from emis_streams.ids import with_canonical_ids
from web.problems import Handler

_ID = re.compile(r"\{(\w*(?:Id|_id))\}")


def with_any_id(path: str) -> str:
    """A route's path whose ids may have braces: by default aiohttp matches them with `[^{}/]+`."""
    return _ID.sub(r"{\1:[^/]+}", path)


@web.middleware
async def canonical_ids(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Parts of the path that are called an id; handlers refuse what is none."""
    request.match_info.update(with_canonical_ids(request.match_info))
    return await handler(request)


def setup(app: web.Application) -> None:
    """Make the handlers of an application get canonical ids."""
    app.middlewares.append(canonical_ids)
