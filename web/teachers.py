"""A teacher with every class: JSON and page, answered from this node's own copy."""

import msgspec
from aiohttp import hdrs, web

from emis_streams.answers import TeacherDetail
from emis_streams.node import NODE
from web.freshness import FRESHNESS
from web.lookup import find
from web.pages import render, wants_html
from web.refusals import Refusal, as_page, as_problem
from web.remembered import REMEMBERED

routes = web.RouteTableDef()

_encode = msgspec.json.Encoder().encode
_JSON = {hdrs.CONTENT_TYPE: "application/json"}


@routes.get("/api/teachers/{teacher_id}")
async def teacher_json(request: web.Request) -> web.StreamResponse:
    """A teacher as JSON; RFC 9457 problems with 400, 404, 410 or 503."""
    teacher_id = request.match_info["teacher_id"]
    model = request.app[NODE].read_model
    if model is not None and model.caught_up:
        body = request.app[REMEMBERED].body(model, teacher_id)
        if body is not None:
            return web.Response(body=body + request.app[FRESHNESS].ending("local"), headers=_JSON)
    found = await find_teacher(request, teacher_id)
    if isinstance(found, Refusal):
        return as_problem(found)
    return web.Response(body=_encode(found), content_type="application/json")


@routes.get("/teachers/{teacher_id}")
async def teacher_page(request: web.Request) -> web.StreamResponse:
    """A teacher as a page for browsers, as JSON for all others."""
    if not wants_html(request):
        return await teacher_json(request)
    found = await find_teacher(request, request.match_info["teacher_id"])
    if isinstance(found, Refusal):
        return as_page(request, found)
    shown = [c for c in found.class_assignments if c.class_name is not None]
    pupils = {c.class_id: c.total_students for c in shown if c.total_students is not None}
    values = {
        "teacher": found,
        "n_classes": len({c.class_id for c in found.class_assignments if not c.deleted}),
        "n_pupils": sum(pupils.values()) if pupils else None,
    }
    return render(request, "teacher.html", values)


async def find_teacher(request: web.Request, teacher_id: str) -> TeacherDetail | Refusal:
    """The teacher, with age and staleness filled in, or why there is none to show."""
    return await find(
        request, "teacher", teacher_id, lambda model, id_: model.teacher(id_), lambda reader, id_: reader.teacher(id_)
    )
