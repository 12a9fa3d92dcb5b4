"""Compressed answers: gzip, for every client that takes it (docs/decisions/0025-compressed-answers.md)."""

import asyncio
import zlib
from functools import lru_cache

from aiohttp import hdrs, web

LEAST_BYTES = 1_024
"""A smaller answer fits into a packet or two anyway."""
LEVEL = 4
"""120 kB of HTML become 9.3 kB in 0.5 ms; the highest level takes 1.4 ms for 8.0 kB."""
MOST_AT_ONCE_BYTES = 262_144
"""A larger answer is compressed in a thread: metrics of thousands of partitions would keep all others waiting."""
ENCODING = "gzip"
_TYPES = frozenset(
    {
        "text/html",
        "text/css",
        "text/javascript",
        "text/plain",
        "image/svg+xml",
        "application/json",
        "application/problem+json",
    }
)
"""Fonts and pictures are compressed already."""
_GZIP_WINDOW = zlib.MAX_WBITS | 16
_REMEMBERED_HEADERS = 256
_FOREIGN_SITES = frozenset({"cross-site", "same-site"})
"""Values of Sec-Fetch-Site: a page of another origin caused the request."""


def gzipped(body: bytes, level: int = LEVEL) -> bytes:
    """The body as gzip: the same bytes for the same body."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)
    return compressor.compress(body) + compressor.flush()


def is_compressible(content_type: str, n_bytes: int) -> bool:
    """Whether it is worth the time; `content_type` as the header has it."""
    return n_bytes >= LEAST_BYTES and content_type.partition(";")[0] in _TYPES


def takes_gzip(request: web.Request) -> bool:
    """Whether the client takes gzip, and asks for itself.

    What a page of another site makes a browser ask for is sent as it is: the length of a compressed answer says whether
    a text in the address is also in the answer.
    """
    accepted = request.headers.get(hdrs.ACCEPT_ENCODING)
    if accepted is None or not _names_gzip(accepted):
        return False
    return request.headers.get("Sec-Fetch-Site") not in _FOREIGN_SITES


@lru_cache(maxsize=_REMEMBERED_HEADERS)
def _names_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header has gzip (or `*`) with a quality above 0."""
    qualities = dict(_coding(part) for part in accepted.lower().split(","))
    quality = qualities.get(ENCODING, qualities.get("x-gzip", qualities.get("*", 0.0)))
    return quality > 0.0


def _coding(part: str) -> tuple[str, float]:
    name, _, parameter = part.replace(" ", "").partition(";q=")
    try:
        return name, float(parameter or "1")
    except ValueError:
        return name, 0.0


async def compressed(body: bytes) -> bytes:
    """The body as gzip; a large one is compressed in a thread."""
    return await asyncio.to_thread(gzipped, body) if len(body) > MOST_AT_ONCE_BYTES else gzipped(body)
