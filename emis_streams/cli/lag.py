"""`emis-streams lag`: how far each consumer group is behind, and why, asked of the brokers."""

import asyncio
import logging
import sys
from collections.abc import Collection, Iterable

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emis_streams import settings
from emis_streams.errors import Unavailable
from emis_streams.lag import LagMonitor
from emis_streams.lag_measurement import watched_by
from emis_streams.lag_report import SEVERITIES, GroupLag, LagReport, PartitionLag, Severity
from emis_streams.quantities import counted

STYLES: dict[Severity, str] = {"ok": "green", "warn": "yellow", "error": "red"}
LOOK_AGAIN_SECONDS = 1.0
"""Rates need two looks."""
PLAIN_WIDTH = 200
WORST_SHOWN = 10


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The report as JSON, as /api/consumer-lag has it.")
@click.option("--watch", is_flag=True, help="Look again every second until Ctrl-C; with --json one line each.")
@click.option("--service", metavar="NAME", help="Of this service (lessons, progress, users, your own).")
@click.option("--all", "show_all", is_flag=True, help="All partitions, not only the ten that need a look most.")
def lag(as_json: bool, watch: bool, show_all: bool, service: str | None) -> None:
    """How far each consumer group is behind, and why.

    Exit code 0: all is well. 1: a group of EMIS is more than LAG_THRESHOLD_MESSAGES behind, or is stalled,
    stopped or lost records, or an open transaction holds a changelog, or topics are missing, or the
    brokers cannot be asked. Groups of others that read the same topics are shown, and change no exit code.
    """
    # What goes wrong is told once, on the way out.
    logging.getLogger("emis_streams").setLevel(logging.CRITICAL)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    monitor = LagMonitor(settings.current(), watched_topics=None if service is None else watched_by(service))
    try:
        report = asyncio.run(_look(console, monitor, as_json, watch, show_all))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if needs_a_look(report, monitor.own_groups) else 0)


def needs_a_look(report: LagReport, own_groups: Collection[str]) -> bool:
    """Whether a script should raise an alarm: groups of others are not this system's to mend."""
    if report.brokers is not None and report.brokers.missing_topics:
        return True
    return report.severity == "error" or any(
        "lag_over_threshold" in g.alerts for g in report.groups if g.group_id in own_groups
    )


async def _look(console: Console, monitor: LagMonitor, as_json: bool, watch: bool, show_all: bool) -> LagReport:
    try:
        report = await monitor.measure()
        if report.error is not None and not watch:
            raise Unavailable(report.error)
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        report = await monitor.measure()
        if as_json:
            return await _json(monitor, report, watch)
        if watch:
            return await _watch(console, monitor, show_all)
        console.print(view(report, show_all))
        return report
    finally:
        await monitor.close()


async def _json(monitor: LagMonitor, report: LagReport, watch: bool) -> LagReport:
    click.echo(msgspec.json.encode(report))
    while watch:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        click.echo(msgspec.json.encode(await monitor.measure()))
    return report


async def _watch(console: Console, monitor: LagMonitor, show_all: bool) -> LagReport:
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(view(await monitor.measure(), show_all), refresh=True)
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


def view(report: LagReport, show_all: bool) -> Group:
    """What the operator reads."""
    parts: list[Text | Table] = []
    if report.error is not None:
        parts.append(Text(report.error, style="red"))
    if report.brokers is not None and report.brokers.missing_topics:
        missing = ", ".join(report.brokers.missing_topics)
        parts.append(Text(f"Topics are missing: {missing}. Run `emis-streams topics`.", style="red"))
    for held in report.open_transactions:
        parts.append(Text(f"{held.topic}-{held.partition}: {held.reason}", style="red"))
    parts.append(_groups(report))
    if report.groups_left_out:
        parts.append(Text(f"… and {counted(report.groups_left_out, 'group')} of others on these topics."))
    for group in report.groups:
        rows = [p for p in group.partitions if p.lag or p.severity != "ok"]
        rows.sort(key=lambda p: (-SEVERITIES.index(p.severity), -(p.lag or 0)))
        if show_all:
            parts.append(_partitions(group, group.partitions))
        elif rows:
            parts.append(_partitions(group, rows[:WORST_SHOWN]))
            if len(rows) > WORST_SHOWN:
                parts.append(Text(f"… and {len(rows) - WORST_SHOWN} more: --all"))
    if report.dead_letters is not None and report.dead_letters.count:
        parts.append(
            Text(f"{counted(report.dead_letters.count, 'dead letter')}: see `emis-streams dead-letters list`.")
        )
    return Group(*parts)


def _groups(report: LagReport) -> Table:
    table = Table(title="Consumer groups", title_justify="left")
    for name in ("GROUP", "STATE", "MEMBERS", "LAG", "SECONDS", "IN/S", "OUT/S", "CATCH UP", "REASON"):
        table.add_column(name, justify="left" if name in ("GROUP", "STATE", "REASON") else "right")
    limit = report.thresholds.lag_messages
    for g in report.groups:
        over = " !" if "lag_over_threshold" in g.alerts else ""
        table.add_row(
            g.group_id,
            Text(g.state, style=STYLES[g.severity]),
            _number(g.members),
            Text(f"{g.total_lag}{over}", style="yellow" if over else ""),
            _seconds(g.max_lag_seconds),
            _number(g.produce_rate),
            _number(g.consume_rate),
            _seconds(g.time_to_catch_up_seconds),
            g.reason_in_full,
        )
    if any("lag_over_threshold" in g.alerts for g in report.groups):
        table.caption = f"! more than {counted(limit, 'record')} behind"
    return table


def _partitions(group: GroupLag, rows: Iterable[PartitionLag]) -> Table:
    table = Table(title=group.group_id, title_justify="left")
    for name in ("TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "SECONDS", "STATE", "OWNER", "REASON"):
        table.add_column(name, justify="left" if name in ("TOPIC", "STATE", "OWNER", "REASON") else "right")
    for p in rows:
        table.add_row(
            p.topic,
            str(p.partition),
            _number(p.committed_offset),
            _number(p.end_offset),
            _number(p.lag),
            _seconds(p.lag_seconds),
            Text(p.state, style=STYLES[p.severity]),
            "-" if p.owner is None else f"{p.owner.client_id} {p.owner.host}",
            p.reason,
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
