"""Answers about one user from the local copy of progress or activity, a page at a time, or why there is none."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from emis_streams.events import is_canonical_id
from emis_streams.lag_report import Camel
from emis_streams.node import NODE
from emis_streams.read_model.user_rows import DEFAULT_LIMIT, MOST_LIMIT, NoSuchRow, UserRows
from web.freshness import FRESHNESS, Age
from web.pages import as_json
from web.parameters import row_id, whole_number
from web.problems import problem

_RETRY_SECONDS = 1

LIMIT = whole_number("limit", 1, MOST_LIMIT, DEFAULT_LIMIT)
AFTER = row_id("after")


@dataclass(frozen=True)
class Asked:
    """Of whom, and which page."""

    user_id: str
    limit: int
    after: str | None


Found = Callable[[UserRows, Asked, Age], Camel]
"""From the copy, what is asked, and how old the copy is. Raises NoSuchRow."""


def answer(request: web.Request, found: Found) -> web.StreamResponse:
    """`{user_id}` of the route is the user; `limit` and `after`, which the handler declares, say which page."""
    user_id = request.match_info["user_id"]
    if not is_canonical_id(user_id):
        return problem(400, "Bad Request", f"{user_id!r} is no id: ids are UUIDs")
    try:
        return _answer(request, Asked(user_id, LIMIT.of(request), AFTER.of(request)), found)
    except NoSuchRow as row:
        return problem(404, "Not Found", f"after: this user has no {str(row)!r}")


def _answer(request: web.Request, asked: Asked, found: Found) -> web.StreamResponse:
    node = request.app[NODE]
    if node.user_rows is None or not node.user_rows.caught_up or node.read_model_follower is None:
        response = problem(503, "Service Unavailable", "the local copy has not caught up yet")
        response.headers[hdrs.RETRY_AFTER] = str(_RETRY_SECONDS)
        return response
    return as_json(found(node.user_rows, asked, request.app[FRESHNESS].age("local")))
