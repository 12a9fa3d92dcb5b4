"""Dead letters to read: a list, the newest first, their causes, and one letter. To change them is the CLI's."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Literal

from aiohttp import hdrs, web

from emis_streams.dead_letter_list import READ_SECONDS, LetterPage, Position, letter_page
from emis_streams.dead_letters import DeadLetter, NoSuchLetter, letter_at
from emis_streams.errors import Unavailable
from emis_streams.lag_report import Camel
from emis_streams.node import NODE
from web.help_topics import BROKERS
from web.pages import as_json, render, texts_of, wants_html
from web.parameters import LANG, Parameter, takes
from web.problems import problem

routes = web.RouteTableDef()

BEFORE: Parameter[Position | None] = Parameter("before", Position.of, "the nextBefore of the page before", None)
RETRY_AFTER_SECONDS = 5
_PLACE = re.compile(r"([0-9]{1,9}):([0-9]{1,18})")
_MOST_VALUE_BYTES = 64 * 1024
_MOST_HEADER_BYTES = 1_000
_MOST_HEADERS = 50

READS: web.AppKey[asyncio.Lock] = web.AppKey("dead_letter_reads", asyncio.Lock)
"""One reader of the topic at a time: so much memory, and no more, however many look."""


class Content(Camel, frozen=True, kw_only=True):
    """Bytes of a record as people can read them."""

    kind: Literal["text", "hexadecimal", "null"]
    text: str
    bytes: int
    """Of the whole; `text` is its beginning if it is larger than what is shown."""
    is_cut: bool


class LetterHeader(Camel, frozen=True, kw_only=True):
    """A header that the refused record had."""

    name: str
    value: Content


class LetterDetail(Camel, frozen=True, kw_only=True):
    """One dead letter: `GET /api/dead-letters/{place}`."""

    place: str
    topic: str | None
    """Where the record came from, with `partition` and `offset`; null if the letter does not tell."""
    partition: str | None
    offset: str | None
    reason: str
    sent_at: str | None
    refused_at: datetime | None
    key: Content
    value: Content
    headers: tuple[LetterHeader, ...]
    """Of the refused record; 50 at most."""
    whole_size: str | None
    """Of a record that was cut when it was refused: how large it was."""


def setup(app: web.Application) -> None:
    """Make an application able to read the topic."""
    app[READS] = asyncio.Lock()


@routes.get("/api/dead-letters")
@takes(BEFORE)
async def dead_letters_json(request: web.Request) -> web.StreamResponse:
    """A page of the list; 503 while the brokers do not answer."""
    return await _as_json(request)


@routes.get("/dead-letters")
@takes(BEFORE, LANG)
async def dead_letters_page(request: web.Request) -> web.StreamResponse:
    """A page of the list for browsers, as JSON for all others. It is not refreshed: each look reads the topic."""
    if not wants_html(request):
        return await _as_json(request)
    try:
        found = await _read_page(request)
    except Unavailable as reason:
        return _unavailable_page(request, reason)
    values = {"page": found, "is_first": BEFORE.of(request) is None}
    return render(request, "dead_letters.html", values, live=False)


@routes.get("/api/dead-letters/{place}")
@takes()
async def dead_letter_json(request: web.Request) -> web.StreamResponse:
    """One letter; 404 where none is."""
    return await _one_as_json(request)


@routes.get("/dead-letters/{place}")
@takes(LANG)
async def dead_letter_page(request: web.Request) -> web.StreamResponse:
    """One letter for browsers, as JSON for all others."""
    if not wants_html(request):
        return await _one_as_json(request)
    try:
        found = await _read_letter(request)
    except Unavailable as reason:
        return _unavailable_page(request, reason)
    return render(request, "dead_letter.html", {"letter": found, "sent_at": time_of(found.sent_at)}, live=False)


def time_of(text: str | None) -> datetime | None:
    """None for what is no time with a zone: a letter can say anything."""
    try:
        found = datetime.fromisoformat(text or "")
        return None if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


async def _as_json(request: web.Request) -> web.StreamResponse:
    try:
        return as_json(await _read_page(request))
    except Unavailable as reason:
        return _with_retry(problem(503, "Not available", str(reason)))


async def _one_as_json(request: web.Request) -> web.StreamResponse:
    try:
        return as_json(await _read_letter(request))
    except Unavailable as reason:
        return _with_retry(problem(503, "Not available", str(reason)))


async def _read_page(request: web.Request) -> LetterPage:
    """Raises Unavailable."""
    await _wait_for_turn(request)
    try:
        return await letter_page(request.app[NODE].settings, BEFORE.of(request))
    finally:
        request.app[READS].release()


async def _read_letter(request: web.Request) -> LetterDetail:
    """Raises Unavailable, HTTPNotFound."""
    place = _PLACE.fullmatch(request.match_info["place"])
    if place is None:
        raise web.HTTPNotFound(text="A dead letter is named by PARTITION:OFFSET, as 3:1042.")
    await _wait_for_turn(request)
    try:
        async with asyncio.timeout(READ_SECONDS):
            letter = await letter_at(request.app[NODE].settings, int(place[1]), int(place[2]))
    except NoSuchLetter as reason:
        raise web.HTTPNotFound(text=str(reason)) from None
    except TimeoutError:
        raise Unavailable(f"the dead letter could not be read within {READ_SECONDS:.0f} s") from None
    finally:
        request.app[READS].release()
    return detail_of(letter)


async def _wait_for_turn(request: web.Request) -> None:
    """Raises Unavailable if others read the topic for too long."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            await request.app[READS].acquire()
    except TimeoutError:
        raise Unavailable("others are reading the dead letters just now") from None


