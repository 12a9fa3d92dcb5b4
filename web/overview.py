"""The whole at a glance, some teachers to look at, and finding by id."""

from dataclasses import replace
from typing import Any

from aiohttp import web

from emis_streams import __version__
from emis_streams.answers import TeacherDetail
from emis_streams.ids import canonical_id
from emis_streams.node import NODE, Node
from web.access import sees_operations
from web.health import health_report
from web.health_page import INGESTION, parts_of
from web.i18n import Texts
from web.lag_figures import Figure, lag_figures
from web.lag_page import charts, figure_states
from web.pages import OPERATORS_SECONDS, READERS_SECONDS, StampedPage, as_json, texts_of, this_second, wants_html
from web.parameters import LANG, any_text, takes
from web.refusals import Refusal, refuse
from web.search import path_of_id
from web.verdict import headline, verdict

routes = web.RouteTableDef()

ID = any_text("id")
"""What somebody types to find a teacher or a class."""
SAMPLE_TEACHERS = 12
COUNTED = ("classes", "teachers", "assignments", "keys")


@routes.get("/")
@takes(LANG)
async def overview(request: web.Request) -> web.StreamResponse:
    """The overview as a page for browsers, in short as JSON for all others."""
    node = request.app[NODE]
    if not wants_html(request):
        return as_json(_in_short(node, _samples(node), sees_operations(request)))
    every_seconds = OPERATORS_SECONDS if sees_operations(request) else READERS_SECONDS
    page = StampedPage(request, "overview.html", this_second(), every_seconds)
    known = page.known()
    return page.render(await _values(request)) if known is None else known


async def _values(request: web.Request) -> dict[str, Any]:
    node, t = request.app[NODE], texts_of(request)
    operations: dict[str, Any] = await _operations(t, node) if sees_operations(request) else dict(charts(()))
    return {
        **operations,
        "figures": [*operations.get("figures", ()), *_count_figures(t, node)],
        "serves": node.read_model is not None,
        "teachers": _samples(node),
    }


async def _operations(t: Texts, node: Node) -> dict[str, Any]:
    """What only operators see of the overview: health, lag and its history."""
    report = None if node.lag is None else node.lag.snapshot()
    health = await health_report(node)
    shown = parts_of(t, health.checks)
    figures = [] if report is None else lag_figures(t, node, report)
    found = verdict([*shown, *figure_states(figures)], main=INGESTION)
    return {
        "verdict": found,
        "headline": headline(t, found),
        "parts_shown": [replace(part, affects=()) for part in shown],
        "figures": figures,
        **charts(() if node.lag is None else node.lag.history()),
    }


@routes.get("/find")
@takes(ID, LANG)
async def find_by_id(request: web.Request) -> web.StreamResponse:
    """Leads to the teacher or the class with the id; upper case, blanks and braces do not matter."""
    given = ID.of(request)
    id_ = canonical_id(given)
    if id_ is None:
        return refuse(request, Refusal("malformed", "any", given))
    path, not_ready = await path_of_id(request, id_)
    if path is not None:
        raise web.HTTPSeeOther(path)
    return refuse(request, Refusal("unknown" if not_ready is None else "not_ready", "any", id_))


def _samples(node: Node) -> list[TeacherDetail]:
    return [] if node.read_model is None else node.read_model.sample_teachers(SAMPLE_TEACHERS)


def _count_figures(t: Texts, node: Node) -> list[Figure]:
    if node.read_model is None:
        return []
    counts = node.read_model.counts()
    return [
        Figure("off", t(f"figure.{name}"), t.number(counts[name]), t("figure.about"))
        for name in COUNTED
        if name in counts
    ]


def _in_short(node: Node, teachers: list[TeacherDetail], with_operations: bool) -> dict[str, object]:
    return {
        "name": "emis-streams",
        "version": __version__,
        "roles": sorted(node.roles),
        "counts": {} if node.read_model is None else node.read_model.counts(),
        "sampleTeachers": [f"/api/teachers/{teacher.teacher_id}" for teacher in teachers],
        "links": ["/health", "/api/consumer-lag", "/metrics", "/info"] if with_operations else [],
    }
