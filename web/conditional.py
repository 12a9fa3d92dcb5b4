"""Answers that the client has already (RFC 9110, section 13): compared by ETag, answered with 304."""

import hashlib
from collections.abc import Iterable, Mapping

from aiohttp import hdrs, web

_ETAG_CHARACTERS = 24
_SEPARATOR = b"\0"


def etag_of(parts: Iterable[bytes | str]) -> str:
    """A weak ETag of everything that decides what an answer shows."""
    raw = (part if isinstance(part, bytes) else part.encode() for part in parts)
    return f'W/"{hashlib.sha256(_SEPARATOR.join(raw)).hexdigest()[:_ETAG_CHARACTERS]}"'


def is_unchanged(request: web.Request, etag: str) -> bool:
    """Whether the client has the answer with this ETag (If-None-Match; compared weakly, as GET does)."""
    given = request.headers.getall(hdrs.IF_NONE_MATCH, ())
    opaque = etag.removeprefix("W/")
    parts = (part.strip() for line in given for part in line.split(","))
    return any(part == "*" or part.removeprefix("W/") == opaque for part in parts)


def not_modified(headers: Mapping[str, str]) -> web.Response:
    """304 with the headers that the whole answer would have."""
    return web.Response(status=304, headers=headers)
