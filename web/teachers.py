"""A teacher with a page of the list of classes: JSON and page, answered from this node's own copy."""

from typing import Any

import msgspec
from aiohttp import hdrs, web

from emis_streams.answers import TeacherDetail
from emis_streams.class_list import DEFAULT_LIMIT, Cursor
from emis_streams.node import NODE
from web.freshness import FRESHNESS
from web.ids import with_any_id
from web.lookup import find
from web.pages import READERS_SECONDS, StampedPage, texts_of, wants_html
from web.parameters import CLASSES_AFTER, CLASSES_LIMIT, LANG, takes
from web.refusals import Refusal, as_page, as_problem
from web.remembered import REMEMBERED
from web.teacher_page import rows_of

routes = web.RouteTableDef()

_encode = msgspec.json.Encoder().encode
_MOST_SHOWN = 200
"""Classes on a page for people: twice as many would cost 40 ms of processor time, again every two seconds."""
_JSON = {hdrs.CONTENT_TYPE: "application/json"}


@routes.get(with_any_id("/api/teachers/{teacher_id}"))
@takes(CLASSES_LIMIT, CLASSES_AFTER)
async def teacher_json(request: web.Request) -> web.StreamResponse:
    """A teacher as JSON; RFC 9457 problems with 400, 404, 410 or 503."""
    return await _as_json(request)


@routes.get(with_any_id("/teachers/{teacher_id}"))
@takes(CLASSES_LIMIT, CLASSES_AFTER, LANG)
async def teacher_page(request: web.Request) -> web.StreamResponse:
    """A teacher as a page for browsers, with 200 classes at most; as JSON for all others."""
    if not wants_html(request):
        return await _as_json(request)
    limit, after = min(CLASSES_LIMIT.of(request), _MOST_SHOWN), CLASSES_AFTER.of(request)
    found = await find_teacher(request, request.match_info["teacher_id"], limit, after)
    if isinstance(found, Refusal):
        return as_page(request, found)
    found.age_seconds = request.app[FRESHNESS].bound(found.source)
    page = StampedPage(request, "teacher.html", _encode(found), READERS_SECONDS, "teachers")
    known = page.known()
    return page.render(_values(request, found, after)) if known is None else known


def _values(request: web.Request, found: TeacherDetail, after: Cursor | None) -> dict[str, Any]:
    shown = [c for c in found.class_assignments if c.class_name is not None]
    pupils = {c.class_id: c.total_students for c in shown if c.total_students is not None}
    return {
        "teacher": found,
        "rows": rows_of(texts_of(request), found.class_assignments),
        "is_whole": after is None and found.next_after is None,
        "n_classes": len({c.class_id for c in found.class_assignments if not c.deleted}),
        "n_pupils": sum(pupils.values()) if pupils else None,
        "first_page": None if after is None else _page_link(request, None),
        "next_page": None if found.next_after is None else _page_link(request, found.next_after),
    }


def _remembered(request: web.Request) -> web.Response | None:
    """The answer without parameters, which nearly everybody asks for, if it has been encoded already."""
    app = request.app
    model = app[NODE].read_model
    if model is None or not model.caught_up or request.rel_url.raw_query_string:
        return None
    body = app[REMEMBERED].body(model, request.match_info["teacher_id"])
    return None if body is None else web.Response(body=body + app[FRESHNESS].ending("local"), headers=_JSON)


async def _as_json(request: web.Request) -> web.StreamResponse:
    remembered = _remembered(request)
    if remembered is not None:
        return remembered
    teacher_id = request.match_info["teacher_id"]
    found = await find_teacher(request, teacher_id, CLASSES_LIMIT.of(request), CLASSES_AFTER.of(request))
    if isinstance(found, Refusal):
        return as_problem(found)
    return web.Response(body=_encode(found), content_type="application/json")


def _page_link(request: web.Request, after: str | None) -> str:
    """The same page with another part of the list. Without the path, as in `pages.render`."""
    query = {name: text for name, text in request.query.items() if name != CLASSES_AFTER.name}
    if after is not None:
        query[CLASSES_AFTER.name] = after
    return f"?{request.rel_url.with_query(query).raw_query_string}"


async def find_teacher(
    request: web.Request, teacher_id: str, limit: int = DEFAULT_LIMIT, after: Cursor | None = None
) -> TeacherDetail | Refusal:
    """The teacher with a page of the classes, with age and staleness filled in, or why there is none to show."""
    return await find(
        request,
        "teacher",
        teacher_id,
        lambda model, id_: model.teacher(id_, limit, after),
        lambda reader, id_: reader.teacher(id_, limit, after),
    )


async def find_teacher_alone(request: web.Request, teacher_id: str) -> TeacherDetail | Refusal:
    """The teacher, for whoever does not look at the classes: only the first is read, and none is counted."""
    return await find(
        request,
        "teacher",
        teacher_id,
        lambda model, id_: model.teacher(id_, 1, counted=False),
        lambda reader, id_: reader.teacher(id_, 1),
    )
