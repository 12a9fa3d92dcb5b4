"""All web views together: what the worker puts on its web server."""

from aiohttp import web

from emis_streams.node import NODE
from web import (
    access,
    answer_headers,
    circuit_breakers,
    classes,
    consumer_lag,
    dead_letter_pages,
    health,
    help,
    ids,
    instances,
    limits,
    metrics,
    overview,
    pages,
    problems,
    refusals,
    remembered,
    search,
    teachers,
    tracing,
)

PAGES = (
    *(pages, overview, search, teachers, classes, health, help, consumer_lag),
    *(dead_letter_pages, instances, circuit_breakers, metrics),
)
"""Each has its `routes`."""


def setup(app: web.Application) -> None:
    """What the views need of their application, which must have `app[NODE]`."""
    limits.setup(app)
    metrics.setup(app)
    tracing.setup(app)
    problems.setup(app)
    answer_headers.setup(app, answer_headers.headers_of(app[NODE].settings))
    access.setup(app)
    ids.setup(app)
    pages.setup(app)
    remembered.setup(app)
    dead_letter_pages.setup(app)
    app[problems.PROBLEM_PAGE] = refusals.problem_page
