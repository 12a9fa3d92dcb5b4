"""How well a service is: one check for each part, each asked when somebody wants to know."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import emis_streams
from emis_streams.broker_clock import BrokerClock
from emis_streams.errors import Unavailable
from emis_streams.health_report import Check, CheckStatus, ComponentType, Cpu, Health, HealthReport, Memory
from emis_streams.invalid_records import WAY_OUT, in_words, is_recent
from emis_streams.lag_report import InvalidRecords, LagReport, ReasonParams
from emis_streams.quantities import Quantity, filled
from emis_streams.resources import MEMORY_WARN_PERCENT, Resources, Usage
from emis_streams.services.breakers import Breakers
from emis_streams.services.circuit_breaker import State
from emis_streams.services.database import Database
from emis_streams.services.outbox import OutboxPublisher
from emis_streams.services.outbox_store import MOST_COUNTED, OutboxStore
from emis_streams.services.requests import Requests

_DATABASE_SECONDS = 2.0
CLOCK_SKEW_WARN_SECONDS = 5.0
"""Answers and events bear any skew; times in logs, and what reads them, do not."""
CLOCK_WRONG = (
    "This machine's clock is {seconds:.1f} s {side} the brokers'. Requests, leases and events go by the brokers' "
    "clock, but times in its log are wrong: set it right (chronyd, systemd-timesyncd)."
)
CLOCK_UNSTAMPED = (
    "The brokers' clock cannot be measured: {topic} has the times of producers. Set its message.timestamp.type to "
    "LogAppendTime (`emis-streams topics` says how)."
)
CLOCK_UNKNOWN = "The brokers' clock was not measured yet."
_MANY_EVENTS = 1_000
"""In the outbox: the brokers do not take them, or not as fast as they come."""
_OLD_EVENT_SECONDS = 60.0
"""The same, seen by one event."""
_MOST_NAMED = 20
"""Circuit breakers that are named one by one."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    status: CheckStatus
    """`fail`: the service cannot do what it is there for."""
    text: str
    """For people."""
    value: float | int | str | None = None
    unit: str | None = None
    component: ComponentType = "component"
    key: str | None = None
    """Of the text, with `params`, where it is one of `lag_rules.REASONS`; else it is called as its check is."""
    params: ReasonParams = field(default_factory=dict)


HealthCheck = Callable[[], Awaitable[Finding]]


async def report(checks: Mapping[str, HealthCheck], uptime_seconds: float, usage: Usage) -> HealthReport:
    """All checks, asked at once."""
    found = dict(zip(checks, await asyncio.gather(*(check() for check in checks.values())), strict=True))
    now = datetime.now(UTC)
    return HealthReport(
        status=overall(found),
        timestamp=now,
        uptime=round(uptime_seconds, 3),
        memory=Memory(used=usage.memory_used_bytes, total=usage.memory_total_bytes, percentage=usage.memory_percent),
        cpu=Cpu(usage=usage.cpu_percent),
        version=emis_streams.__version__,
        roles=(),
        checks={name: _as_check(name, finding, now) for name, finding in found.items()},
    )


def overall(found: Mapping[str, Finding]) -> Health:
    """Unhealthy: something fails; degraded: something is not as it should be."""
    statuses = {finding.status for finding in found.values()}
    if "fail" in statuses:
        return "unhealthy"
    return "degraded" if "warn" in statuses else "healthy"


def _as_check(name: str, finding: Finding, now: datetime) -> Check:
    return Check(
        component_type=finding.component,
        status=finding.status,
        observed_value=finding.value,
        observed_unit=finding.unit,
        time=now,
        output=finding.text,
        output_key=finding.key or f"service.{name}",
        output_params=finding.params,
    )


def brokers(broken_off: Callable[[], str | None], *, can_do_without: bool) -> HealthCheck:
    """`broken_off` says why they cannot be reached now; who takes no requests goes on without them for a while."""

    async def check() -> Finding:
        reason = broken_off()
        if reason is None:
            return Finding("pass", "The brokers answer.")
        return Finding("warn" if can_do_without else "fail", f"Waiting for the brokers: {reason}")

    return check


def database(own: Database) -> HealthCheck:
    """Whether it answers."""

    async def check() -> Finding:
        try:
            async with asyncio.timeout(_DATABASE_SECONDS):
                await own.ping()
        except (Unavailable, TimeoutError) as error:
            return Finding("fail", f"The database does not answer: {_no_answer(error)}", component="datastore")
        return Finding("pass", "The database answers.", component="datastore")

    return check


def outbox(store: OutboxStore, publisher: OutboxPublisher) -> HealthCheck:
    """How many events are still to be sent, for how long the oldest, and which instance sends them or why none does."""

    async def check() -> Finding:
        try:
            async with asyncio.timeout(_DATABASE_SECONDS):
                backlog, leader = await store.backlog(), await store.lease_holder()
        except (Unavailable, TimeoutError) as error:
            return Finding("warn", f"How many events are still to be sent is unknown: {_no_answer(error)}")
        is_late = backlog.n_events > _MANY_EVENTS or backlog.oldest_seconds > _OLD_EVENT_SECONDS
        more = " or more" if backlog.n_events == MOST_COUNTED else ""
        n = backlog.n_events
        text = f"{Quantity(n, f'{n:,}{more}'):event is|events are} still to be sent"
        if backlog.n_events:
            text += f", the oldest for {backlog.oldest_seconds:.0f} s"
        text += f"; {_sender(publisher, leader)}"
        return Finding("warn" if is_late else "pass", text, backlog.n_events, "events")

    return check


