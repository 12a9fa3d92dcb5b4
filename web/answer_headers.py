"""What is done with every answer before it is sent: the headers that all carry, Vary, and compression."""

from collections.abc import Mapping
from typing import cast

from aiohttp import hdrs, web
from multidict import CIMultiDict

from emis_streams.settings import Settings
from web.compression import ENCODING, compressed, is_compressible, takes_gzip
from web.parameters import HAS_PAGE

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Server": "emis-streams",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer; `Server` in place of the versions that aiohttp would tell."""
STRICT_TRANSPORT = {"Strict-Transport-Security": "max-age=31536000"}
"""Of every answer over TLS."""
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Of every page."""


def headers_of(settings: Settings) -> dict[str, str]:
    """Of every answer of a process with these settings, also of those that no handler sees."""
    return {**HEADERS, **(STRICT_TRANSPORT if settings.web_cert_file else {})}


def add_vary(response: web.StreamResponse, name: str) -> None:
    """Names a request header on which the answer depends."""
    before = response.headers.get(hdrs.VARY)
    if before is None:
        response.headers[hdrs.VARY] = name
    elif name not in before.split(", "):
        response.headers[hdrs.VARY] = f"{before}, {name}"


def setup(app: web.Application, headers: Mapping[str, str]) -> None:
    """Make an application send these headers, name what its answers depend on, and compress them."""
    own = CIMultiDict(headers)

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        """Signal `on_response_prepare`; one for all, as each takes a microsecond of every answer."""
        response.headers.update(own)
        content_type = response.headers.get(hdrs.CONTENT_TYPE, "")  # aiohttp's `content_type` parses its parameters.
        if content_type.startswith("text/html"):
            response.headers.update(PAGE_HEADERS)
        if getattr(request.match_info.handler, HAS_PAGE, False):
            add_vary(response, hdrs.ACCEPT)  # Else a cache could show the JSON of a page to a browser.
        body = response.body if isinstance(response, web.Response) else None
        if isinstance(body, bytes) and is_compressible(content_type, len(body)):
            await _compress(request, cast(web.Response, response), body)

    app.on_response_prepare.append(prepare)


async def _compress(request: web.Request, response: web.Response, body: bytes) -> None:
    add_vary(response, hdrs.ACCEPT_ENCODING)
    if hdrs.CONTENT_ENCODING in response.headers or not takes_gzip(request):
        return
    response.body = smaller = await compressed(body)
    response.headers[hdrs.CONTENT_LENGTH] = str(len(smaller))  # aiohttp has set that of the body as it was.
    response.headers[hdrs.CONTENT_ENCODING] = ENCODING
