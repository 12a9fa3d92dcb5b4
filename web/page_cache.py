"""Pages as they went out, by their ETag: what many look at is rendered and compressed once.

An ETag names all that a page shows, so nothing here can be out of date, and nothing has to be forgotten but for room.
"""

from collections import OrderedDict
from typing import NamedTuple

from aiohttp import web

MAX_BYTES = 16 << 20
"""Of all pages together; those that were asked for longest ago are forgotten first."""


class RenderedPage(NamedTuple):
    """A page in both forms."""

    html: bytes
    compressed: bytes

    @property
    def n_bytes(self) -> int:
        return len(self.html) + len(self.compressed)


class PageCache:
    """Of one application."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pages: OrderedDict[str, RenderedPage] = OrderedDict()
        self.n_bytes = 0

    def get(self, etag: str) -> RenderedPage | None:
        """The page; None if it was never made, or forgotten."""
        page = self._pages.get(etag)
        if page is not None:
            self._pages.move_to_end(etag)
        return page

    def keep(self, etag: str, page: RenderedPage) -> None:
        """Keeps the page, and forgets others until all fit."""
        before = self._pages.pop(etag, None)
        self.n_bytes += page.n_bytes - (0 if before is None else before.n_bytes)
        self._pages[etag] = page
        while self.n_bytes > self._max_bytes:
            _, forgotten = self._pages.popitem(last=False)
            self.n_bytes -= forgotten.n_bytes


PAGE_CACHE: web.AppKey[PageCache] = web.AppKey("page_cache", PageCache)
