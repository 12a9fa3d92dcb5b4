"""A class and where its data came from: JSON and page, answered from this node's own copy."""

import msgspec
from aiohttp import web

from emis_streams.answers import HOMEROOM, ClassDetail, ClassTeacher, ClassTeachers
from emis_streams.node import NODE
from emis_streams.read_model.class_teachers import DEFAULT_LIMIT, MOST_LIMIT
from web.freshness import FRESHNESS
from web.i18n import Texts
from web.ids import with_any_id
from web.lookup import find
from web.pages import READERS_SECONDS, StampedPage, texts_of, wants_html
from web.parameters import LANG, row_id, takes, whole_number
from web.refusals import Refusal, as_page, as_problem
from web.teacher_page import role_text
from web.teachers import find_teacher_alone

routes = web.RouteTableDef()

TEACHERS_LIMIT = whole_number("limit", 1, MOST_LIMIT, DEFAULT_LIMIT)
TEACHERS_AFTER = row_id("after")

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
    page_of_teachers = _teachers(request, found, DEFAULT_LIMIT, None)
    teachers = None if page_of_teachers is None else page_of_teachers.teachers
    has_more = page_of_teachers is not None and page_of_teachers.next_after is not None
    found.age_seconds = request.app[FRESHNESS].bound(found.source)
    content = _encode((found, homeroom_name, teachers, has_more))
    page = StampedPage(request, "class.html", content, READERS_SECONDS, "teachers")
    known = page.known()
    if known is not None:
        return known
    t = texts_of(request)
    values = {
        "class_": found,
        "homeroom_name": homeroom_name,
        "teachers": None if teachers is None else [(one, _roles(t, one)) for one in teachers],
        "has_more_teachers": has_more,
    }
    return page.render(values)


@routes.get(with_any_id("/api/classes/{class_id}/teachers"))
@takes(TEACHERS_LIMIT, TEACHERS_AFTER)
async def class_teachers_json(request: web.Request) -> web.StreamResponse:
    """The teachers of a class as JSON; RFC 9457 problems with 400, 404, 410 or 503."""
    class_id = request.match_info["class_id"]
    found = await find_class(request, class_id)
    if isinstance(found, Refusal):
        return as_problem(found)
    teachers = _teachers(request, found, TEACHERS_LIMIT.of(request), TEACHERS_AFTER.of(request))
    if teachers is None:
        return as_problem(Refusal("no_search", "class", class_id))
    return web.Response(body=_encode(teachers), content_type="application/json")


def _teachers(request: web.Request, class_: ClassDetail, limit: int, after: str | None) -> ClassTeachers | None:
    """From the local copy; None if that has not caught up yet."""
    model = request.app[NODE].read_model
    if model is None or not model.caught_up:
        return None
    found = model.class_teachers(class_, limit, after)
    _, found.age_seconds, found.stale = request.app[FRESHNESS].age(found.source)
    return found


def _roles(t: Texts, teacher: ClassTeacher) -> list[str]:
    """Each once; the homeroom teacher is marked as such already."""
    shown = [role for role in teacher.roles if role.role != HOMEROOM or role.subject or not teacher.is_homeroom]
    return list(dict.fromkeys(role_text(t, role.role, role.subject) for role in shown))


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
