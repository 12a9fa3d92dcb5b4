"""What the health page and the overview show of a health report, in the reader's language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from aiohttp import web

from emis_streams.health_report import (
    NOT_KNOWN,
    NOTHING_TO_TELL,
    Check,
    CheckStatus,
    Health,
    HealthChange,
    HealthReport,
)
from emis_streams.node import NODE
from web.help_topics import topic_of_check
from web.i18n import Texts
from web.lag_figures import Figure
from web.lag_states import REASON, at_partition
from web.pages import StampedPage, render, texts_of, this_second
from web.verdict import Look, PartState, headline, verdict

_TEMPLATE = "health.html"
LOOKS: dict[CheckStatus, Look] = {"pass": "ok", "warn": "warn", "fail": "bad"}
MOST_LINES = 20
"""Of the journal on the page; the JSON has all."""
INGESTION = ("tables", "consumerLag")
"""Checks of what this system is mostly about."""
HEALTH_LOOKS: dict[Health, Look] = {"healthy": "ok", "degraded": "warn", "unhealthy": "bad"}


@dataclass(frozen=True, kw_only=True)
class Part(PartState):
    """One check in words."""

    state: str
    affects: tuple[str, ...]


def known_page(request: web.Request) -> web.Response | None:
    """The page, if it was made in this second already, and all was not unhealthy."""
    return StampedPage(request, _TEMPLATE, this_second()).known()


def health_page(request: web.Request, report: HealthReport, status: int) -> web.Response:
    """The health page, with the status that JSON would have."""
    t = texts_of(request)
    shown = parts_of(t, report.checks)
    found = verdict(shown, main=INGESTION)
    values = {
        "report": report,
        "verdict": found,
        "headline": headline(t, found),
        "figures": _figures(t, report),
        "parts_shown": shown,
        "journal": journal_lines(t, request.app[NODE].journal.changes),
    }
    if status != HTTPStatus.OK:
        return render(request, _TEMPLATE, values, status)
    return StampedPage(request, _TEMPLATE, this_second()).render(values)


def parts_of(t: Texts, checks: Mapping[str, Check]) -> list[Part]:
    """The checks in words, in the report's order."""
    return [_part(t, name, check) for name, check in checks.items()]


def _part(t: Texts, name: str, check: Check) -> Part:
    look = "off" if check.output_key in NOT_KNOWN else LOOKS[check.status]
    return Part(
        part=name,
        look=look,
        name=_part_name(t, name),
        state=t("check.unknown") if look == "off" else t(f"check.{check.status}"),
        text=text_of(t, check),
        affects=check.affected_endpoints,
        since=None if look == "ok" else check.since,
        topic=topic_of_check(check.status, check.output_key),
        counts=check.output_key not in NOTHING_TO_TELL,
    )


def text_of(t: Texts, check: Check | HealthChange) -> str:
    """What a check says; where a partition is the reason, with its name and its owner."""
    text = t.say(check.output_key, check.output_params, check.output)
    partition, owner = check.output_params.get("partition"), check.output_params.get("owner")
    if not partition or not t.has(check.output_key) or not check.output_key.startswith(REASON):
        return text  # Other texts name the partition themselves.
    return at_partition(t, str(partition), None if not owner else str(owner), text)


@dataclass(frozen=True)
class Line:
    """One line of the journal."""

    at: datetime
    look: Look
    name: str
    state: str
    text: str


def journal_lines(t: Texts, changes: Sequence[HealthChange]) -> list[Line]:
    """The newest changes in words."""
    return [
        Line(
            at=change.at,
            look=LOOKS[change.after],
            name=_part_name(t, change.part),
            state=t(f"check.{change.after}"),
            text=text_of(t, change),
        )
        for change in changes[:MOST_LINES]
    ]


def _part_name(t: Texts, part: str) -> str:
    return t(f"part.{part}") if t.has(f"part.{part}") else part


def _figures(t: Texts, report: HealthReport) -> list[Figure]:
    memory = report.memory
    since = t("health.since", time=t.moment(report.timestamp - timedelta(seconds=report.uptime)))
    of = t("health.memory.of", percent=t.number(memory.percentage, 1), total=t.bytes(memory.total))
    return [
        Figure("off", t("health.uptime"), t.seconds(float(int(report.uptime))), since),
        Figure("off", t("health.memory"), t.bytes(memory.used), of),
        Figure("off", t("health.cpu"), f"{t.number(report.cpu.usage, 1)} %", t("health.cpu.note")),
        Figure("off", t("health.version"), report.version),
    ]
