"""What the consumer-lag page and the overview show of a lag report, in the reader's language."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from aiohttp import web

from emis_streams.lag_report import (
    DeadLetters,
    GroupLag,
    HistoryPoint,
    LagReport,
    LatencySummary,
    OpenTransactionLag,
    PartitionLag,
    ReasonParams,
    Severity,
)
from emis_streams.node import NODE, Node
from emis_streams.topics import LESSON_SUBJECTS, REPLICA_GROUP, SUBJECTS, app_id
from web.health_checks import DEAD_LETTER_RECENT_SECONDS
from web.i18n import Texts
from web.pages import render, texts_of
from web.parameters import one_of

Look = Literal["ok", "warn", "bad", "off"]
LOOKS: dict[Severity, Look] = {"ok": "ok", "warn": "warn", "error": "bad"}
READ_MODEL = "read-model"
MOST_ROWS = 200
"""Partitions in the table of one group or follower; a row costs 0.1 ms."""
CHART_POINTS = 90
"""More would only make the table beside the chart long."""

Rows = list[tuple[datetime, tuple[float | None, ...]]]


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
    monitor = request.app[NODE].lag
    report = None if monitor is None else monitor.snapshot()
    history = () if monitor is None else monitor.history()
    t = texts_of(request)
    only_lag = ONLY.of(request) == "lag"
    sort = SORT.of(request)
    values = {
        "report": report,
        "looks": LOOKS,
        "invalid": request.app[NODE].invalid_records(),
        "figures": [] if report is None else lag_figures(t, request.app[NODE], report),
        "reason": lambda verdict: reason(t, verdict),
        "held": lambda by: held(t, by),
        "group_about": lambda group: about_group(t, group),
        "shown": lambda partitions: shown(partitions, only_lag, sort),
        "most_rows": MOST_ROWS,
        "only_lag": only_lag,
        "sort": sort,
        "option": lambda **changed: _with_query(request, changed),
        **charts(history),
    }
    return render(request, "consumer_lag.html", values)


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


def held(t: Texts, by: OpenTransactionLag) -> str:
    """Which partition an open transaction holds, where and for how long."""
    params: ReasonParams = {"stable": by.stable_offset, "end": by.end_offset, "seconds": by.seconds}
    return f"{by.topic}-{by.partition}: {t.say('reason.open_transaction', params, by.reason)}"


def about_group(t: Texts, group: GroupLag) -> str:
    """What a group is there for."""
    known = {**dict.fromkeys(_INGESTING, "group.ingest"), REPLICA_GROUP: "group.replica"}
    return t(known.get(group.group_id, "group.other"))


SORTS: dict[str, Callable[[PartitionLag], object]] = {
    "partition": lambda p: (p.topic, p.partition),
    "lag": lambda p: (-(p.lag or 0), p.topic, p.partition),
    "seconds": lambda p: (-(p.lag_seconds or 0.0), p.topic, p.partition),
}
ONLY = one_of("only", ("lag", "all"), "all")
SORT = one_of("sort", SORTS, "partition")


def shown(partitions: Sequence[PartitionLag], only_lag: bool, sort: str) -> list[PartitionLag]:
    """Rows of a group's table: all or only those that lag or need a look, in the order asked for."""
    rows = [p for p in partitions if not only_lag or p.lag or p.severity != "ok"]
    return sorted(rows, key=SORTS[sort])  # type: ignore[arg-type]


def charts(history: Sequence[HistoryPoint]) -> dict[str, object]:
    """The trend as tables, newest first, thinned out to what a chart can show."""
    step = max(1, -(-len(history) // CHART_POINTS))
    points = list(history)[::-1][::step]
    rates: Rows = [(p.time, (p.produce_rate, p.consume_rate)) for p in points]
    lags: Rows = [(p.time, (float(p.total_lag),)) for p in points]
    return {"history": points, "rates": rates, "lags": lags}


def _with_query(request: web.Request, changed: dict[str, str | None]) -> str:
    query = {**request.query, **changed}
    return str(request.rel_url.with_query({name: value for name, value in query.items() if value is not None}))
