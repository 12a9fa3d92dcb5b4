"""What the consumer-lag page and the overview show of a lag report, in the reader's language."""

from collections.abc import Sequence
from functools import partial

from aiohttp import web

from emis_streams import invalid_records
from emis_streams.lag_report import HistoryPoint
from emis_streams.node import NODE
from web.chart_points import bucketed
from web.help_topics import CHANGELOGS, OF_LAG_STATE
from web.lag_figures import Figure, lag_figures
from web.lag_states import (
    about_group,
    follower_look,
    follower_since,
    follower_topic,
    held,
    held_since,
    is_over,
    lag_states,
    look_of,
    main_parts,
    reason,
    since_of,
    state_in_words,
    topic_of,
)
from web.lag_table import LagTable, owner_page, with_query
from web.pages import StampedPage, texts_of, this_second
from web.verdict import PartState, headline, verdict

MOST_ROWS = 200
"""Partitions in the table of one group or follower; a row costs 0.1 ms."""


def lag_page(request: web.Request) -> web.Response:
    """The consumer-lag page."""
    page = StampedPage(request, "consumer_lag.html", this_second())
    known = page.known()
    return page.render(_values(request)) if known is None else known


def _values(request: web.Request) -> dict[str, object]:
    node = request.app[NODE]
    monitor = node.lag
    report = None if monitor is None else monitor.snapshot()
    history = () if monitor is None else monitor.history()
    t = texts_of(request)
    figures = [] if report is None else lag_figures(t, node, report)
    found = verdict([*lag_states(t, node, report), *figure_states(figures)], main=main_parts(node))
    return {
        "report": report,
        "verdict": found,
        "headline": headline(t, found),
        "look": None if report is None else partial(look_of, node, report),
        "state": partial(state_in_words, t, node),
        "topic": None if report is None else partial(topic_of, node, report),
        "since_of": None if report is None else partial(since_of, node, report),
        "over": partial(is_over, node),
        "follower_look": follower_look,
        "follower_since": partial(follower_since, node),
        "follower_topic": follower_topic,
        "invalid": node.invalid_records(),
        "invalid_topic": CHANGELOGS if invalid_records.is_recent(node.invalid_records(), node.now()) else None,
        "invalid_since": node.journal.not_well_since("changelogs"),
        "figures": figures,
        "reason": lambda verdict: reason(t, verdict),
        "held_topic": OF_LAG_STATE["OPEN_TRANSACTION"],
        "held": lambda by: held(t, by),
        "held_since": partial(held_since, node),
        "group_about": partial(about_group, t, node),
        "table": LagTable.of(request),
        "most_rows": MOST_ROWS,
        "option": lambda **changed: with_query(request, **changed),
        "owner_page": lambda owner: owner_page(request, owner),
        **charts(history),
    }


def figure_states(figures: Sequence[Figure]) -> list[PartState]:
    """Figures with a colour, as far as they are states: rates have none."""
    return [
        PartState(
            part=f.part,
            look=f.look,
            name=f.name,
            text=f"{f.value} ({f.note})" if f.note else f.value,
            since=f.since,
            topic=f.topic,
        )
        for f in figures
        if f.part
    ]


def charts(history: Sequence[HistoryPoint]) -> dict[str, object]:
    """The trend as tables, the newest first."""
    return {
        "history": bool(history),
        "rates": bucketed(history, lambda p: (p.produce_rate, p.consume_rate)),
        "lags": bucketed(history, lambda p: (float(p.total_lag),)),
    }
