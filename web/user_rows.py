"""Answers about one user from the local copy of progress or activity, or why there is none."""

from collections.abc import Callable

from aiohttp import hdrs, web

from emis_streams.events import is_canonical_id
from emis_streams.lag_report import Camel
from emis_streams.node import NODE
from emis_streams.read_model.user_rows import UserRows
from web.pages import as_json
from web.problems import problem

_RETRY_SECONDS = 1

Found = Callable[[UserRows, str, bool], Camel]
"""From the copy, the user's id, and whether the copy is stale."""


def answer(request: web.Request, found: Found) -> web.StreamResponse:
    """`{user_id}` of the route is the user."""
    user_id = request.match_info["user_id"]
    if not is_canonical_id(user_id):
        return problem(400, "Bad Request", f"{user_id!r} is no id: a lower-case UUID of 36 characters")
    node = request.app[NODE]
    if node.user_rows is None or not node.user_rows.caught_up or node.read_model_follower is None:
        response = problem(503, "Service Unavailable", "the local copy has not caught up yet")
        response.headers[hdrs.RETRY_AFTER] = str(_RETRY_SECONDS)
        return response
    is_stale = node.read_model_follower.status().waiting_for is not None
    return as_json(found(node.user_rows, user_id, is_stale))
