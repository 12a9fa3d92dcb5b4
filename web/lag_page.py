"""What the consumer-lag page and the overview show of a lag report, in the reader's language."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from emis_streams.lag_report import (
    DeadLetters,
    GroupLag,
    HistoryPoint,
    LagReport,
    LatencySummary,
    PartitionLag,
    Severity,
)
from emis_streams.node import NODE, Node
from emis_streams.topics import LESSON_SUBJECTS, REPLICA_GROUP, SUBJECTS, app_id
from web.chart_points import bucketed
from web.health_checks import DEAD_LETTER_RECENT_SECONDS
from web.i18n import Texts
from web.lag_table import LagTable, owner_page, with_query
from web.pages import StampedPage, texts_of, this_second

Look = Literal["ok", "warn", "bad", "off"]
LOOKS: dict[Severity, Look] = {"ok": "ok", "warn": "warn", "error": "bad"}
READ_MODEL = "read-model"
MOST_ROWS = 200
"""Partitions in the table of one group or follower; a row costs 0.1 ms."""


@dataclass(frozen=True)
class Figure:
    """One number of a page's head, with its state and a note in words."""

    look: Look
    name: str
    value: str
    note: str = ""
    unit: str = ""


def lag_page(request: web.Request) -> web.Response:
    """The consumer-lag page."""
    page = StampedPage(request, "consumer_lag.html", this_second())
    known = page.known()
    return page.render(_values(request)) if known is None else known


def _values(request: web.Request) -> dict[str, object]:
    monitor = request.app[NODE].lag
    report = None if monitor is None else monitor.snapshot()
    history = () if monitor is None else monitor.history()
    t = texts_of(request)
    return {
        "report": report,
        "looks": LOOKS,
        "invalid": request.app[NODE].invalid_records(),
        "figures": [] if report is None else lag_figures(t, request.app[NODE], report),
        "reason": lambda verdict: reason(t, verdict),
        "group_about": lambda group: about_group(t, group),
        "table": LagTable.of(request),
        "most_rows": MOST_ROWS,
        "option": lambda **changed: with_query(request, **changed),
        "owner_page": lambda owner: owner_page(request, owner),
        **charts(history),
    }


def lag_figures(t: Texts, node: Node, report: LagReport) -> list[Figure]:
    """The numbers at the head of the page: rate, lag, age, sync latency, dead letters."""
    now = time.monotonic()
    age_seconds = None if node.lag is None else node.lag.age_seconds(now)
    figures = [*group_figures(t, report), age_figure(t, report, age_seconds)]
    if READ_MODEL in node.sync_latency:
        figures.append(
            latency_figure(
                t, report, node.sync_latency[READ_MODEL].summary(now, report.thresholds.sync_latency_seconds)
            )
        )
    if report.dead_letters is not None:
        figures.append(dead_letter_figure(t, report.dead_letters, node.clock.unix_seconds()))
    return figures


_INGESTING = frozenset(app_id(subject.service) for subject in (*SUBJECTS, *LESSON_SUBJECTS))
"""Groups of workers that keep what events say: teacher workers, and services that hear of lessons."""


def ingest_group(report: LagReport) -> GroupLag | None:
    """The group of the ingesting workers."""
    return next((group for group in report.groups if group.group_id in _INGESTING), None)


def group_figures(t: Texts, report: LagReport) -> list[Figure]:
    """Rate and lag of the ingesting group; nothing if it was not measured."""
    group = ingest_group(report)
    if group is None:
        return []
    over = "lag_over_threshold" in group.alerts
    produced = t("figure.rate.note", rate=t.rate(group.produce_rate))
    note = t("figure.over" if over else "figure.allowed", limit=t.number(report.thresholds.lag_messages))
    return [
        Figure("off", t("figure.rate"), t.short(group.consume_rate), produced, t("time.per_second", n="")),
        Figure(_look(over), t("figure.lag"), t.number(group.total_lag), note),
    ]


def age_figure(t: Texts, report: LagReport, age: float | None) -> Figure:
    """How old this worker's answers can be."""
    limit = report.thresholds.stale_after_seconds
    over = age is None or age > limit
    note = "figure.age.unknown" if age is None else "figure.over" if over else "figure.allowed"
    return Figure(_look(over), t("figure.age"), t.seconds(age), t(note, limit=t.seconds(limit)))


def latency_figure(t: Texts, report: LagReport, latency: LatencySummary) -> Figure:
    """From an event's time until it is visible, over the last minute."""
    over = bool(latency.alerts)
    limit = t.seconds(report.thresholds.sync_latency_seconds)
    if latency.average_seconds is None:
        return Figure("off", t("figure.latency"), "–", t("figure.latency.none"))
    note = t("figure.over", limit=limit) if over else t("figure.latency.p99", p99=t.seconds(latency.p99_seconds))
    return Figure(_look(over), t("figure.latency"), t.seconds(latency.average_seconds), note)


def dead_letter_figure(t: Texts, dead: DeadLetters, now: float) -> Figure:
    """How many records could not be used; it warns as the health check does."""
    recent = dead.last_at is not None and now - dead.last_at.timestamp() < DEAD_LETTER_RECENT_SECONDS
    if not dead.count:
        return Figure("ok" if dead.count == 0 else "off", t("figure.dead"), t.number(dead.count), t("figure.dead.none"))
    note = t("figure.dead.recent" if recent else "figure.dead.old")
    return Figure(_look(recent), t("figure.dead"), t.number(dead.count), note)


def _look(over: bool) -> Look:
    return "warn" if over else "ok"


def reason(t: Texts, verdict: PartitionLag | GroupLag) -> str:
    """Why a partition or group is in its state; in English where there is no translation."""
    return t.say(f"reason.{verdict.reason_key}", verdict.reason_params, verdict.reason)


def about_group(t: Texts, group: GroupLag) -> str:
    """What a group is there for."""
    known = {**dict.fromkeys(_INGESTING, "group.ingest"), REPLICA_GROUP: "group.replica"}
    return t(known.get(group.group_id, "group.other"))


def charts(history: Sequence[HistoryPoint]) -> dict[str, object]:
    """The trend as tables, the newest first."""
    return {
        "history": bool(history),
        "rates": bucketed(history, lambda p: (p.produce_rate, p.consume_rate)),
        "lags": bucketed(history, lambda p: (float(p.total_lag),)),
    }
