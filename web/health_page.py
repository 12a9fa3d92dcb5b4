"""What the health page and the overview show of a health report, in the reader's language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from aiohttp import web

from emis_streams.health_report import Check, CheckStatus, Health, HealthChange, HealthReport
from emis_streams.node import NODE
from web.i18n import Texts
from web.lag_page import Figure, Look
from web.pages import StampedPage, render, texts_of, this_second

_TEMPLATE = "health.html"
LOOKS: dict[CheckStatus, Look] = {"pass": "ok", "warn": "warn", "fail": "bad"}
MOST_LINES = 20
"""Of the journal on the page; the JSON has all."""
HEALTH_LOOKS: dict[Health, Look] = {"healthy": "ok", "degraded": "warn", "unhealthy": "bad"}


@dataclass(frozen=True)
class Part:
    """One check in words."""

    look: Look
    name: str
    state: str
    text: str
    affects: tuple[str, ...]
    since: datetime | None = None
    """Since when it says so, unless it is well."""


def known_page(request: web.Request) -> web.Response | None:
    """The page, if it was made in this second already, and all was not unhealthy."""
    return StampedPage(request, _TEMPLATE, this_second()).known()


def health_page(request: web.Request, report: HealthReport, status: int) -> web.Response:
    """The health page, with the status that JSON would have."""
    t = texts_of(request)
    values = {
        "report": report,
        "look": HEALTH_LOOKS[report.status],
        "figures": _figures(t, report),
        "parts_shown": parts_of(t, report.checks),
        "journal": journal_lines(t, request.app[NODE].journal.changes),
    }
    if status != HTTPStatus.OK:
        return render(request, _TEMPLATE, values, status)
    return StampedPage(request, _TEMPLATE, this_second()).render(values)


def parts_of(t: Texts, checks: Mapping[str, Check]) -> list[Part]:
    """The checks in words, in the report's order."""
    return [
        Part(
            look=LOOKS[check.status],
            name=_part_name(t, name),
            state=t(f"check.{check.status}"),
            text=t.say(check.output_key, check.output_params, check.output),
            affects=check.affected_endpoints,
            since=None if check.status == "pass" else check.since,
        )
        for name, check in checks.items()
    ]


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
            text=t.say(change.output_key, change.output_params, change.output),
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
