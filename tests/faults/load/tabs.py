"""Browsers with open pages: each asks for its page again and again, as `web/static/refresh.js` does.

A tab has a connection of its own that stays, as browsers have it; it takes gzip, names the ETag that it has, and waits
for its interval, shorter or longer by up to 15 %. For a process of its own: ten thousand tabs are as many descriptors.
"""

import asyncio
import random
import resource
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

_JITTER = 0.15
_HUNG_SECONDS = 5.0
_SPARE_DESCRIPTORS = 500
_GZIP_WINDOW = zlib.MAX_WBITS | 16
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Kind:
    """Pages that are alike: who looks at them, and how often they ask."""

    name: str
    paths: Sequence[str]
    """One for each tab."""
    every_seconds: float
    watched: int = 0
    """So many of the first tabs look for the marks in what they are shown."""


@dataclass(frozen=True)
class Opened:
    """What a process of tabs does."""

    host: str
    port: int
    kinds: Sequence[Kind]
    open_seconds: float
    """All are opened within that time, one after the other."""
    measured_seconds: float
    marks: Sequence[str] = ()
    """Texts whose first appearance in a watched tab is noted."""


@dataclass
class Seen:
    """What became of the tabs of one kind while they were measured."""

    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    n_bytes: int = 0
    """Received, headers included."""
    n_tabs: int = 0
    first_bytes: int = 0
    """Of opening all of them, outside what was measured."""

    def percentile_ms(self, part: float) -> float:
        ordered = sorted(self.latencies_ms)
        return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 1) if ordered else float("inf")


@dataclass
class Outcome:
    kinds: dict[str, Seen]
    marks: dict[str, float]
    """When each was first seen, seconds since 1970."""
    cpu_pct: float
    """Of one core, by the tabs themselves."""
    refused_at: dict[float, int]
    """How many were refused when, seconds since the first tab was opened."""


def in_this_process(opened: Opened) -> Outcome:
    """Opens the tabs, waits until all are open, and measures."""
    _allow_descriptors(sum(len(kind.paths) for kind in opened.kinds) + _SPARE_DESCRIPTORS)
    return uvloop.run(_Browser(opened).run())


def _allow_descriptors(n: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < n:
        if hard != resource.RLIM_INFINITY and hard < n:
            raise SystemExit(f"{n} open files are needed, {hard} are allowed (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))


class _Browser:
    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self.is_measured = False
        self.marks: dict[str, float] = {}
        self.refused_at: Counter[float] = Counter()
        self._begun = time.monotonic()
        self.seen = {kind.name: Seen(n_tabs=len(kind.paths)) for kind in opened.kinds}

    def note_refused(self, now: float) -> None:
        """For which bursts there were: seconds since the first tab was opened, while they are opened, too."""
        self.refused_at[round(now - self._begun, 1)] += 1

    @property
    def expected_marks(self) -> Sequence[str]:
        return self._opened.marks

    async def run(self) -> Outcome:
        opened = self._opened
        tabs = [
            _Tab(self, opened.host, kind, path, number < kind.watched)
            for kind in opened.kinds
            for number, path in enumerate(kind.paths)
        ]
        random.Random(1).shuffle(tabs)
        begun = time.monotonic()
        for number, tab in enumerate(tabs):
            await asyncio.sleep(max(0.0, begun + opened.open_seconds * number / len(tabs) - time.monotonic()))
            await tab.open(opened.port)
        await asyncio.sleep(max(kind.every_seconds for kind in opened.kinds) * (1 + _JITTER))
        self.is_measured, cpu, begun = True, time.process_time(), time.monotonic()
        await asyncio.sleep(opened.measured_seconds)
        self.is_measured = False
        cpu_pct = round(100 * (time.process_time() - cpu) / (time.monotonic() - begun), 1)
        for tab in tabs:
            tab.close()
        return Outcome(self.seen, self.marks, cpu_pct, dict(sorted(self.refused_at.items())))


class _Tab(asyncio.Protocol):
    """One open page."""

    def __init__(self, browser: _Browser, host: str, kind: Kind, path: str, is_watched: bool) -> None:
        self._browser = browser
        self._kind = kind
        self._is_watched = is_watched
        self._seen = browser.seen[kind.name]
        self._head = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nAccept-Encoding: gzip, deflate, br\r\n"
            "Accept-Language: vi\r\nPage-Language: vi\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n"
        ).encode()
        self._host = host
        self._etag = b""
        self._received = b""
        self._asked_at: float | None = None
        self._transport: asyncio.Transport | None = None
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, self._host, port)
        except OSError as error:
            self._seen.errors[f"connect: {type(error).__name__}"] += 1
            return
        self._ask()

    def close(self) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def _ask(self) -> None:
        if self._is_closed or self._transport is None:
            return
        if self._asked_at is not None:
            self._seen.errors["no answer in time"] += 1
        self._asked_at = time.monotonic()
        known = b"If-None-Match: " + self._etag + b"\r\n" if self._etag else b""
        self._transport.write(self._head + known + b"\r\n")

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0:
            return
        head = self._received[:head_end]
        length = int(_header(head, b"content-length") or 0)
        if len(self._received) < head_end + len(_HEAD_END) + length:
            return
        body, n_bytes = self._received[head_end + len(_HEAD_END) :], len(self._received)
        self._received = b""
        self._answered(int(head[9:12]), head, body, n_bytes)

    def _answered(self, status: int, head: bytes, body: bytes, n_bytes: int) -> None:
        now = time.monotonic()
        took_ms = (now - (self._asked_at or now)) * 1000
        self._asked_at = None
        if self._browser.is_measured:
            self._seen.statuses[status] += 1
            self._seen.latencies_ms.append(took_ms)
            self._seen.n_bytes += n_bytes
        elif not self._etag:
            self._seen.first_bytes += n_bytes
        if status not in (200, 304):
            self._seen.errors[f"status {status}"] += 1
            self._browser.note_refused(now)
        if status == 200:
            self._etag = _header(head, b"etag")
            self._look(head, body)
        wait = self._kind.every_seconds * random.uniform(1 - _JITTER, 1 + _JITTER)
        self._timer = asyncio.get_running_loop().call_later(wait, self._ask)

    def _look(self, head: bytes, body: bytes) -> None:
        if not self._is_watched:
            return
        text = zlib.decompress(body, _GZIP_WINDOW) if _header(head, b"content-encoding") == b"gzip" else body
        for mark in self._browser.expected_marks:
            if mark not in self._browser.marks and mark.encode() in text:
                self._browser.marks[mark] = time.time()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_closed:
            self._seen.errors[f"connection lost: {type(exc).__name__}"] += 1


def _header(head: bytes, name: bytes) -> bytes:
    at = head.lower().find(b"\r\n" + name + b":")
    return b"" if at < 0 else head[at + len(name) + 3 :].split(b"\r\n", 1)[0].strip()
