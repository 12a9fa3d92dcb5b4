"""Styles, scripts and fonts of the pages, from memory, under addresses that change with their content.

The address is `/static/<stamp>/<name>`, and the stamp is of all files together: so the relative addresses in a style
sheet have it, too, and browsers never ask again for what they have.
"""

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import hdrs, web

from web.compression import ENCODING, gzipped, is_compressible, takes_gzip
from web.conditional import is_unchanged, not_modified

STATIC = Path(__file__).parent / "static"
YEAR_SECONDS = 365 * 24 * 3600
IMMUTABLE = f"public, max-age={YEAR_SECONDS}, immutable"
ASK_AGAIN = "no-cache"
"""Of addresses without the stamp of now: a page of another version of this worker is open in a browser."""
_BEST_LEVEL = 9
_STAMP_CHARACTERS = 12
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}

routes = web.RouteTableDef()


@dataclass(frozen=True)
class Asset:
    """One file, as it is sent."""

    content_type: str
    body: bytes
    compressed: bytes | None
    """None: compressing saves nothing."""
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """All files below `static/` by name (`vendor/htmx.min.js`)."""
    return {_name_of(path): _asset(path) for path in sorted(STATIC.rglob("*")) if path.is_file()}


@cache
def stamp() -> str:
    """Of the content of all files."""
    content = "".join(f"{name}={asset.etag};" for name, asset in assets().items())
    return hashlib.sha256(content.encode()).hexdigest()[:_STAMP_CHARACTERS]


def static_url(name: str) -> str:
    """The address of a file; raises KeyError if there is none of that name."""
    assert assets()[name]
    return f"/static/{stamp()}/{name}"


def _name_of(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    content_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    compressed = gzipped(body, _BEST_LEVEL) if is_compressible(content_type, len(body)) else None
    return Asset(content_type, body, compressed, f'W/"{hashlib.sha256(body).hexdigest()[:16]}"')


@routes.get("/static/{name:.+}")
async def static(request: web.Request) -> web.Response:
    """A file, by its name with or without a stamp before it."""
    given = request.match_info["name"]
    first, _, rest = given.partition("/")
    is_stamped = len(first) == _STAMP_CHARACTERS and rest in assets()
    asset = assets().get(rest if is_stamped else given)
    if asset is None:
        raise web.HTTPNotFound
    headers: dict[str, str] = {
        hdrs.CACHE_CONTROL: IMMUTABLE if is_stamped and first == stamp() else ASK_AGAIN,
        hdrs.ETAG: asset.etag,
    }
    if asset.compressed is not None:
        headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    if is_unchanged(request, asset.etag):
        return not_modified(headers)
    headers[hdrs.CONTENT_TYPE] = asset.content_type
    if asset.compressed is not None and takes_gzip(request):
        return web.Response(body=asset.compressed, headers={**headers, hdrs.CONTENT_ENCODING: ENCODING})
    return web.Response(body=asset.body, headers=headers)
