"""When there is nothing to show: why, with which status, as problem+json (RFC 9457) or as a page."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from aiohttp import hdrs, web

from emis_streams.answers import Gone
from web.freshness import Age
from web.pages import Answer, render, texts_of, wants_html
from web.problems import problem

Subject = Literal["teacher", "class", "any"]
Reason = Literal["malformed", "unknown", "deleted", "not_ready", "no_search"]

STATUS: dict[Reason, int] = {"malformed": 400, "unknown": 404, "deleted": 410, "not_ready": 503, "no_search": 503}
TITLES: dict[Reason, str] = {
    "malformed": "Malformed id",
    "unknown": "Not found",
    "deleted": "Deleted",
    "not_ready": "Not ready",
    "no_search": "Search is not ready",
}
DETAILS: dict[Reason, str] = {
    "malformed": "{given!r} is not the id of a {subject}: ids are UUIDs, 0c000000-0000-4000-8000-000000000001.",
    "unknown": "No event of a {subject} with the id {given} has arrived so far.",
    "deleted": "The {subject} {given} was deleted.",
    "not_ready": "This worker cannot tell yet: its local copy is not caught up and the database does not answer.",
    "no_search": "This worker cannot search yet: its local copy is not caught up. Ids are answered meanwhile.",
}
SUBJECTS: dict[Subject, str] = {"teacher": "teacher", "class": "class", "any": "teacher or class"}
RETRY_AFTER_SECONDS = 2


@dataclass(frozen=True)
class Refusal:
    """Why a teacher or a class cannot be shown."""

    reason: Reason
    subject: Subject
    given: str
    deleted_at: datetime | None = None
    age: Age | None = None
    """Of unknown and deleted: that there is nothing may be old news, too."""


def refusal_of(found: Gone | None, subject: Subject, given: str, age: Age) -> Refusal:
    """What an empty or a `Gone` answer means to who asked."""
    if found is None:
        return Refusal("unknown", subject, given, age=age)
    return Refusal("deleted", subject, given, found.deleted_at, age)


def as_problem(refusal: Refusal) -> web.Response:
    """The refusal as problem+json."""
    more: dict[str, Any] = {} if refusal.deleted_at is None else {"deletedAt": refusal.deleted_at}
    if refusal.age is not None:
        more |= {"source": refusal.age.source, "ageSeconds": refusal.age.seconds, "stale": refusal.age.stale}
    response = problem(
        STATUS[refusal.reason],
        TITLES[refusal.reason],
        DETAILS[refusal.reason].format(given=refusal.given, subject=SUBJECTS[refusal.subject]),
        **more,
    )
    return _with_retry(response, refusal)


def as_page(request: web.Request, refusal: Refusal) -> web.Response:
    """The refusal as a page in the reader's language, with a way on."""
    t = texts_of(request)
    values = {
        "status": STATUS[refusal.reason],
        "title": t(f"refusal.{refusal.reason}.title"),
        "text": _sentence(t(f"refusal.{refusal.reason}.text", subject=t(f"subject.{refusal.subject}"))),
        "given": refusal.given,
        "deleted_at": refusal.deleted_at,
        "offer_find": refusal.reason in ("malformed", "unknown"),
        "detail": None,
        "query": refusal.given if refusal.reason == "no_search" else "",
    }
    page = render(
        request, "refusal.html", values, STATUS[refusal.reason], answer=_answer_of(refusal), audience="teachers"
    )
    return _with_retry(page, refusal)


def _answer_of(refusal: Refusal) -> Answer:
    """What it is to a page that is open: an old copy that does not know a teacher says nothing for certain."""
    if refusal.reason == "deleted":
        return "absent"
    if refusal.reason == "unknown":
        return "absent" if refusal.age is not None and not refusal.age.stale else "waiting"
    return "error" if refusal.reason == "malformed" else "waiting"


def _sentence(text: str) -> str:
    """With a capital first letter: the text may begin with a word that was filled in."""
    return text[:1].upper() + text[1:]


def refuse(request: web.Request, refusal: Refusal) -> web.Response:
    """The refusal in the form that the Accept header asks for."""
    return as_page(request, refusal) if wants_html(request) else as_problem(refusal)


def _with_retry(response: web.Response, refusal: Refusal) -> web.Response:
    if STATUS[refusal.reason] == STATUS["not_ready"]:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def problem_page(request: web.Request, status: int, title: str, detail: str, shows_detail: bool) -> web.Response:
    """Any other error as a page: an address where nothing is, a refusal, a failure."""
    t = texts_of(request)
    known = t.has(f"error.{status}.title")
    of_its_kind = f"error.{status // 100}00.text"
    values = {
        "status": status,
        "title": t(f"error.{status}.title") if known else title,
        "text": t(f"error.{status}.text") if known else detail or t(of_its_kind),
        "given": None,
        "deleted_at": None,
        "offer_find": False,
        "detail": detail if known and shows_detail else None,
    }
    # What a form was answered is not what its address shows to who asks again.
    live = request.method in (hdrs.METH_GET, hdrs.METH_HEAD)
    return render(request, "refusal.html", values, status, live=live, answer="error")