def _sender(publisher: OutboxPublisher, leader: str | None) -> str:
    if publisher.is_leader and publisher.waiting_for is not None:
        return f"this instance sends them and waits: {publisher.waiting_for}"
    if publisher.is_leader:
        return "this instance sends them."
    return f"{leader} sends them." if leader else "no instance sends them now, one will within seconds."


def _no_answer(error: Exception) -> str:
    return str(error) or f"no answer within {_DATABASE_SECONDS:g} s"


def clock(brokers_clock: BrokerClock) -> HealthCheck:
    """How far this machine's clock is from the brokers'."""

    async def check() -> Finding:
        seconds = brokers_clock.skew_seconds()
        if brokers_clock.unstamped_topic is not None:
            text = CLOCK_UNSTAMPED.format(topic=brokers_clock.unstamped_topic)
            return Finding("warn", text, None, "s", "system")
        if seconds is None:
            return Finding("pass", CLOCK_UNKNOWN, None, "s", "system")
        if abs(seconds) <= CLOCK_SKEW_WARN_SECONDS:
            return Finding("pass", "This machine's clock is right.", round(seconds, 3), "s", "system")
        text = CLOCK_WRONG.format(seconds=abs(seconds), side="ahead of" if seconds > 0 else "behind")
        return Finding("warn", text, round(seconds, 3), "s", "system")

    return check


def circuit_breakers(breakers: Breakers) -> HealthCheck:
    """Which services are not called now."""

    async def check() -> Finding:
        broken = [f"{service} {pattern}" for service, pattern, b in breakers if b.state is not State.CLOSED]
        if broken:
            more = f" and {len(broken) - _MOST_NAMED} more" if len(broken) > _MOST_NAMED else ""
            text = f"Calls that are blocked, or only probed: {', '.join(broken[:_MOST_NAMED])}{more}"
            return Finding("warn", text, len(broken), "breakers")
        return Finding("pass", "All circuit breakers are closed.", 0, "breakers")

    return check


def consumer_lag(measured: Callable[[], LagReport | None]) -> HealthCheck:
    """How far the service's own group is behind; `measured` is the last measurement."""

    async def check() -> Finding:
        report = measured()
        if report is None:
            return Finding("warn", "Lag was not measured yet.")
        if report.error is not None:
            return Finding("warn", report.error)
        own = report.groups[0]  # Others that read the same topics come after it.
        if own.severity == "ok" and report.open_transactions:  # Its local copy is held, and gets older.
            held = report.open_transactions[0]
            text = f"{held.topic}-{held.partition}: OPEN_TRANSACTION: {held.reason}"
            key = "reason.open_transaction"
            return Finding("warn", text, own.total_lag, "records", key=key, params=held.reason_params)
        status: CheckStatus = "pass" if own.severity == "ok" else "warn"
        text = f"{own.group_id}: {own.state}: {own.reason_in_full}"
        key = f"reason.{own.reason_key}"
        return Finding(status, text, own.total_lag, "records", key=key, params=own.reason_params)

    return check


def changelogs(met: Callable[[], Sequence[InvalidRecords]]) -> HealthCheck:
    """Whether the changelogs of the service's tables hold records that are no rows; `met`: by partition."""

    async def check() -> Finding:
        found = met()
        if not found:
            return Finding("pass", "Every changelog record that was read since the start is valid.", 0, "records")
        n = sum(one.count for one in found)
        text = filled(
            "{n:invalid changelog record was|invalid changelog records were} skipped since the start: ", {"n": n}
        )
        status: CheckStatus = "warn" if is_recent(found, datetime.now(UTC)) else "pass"
        return Finding(status, f"{text}{in_words(found)}. See {WAY_OUT}.", n, "records")

    return check


def progress(standstill: Callable[[], str | None], requests: Requests) -> HealthCheck:
    """Whether anything stands still that should go on: requests, a client of the brokers, the outbox."""

    async def check() -> Finding:
        reason = standstill()
        if reason is not None:
            return Finding("fail", f"No progress: {reason}")
        given_up = requests.given_up_in_a_row
        if given_up:
            return Finding("warn", f"Requests given up, and none carried out since: {given_up}", given_up, "requests")
        return Finding("pass", "All work makes progress.")

    return check


def memory(resources: Resources) -> HealthCheck:
    """How near this process is to what it may use."""

    async def check() -> Finding:
        percent = resources.usage().memory_percent
        status: CheckStatus = "warn" if percent > MEMORY_WARN_PERCENT else "pass"
        return Finding(status, f"{percent:.0f}% of what this process may use.", percent, "percent", "system")

    return check
