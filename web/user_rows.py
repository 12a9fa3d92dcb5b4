"""Answers about one user from the local copy of progress or activity, a page at a time, or why there is none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, TypeVar

from aiohttp import hdrs, web

from emis_streams.events import is_canonical_id
from emis_streams.lag_report import Camel
from emis_streams.node import NODE
from emis_streams.read_model.user_rows import UserRows
from web.freshness import FRESHNESS, Age
from web.pages import as_json
from web.problems import problem

_RETRY_SECONDS = 1
_LIMIT, _MOST = 50, 100

Row = TypeVar("Row")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some of a user's rows."""

    rows: tuple[Row, ...]
    next_after: str | None
    """Ask for what comes after this one; None at the end."""


@dataclass(frozen=True)
class Asked:
    """Of whom, and which page."""

    user_id: str
    limit: int
    after: str | None

    def page(self, rows: Sequence[Row], id_of: Callable[[Row], str]) -> Page[Row]:
        """Of all the user's rows. Raises _Refused if `after` is none of them."""
        first = 0
        if self.after is not None:
            first = 1 + next((n for n, row in enumerate(rows) if id_of(row) == self.after), len(rows))
            if first > len(rows):
                raise _Refused(404, f"after: this user has no {self.after!r}")
        shown = tuple(rows[first : first + self.limit])
        is_more = first + self.limit < len(rows)
        return Page(shown, id_of(shown[-1]) if is_more else None)


class _Refused(Exception):
    """What is asked makes no sense, or is not there."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


Found = Callable[[UserRows, Asked, Age], Camel]
"""From the copy, what is asked, and how old the copy is."""


def answer(request: web.Request, found: Found) -> web.StreamResponse:
    """`{user_id}` of the route is the user; `limit` and `after` say which page."""
    try:
        return _answer(request, _asked(request), found)
    except _Refused as reason:
        return problem(reason.status, HTTPStatus(reason.status).phrase, str(reason))


def _asked(request: web.Request) -> Asked:
    user_id = request.match_info["user_id"]
    if not is_canonical_id(user_id):
        raise _Refused(400, f"{user_id!r} is no id: a lower-case UUID of 36 characters")
    given = dict(request.query)
    if len(given) < len(request.query) or not given.keys() <= {"limit", "after"}:
        raise _Refused(400, "parameters are limit and after, each once")
    limit = given.get("limit", str(_LIMIT))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:4]) <= _MOST):
        raise _Refused(400, f"limit={limit!r}: 1 to {_MOST}")
    return Asked(user_id, int(limit), given.get("after"))


def _answer(request: web.Request, asked: Asked, found: Found) -> web.StreamResponse:
    node = request.app[NODE]
    if node.user_rows is None or not node.user_rows.caught_up or node.read_model_follower is None:
        response = problem(503, "Service Unavailable", "the local copy has not caught up yet")
        response.headers[hdrs.RETRY_AFTER] = str(_RETRY_SECONDS)
        return response
    return as_json(found(node.user_rows, asked, request.app[FRESHNESS].age("local")))
