"""The numbers at the head of the lag page and the overview, each with its colour and a note in words."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from emis_streams.lag_report import DeadLetters, LagReport, LatencySummary
from emis_streams.node import Node
from web.health_checks import DEAD_LETTER_RECENT_SECONDS
from web.help_topics import BROKERS, OF_FIGURE
from web.i18n import Texts
from web.lag_states import READ_MODEL, is_over, main_group, measured, since_of
from web.verdict import Look


@dataclass(frozen=True)
class Figure:
    """One number of a page's head, with its state and a note in words."""

    look: Look
    name: str
    value: str
    note: str = ""
    unit: str = ""
    part: str = ""
    """The check that says the same, if there is one: else it is a state of its own, if it has a colour."""
    since: datetime | None = None
    """Since when something is wrong, as far as that is known."""

    topic_if_unknown: str | None = None
    """The entry of the runbook while it is grey; None if grey is no state of it, such as of a rate."""

    @property
    def topic(self) -> str | None:
        """What to do about it; None if all is well, or if it is no state."""
        if self.look == "off":
            return self.topic_if_unknown
        return None if self.look == "ok" else OF_FIGURE.get(self.part)


def lag_figures(t: Texts, node: Node, report: LagReport) -> list[Figure]:
    """The numbers at the head of the page: rate, lag, age, sync latency, dead letters."""
    now = time.monotonic()
    age_seconds = None if node.lag is None else node.lag.age_seconds(now)
    group = main_group(node, report)
    waiting = None if group is None or report.error is not None else group.total_lag
    figures = [*group_figures(t, node, report), age_figure(t, node, report, age_seconds)]
    if READ_MODEL in node.sync_latency:
        latency = node.sync_latency[READ_MODEL].summary(now, report.thresholds.sync_latency_seconds)
        figures.append(latency_figure(t, report, latency, waiting, node.journal.not_well_since("syncLatency")))
    if report.dead_letters is not None:
        figures.append(dead_letter_figure(t, node, report, report.dead_letters))
    return figures


def group_figures(t: Texts, node: Node, report: LagReport) -> list[Figure]:
    """Rate and lag of the ingesting group; nothing if it was not measured."""
    group = main_group(node, report)
    if group is None:
        return []
    over = is_over(node, group, group, "lag_over_threshold")
    produced = _if_measured(t, report, t("figure.rate.note", rate=t.rate(group.produce_rate)))
    limit = t.number(report.thresholds.lag_messages)
    note = t("figure.over", limit=limit) if over else _if_measured(t, report, t("figure.allowed", limit=limit))
    return [
        Figure("off", t("figure.rate"), t.short(group.consume_rate), produced, t("time.per_second", n="")),
        Figure(
            measured(report, _look(over)), t("figure.lag"), t.number(group.total_lag), note,
            part="consumerLag", since=since_of(node, report, group), topic_if_unknown=BROKERS,
        ),
    ]  # fmt: skip


def age_figure(t: Texts, node: Node, report: LagReport, age: float | None) -> Figure:
    """How old this worker's answers can be; what is too old now was just as old as is allowed a while ago."""
    limit = report.thresholds.stale_after_seconds
    if age is None:
        return _unknown(t, t("figure.age"), "age", node.journal.not_well_since("brokers"), OF_FIGURE["age"])
    over = age > limit
    note = t("figure.over" if over else "figure.allowed", limit=t.seconds(limit))
    since = node.now() - timedelta(seconds=round(age - limit)) if over else None
    return Figure(_look(over), t("figure.age"), t.seconds(age), note, part="age", since=since)


def latency_figure(
    t: Texts, report: LagReport, latency: LatencySummary, waiting: int | None, since: datetime | None
) -> Figure:
    """From an event's time until it is visible, over the last minute; `waiting` events, None if that is not known."""
    over = bool(latency.alerts)
    limit = t.seconds(report.thresholds.sync_latency_seconds)
    if latency.average_seconds is None:
        note, part, topic = _without_latency(t, waiting)
        return Figure("off", t("figure.latency"), "–", note, part=part, since=since, topic_if_unknown=topic)
    note = t("figure.over", limit=limit) if over else t("figure.latency.p99", p99=t.seconds(latency.p99_seconds))
    average = t.seconds(latency.average_seconds)
    return Figure(_look(over), t("figure.latency"), average, note, part="syncLatency", since=since if over else None)


def _without_latency(t: Texts, waiting: int | None) -> tuple[str, str, str]:
    """Note, part and entry of the runbook while no event has become visible: nothing waits, some do, or not known."""
    if waiting is None:
        return t("figure.age.unknown"), "syncLatency", BROKERS
    if waiting:
        return t.count("figure.latency.waiting", waiting), "syncLatency", OF_FIGURE["consumerLag"]
    return t("figure.latency.none"), "", OF_FIGURE["syncLatency"]


def dead_letter_figure(t: Texts, node: Node, report: LagReport, dead: DeadLetters) -> Figure:
    """How many records could not be used; it warns as the health check does."""
    recent = dead.last_at is not None and (node.now() - dead.last_at).total_seconds() < DEAD_LETTER_RECENT_SECONDS
    if not dead.count:
        if dead.count is None:
            since = node.journal.not_well_since("deadLetters")
            return _unknown(t, t("figure.dead"), "deadLetters", since, BROKERS)
        return _dead_letters(t, node, report, dead.count, t("figure.dead.none"))
    if not recent:
        return _dead_letters(t, node, report, dead.count, t("figure.dead.old"))
    since = node.journal.not_well_since("deadLetters") or dead.last_at
    note = t("figure.dead.recent")
    return Figure("warn", t("figure.dead"), t.number(dead.count), note, part="deadLetters", since=since)


def _dead_letters(t: Texts, node: Node, report: LagReport, count: int, note: str) -> Figure:
    """None of them is new, as far as was measured."""
    look = measured(report, "ok")
    since = None if look == "ok" else node.journal.not_well_since("brokers")
    text = _if_measured(t, report, note)
    return Figure(
        look, t("figure.dead"), t.number(count), text, part="deadLetters", since=since, topic_if_unknown=BROKERS
    )


def _if_measured(t: Texts, report: LagReport, note: str) -> str:
    """The note of a figure; while the brokers cannot be asked, that it is of the last measurement."""
    return note if report.error is None else t("figure.last")


def _unknown(t: Texts, name: str, part: str, since: datetime | None, topic: str) -> Figure:
    """A figure that cannot be measured."""
    return Figure("off", name, "–", t("figure.age.unknown"), part=part, since=since, topic_if_unknown=topic)


def _look(over: bool) -> Look:
    return "warn" if over else "ok"
