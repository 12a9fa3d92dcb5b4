"""Which lessons a user has: JSON, answered from this node's own copy."""

from aiohttp import web

from emis_streams.lag_report import Camel
from emis_streams.read_model.user_rows import UserLesson, UserRows
from web.freshness import Age
from web.ids import with_any_id
from web.parameters import takes
from web.user_rows import AFTER, LIMIT, Asked, answer

routes = web.RouteTableDef()


class Progress(Camel, frozen=True, kw_only=True):
    """The newest lesson first; empty for a user that nobody has heard of."""

    user_id: str
    lessons: tuple[UserLesson, ...]
    next_after: str | None
    """Ask for what comes after this one; null at the end."""
    age_seconds: float | None
    """How old the answer can be, at most; null if that is not known."""
    stale: bool
    """Older than STALE_AFTER_SECONDS, or nobody knows."""


@routes.get(with_any_id("/progress/{user_id}"))
@takes(LIMIT, AFTER)
async def progress(request: web.Request) -> web.StreamResponse:
    """RFC 9457 problems with 400, 404 (no such page), 503 (the copy has not caught up for the first time)."""

    def found(copy: UserRows, asked: Asked, age: Age) -> Progress:
        page = copy.lessons(asked.user_id, asked.limit, asked.after)
        return Progress(
            user_id=asked.user_id,
            lessons=page.rows,
            next_after=page.next_after,
            age_seconds=age.seconds,
            stale=age.stale,
        )

    return answer(request, found)