def _unavailable_page(request: web.Request, reason: Unavailable) -> web.Response:
    t = texts_of(request)
    values = {
        "status": 503,
        "title": t("dead.unavailable.title"),
        "text": t("dead.unavailable.text", reason=str(reason)),
        "detail": None,
        "given": None,
        "deleted_at": None,
        "offer_find": False,
        "topic": BROKERS,
        "not_well_since": request.app[NODE].journal.not_well_since("brokers"),
    }
    return _with_retry(render(request, "refusal.html", values, 503, answer="waiting"))


def _with_retry(response: web.Response) -> web.Response:
    response.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_SECONDS)
    return response


def detail_of(letter: DeadLetter) -> LetterDetail:
    """What is shown of a letter, whatever it is. Pure."""
    return LetterDetail(
        place=letter.place,
        topic=letter.topic,
        partition=letter.said("partition"),
        offset=letter.said("offset"),
        reason=letter.reason,
        sent_at=letter.said("timestamp") or None,
        refused_at=letter.time,
        key=content_of(letter.key, _MOST_HEADER_BYTES),
        value=content_of(letter.value, _MOST_VALUE_BYTES),
        headers=tuple(
            LetterHeader(name=name[:_MOST_HEADER_BYTES], value=content_of(value, _MOST_HEADER_BYTES))
            for name, value in letter.own_headers[:_MOST_HEADERS]
        ),
        whole_size=letter.said("cut"),
    )


def content_of(raw: bytes | None, most_bytes: int) -> Content:
    """Text if it is text; else hexadecimal, as `xxd -r -p` reads it."""
    if raw is None:
        return Content(kind="null", text="", bytes=0, is_cut=False)
    shown, is_cut = raw[:most_bytes], len(raw) > most_bytes
    # The end of what was cut can be half of a character.
    text = shown.decode("utf-8", "ignore" if is_cut and _is_text(raw) else "replace")
    if "\ufffd" in text or not all(c.isprintable() or c in "\t\r\n" for c in text):
        return Content(kind="hexadecimal", text=shown.hex(), bytes=len(raw), is_cut=is_cut)
    return Content(kind="text", text=text, bytes=len(raw), is_cut=is_cut)


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
