"""Teachers and classes by name, by the id of their school, or all of them: JSON and pages, a page at a time."""

from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from emis_streams.answers import FoundClass, FoundTeacher, SearchPage
from emis_streams.node import NODE
from emis_streams.read_model.model import CLASS, TEACHER, ReadModel
from emis_streams.read_model.name_search import SearchCursor
from emis_streams.search_query import MOST_CHARACTERS, Query, address_of, only_id, query_of, wider_query_of
from web.classes import find_class
from web.freshness import FRESHNESS
from web.pages import render, wants_html
from web.parameters import LANG, Parameter, takes, text_up_to, whole_number
from web.refusals import Refusal, as_problem, refuse
from web.teachers import find_teacher_alone

routes = web.RouteTableDef()

DEFAULT_LIMIT, MOST_LIMIT = 20, 100
QUERY = text_up_to("q", MOST_CHARACTERS)
LIMIT = whole_number("limit", 1, MOST_LIMIT, DEFAULT_LIMIT)
AFTER: Parameter[SearchCursor | None] = Parameter("after", SearchCursor.of, "the nextAfter of the page before", None)

_encode = msgspec.json.Encoder().encode


class _List(NamedTuple):
    """One of the lists that are searched."""

    path: str
    kinds: tuple[bytes, ...]
    name: str
    """In the keys of texts."""
    shows_all: bool
    """Whether it has something to show without a query."""


_ALL = _List("/search", (TEACHER, CLASS), "all", shows_all=False)
_TEACHERS = _List("/teachers", (TEACHER,), "teachers", shows_all=True)
_CLASSES = _List("/classes", (CLASS,), "classes", shows_all=True)
_LISTS = (_ALL, _TEACHERS, _CLASSES)


@routes.get("/api/search")
@takes(QUERY, LIMIT, AFTER)
async def search_json(request: web.Request) -> web.StreamResponse:
    """Teachers and classes that match `q`; RFC 9457 problems with 400 or 503."""
    return _as_json(request, _ALL)


@routes.get("/search")
@takes(QUERY, LIMIT, AFTER, LANG)
async def search_page(request: web.Request) -> web.StreamResponse:
    """The same as a page for browsers, where an id or a pasted address leads to its page."""
    return await _answer(request, _ALL)


@routes.get("/api/teachers")
@takes(QUERY, LIMIT, AFTER)
async def teachers_json(request: web.Request) -> web.StreamResponse:
    """All teachers, or those that match `q`, in natural order of their names."""
    return _as_json(request, _TEACHERS)


@routes.get("/teachers")
@takes(QUERY, LIMIT, AFTER, LANG)
async def teachers_page(request: web.Request) -> web.StreamResponse:
    """The same as a page for browsers."""
    return await _answer(request, _TEACHERS)


@routes.get("/api/classes")
@takes(QUERY, LIMIT, AFTER)
async def classes_json(request: web.Request) -> web.StreamResponse:
    """All classes, or those that match `q`, in natural order of their names."""
    return _as_json(request, _CLASSES)


@routes.get("/classes")
@takes(QUERY, LIMIT, AFTER, LANG)
async def classes_page(request: web.Request) -> web.StreamResponse:
    """The same as a page for browsers."""
    return await _answer(request, _CLASSES)


async def path_of_id(request: web.Request, id_: str) -> tuple[str | None, Refusal | None]:
    """The page of the teacher or class that has or had this id; else, why it cannot be told."""
    not_ready = None
    for path, found in (
        ("teachers", await find_teacher_alone(request, id_)),
        ("classes", await find_class(request, id_)),
    ):
        if not isinstance(found, Refusal) or found.reason == "deleted":
            return f"/{path}/{id_}", None
        not_ready = found if found.reason == "not_ready" else not_ready
    return None, not_ready


async def _answer(request: web.Request, of: _List) -> web.StreamResponse:
    if not wants_html(request):
        return _as_json(request, of)
    text = QUERY.of(request)
    path = await _path_of(request, text)
    if path is not None:
        raise web.HTTPSeeOther(path)
    found = _search(request, of)
    if isinstance(found, Refusal):
        return refuse(request, found)
    return render(request, "search.html", _values(request, of, found), live=False, audience="teachers")


async def _path_of(request: web.Request, text: str) -> str | None:
    """The page that the text names: by its address, or by the id of what it shows."""
    address, id_ = address_of(text), only_id(text)
    if address is not None:
        return str(address)
    return None if id_ is None else (await path_of_id(request, id_))[0]


def _as_json(request: web.Request, of: _List) -> web.StreamResponse:
    if not of.shows_all and QUERY.name not in request.query:
        raise web.HTTPBadRequest(text=f"parameter 'q' is missing; allowed: {QUERY.allowed}")
    found = _search(request, of)
    if isinstance(found, Refusal):
        return as_problem(found)
    return web.Response(body=_encode(found), content_type="application/json")


def _search(request: web.Request, of: _List) -> SearchPage | Refusal:
    model = request.app[NODE].read_model
    if model is None or not model.caught_up:
        return Refusal("no_search", "any", QUERY.of(request))
    found = _found(model, of, QUERY.of(request), LIMIT.of(request), AFTER.of(request))
    _, found.age_seconds, found.stale = request.app[FRESHNESS].age(found.source)
    return found


def _found(model: ReadModel, of: _List, text: str, limit: int, after: SearchCursor | None) -> SearchPage:
    address, query = address_of(text), query_of(text)
    id_ = only_id(text) if address is None else address.id
    of_id = [] if id_ is None else [one for one in model.of_id(id_) if _kind(one) in of.kinds]
    finds_nothing = address is not None or (query == Query(()) and (text != "" or not of.shows_all))
    if of_id or finds_nothing:
        return SearchPage(results=of_id, next_after=None, complete=True, source="local")
    page = model.search(query, of.kinds, limit, after)
    wider = wider_query_of(text)
    if wider == query or page.results or not page.complete:
        return page
    was_found = after is not None and model.search(query, of.kinds, 1).results  # On the pages before.
    return page if was_found else model.search(wider, of.kinds, limit, after)


def _kind(one: FoundTeacher | FoundClass) -> bytes:
    return TEACHER if isinstance(one, FoundTeacher) else CLASS


def _values(request: web.Request, of: _List, page: SearchPage) -> dict[str, Any]:
    return {
        "list": of,
        "lists": _LISTS,
        "query": QUERY.of(request),
        "page": page,
        "teachers": [one for one in page.results if isinstance(one, FoundTeacher)],
        "classes": [one for one in page.results if isinstance(one, FoundClass)],
        "first_page": None if AFTER.of(request) is None else _link(request, None),
        "next_page": None if page.next_after is None else _link(request, page.next_after),
        "is_asked": of.shows_all or bool(QUERY.of(request)),
    }


def _link(request: web.Request, after: str | None) -> str:
    """The same list from another name on. Without the path, as in `pages.render`."""
    query = {name: text for name, text in request.query.items() if name != AFTER.name}
    if after is not None:
        query[AFTER.name] = after
    return f"?{request.rel_url.with_query(query).raw_query_string}"
