"""A class and where its data came from: JSON and page, answered from this node's own copy."""

import msgspec
from aiohttp import web

from emis_streams.answers import ClassDetail
from web.freshness import FRESHNESS
from web.ids import with_any_id
from web.lookup import find
from web.pages import READERS_SECONDS, StampedPage, wants_html
from web.parameters import LANG, takes
from web.refusals import Refusal, as_page, as_problem
from web.teachers import find_teacher_alone

routes = web.RouteTableDef()

_encode = msgspec.json.Encoder().encode


@routes.get(with_any_id("/api/classes/{class_id}"))
@takes()
async def class_json(request: web.Request) -> web.StreamResponse:
    """A class as JSON; RFC 9457 problems with 400, 404, 410 or 503."""
    return await _as_json(request)


@routes.get(with_any_id("/classes/{class_id}"))
@takes(LANG)
async def class_page(request: web.Request) -> web.StreamResponse:
    """A class as a page for browsers, as JSON for all others."""
    if not wants_html(request):
        return await _as_json(request)
    found = await find_class(request, request.match_info["class_id"])
    if isinstance(found, Refusal):
        return as_page(request, found)
    homeroom_name = await _teacher_name(request, found.homeroom_teacher_id)
    found.age_seconds = request.app[FRESHNESS].bound(found.source)
    page = StampedPage(request, "class.html", _encode((found, homeroom_name)), READERS_SECONDS, "teachers")
    known = page.known()
    return page.render({"class_": found, "homeroom_name": homeroom_name}) if known is None else known


async def _as_json(request: web.Request) -> web.StreamResponse:
    found = await find_class(request, request.match_info["class_id"])
    if isinstance(found, Refusal):
        return as_problem(found)
    return web.Response(body=_encode(found), content_type="application/json")


async def find_class(request: web.Request, class_id: str) -> ClassDetail | Refusal:
    """The class, with age and staleness filled in, or why there is none to show."""
    return await find(
        request, "class", class_id, lambda model, id_: model.class_(id_), lambda reader, id_: reader.class_(id_)
    )


async def _teacher_name(request: web.Request, teacher_id: str | None) -> str | None:
    """The name to show beside a link; None if the teacher is not known here."""
    if teacher_id is None:
        return None
    teacher = await find_teacher_alone(request, teacher_id)
    return None if isinstance(teacher, Refusal) else teacher.full_name
