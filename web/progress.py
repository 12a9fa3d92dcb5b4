"""Which lessons a user has: JSON, answered from this node's own copy."""

from aiohttp import web

from emis_streams.lag_report import Camel
from emis_streams.read_model.user_rows import UserLesson, UserRows
from web.user_rows import answer

routes = web.RouteTableDef()


class Progress(Camel, frozen=True, kw_only=True):
    """The newest lesson first; empty for a user that nobody has heard of."""

    user_id: str
    lessons: tuple[UserLesson, ...]
    stale: bool
    """Newer ones may be there: the copy cannot be brought up to date now."""


@routes.get("/progress/{user_id}")
async def progress(request: web.Request) -> web.StreamResponse:
    """RFC 9457 problems with 400 (no id), 503 (the copy has not caught up for the first time)."""

    def found(copy: UserRows, user_id: str, stale: bool) -> Progress:
        return Progress(user_id=user_id, lessons=tuple(copy.lessons(user_id)), stale=stale)

    return answer(request, found)
