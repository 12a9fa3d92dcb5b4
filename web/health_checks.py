"""The rules of health: from what the parts of this worker and the brokers say to checks. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from emis_streams import invalid_records, topics
from emis_streams.engine.open_transactions import OpenTransaction
from emis_streams.health_report import Check, CheckStatus, ComponentType, Health
from emis_streams.lag_report import FollowerLag, GroupLag, InvalidRecords, LagReport, LatencySummary, ReasonParams
from emis_streams.lag_rules import STALLED_AFTER_SECONDS
from emis_streams.node import FollowerStatus, IngestStatus
from emis_streams.quantities import filled
from emis_streams.resources import MEMORY_WARN_PERCENT, Usage
from emis_streams.services.health import CLOCK_SKEW_WARN_SECONDS
from emis_streams.settings import Settings
from web.catch_up import CATCH_UP_SECONDS, is_catching_up, is_from_before
from web.health_texts import OUTPUTS
from web.help_topics import help_links, topic_of_check

DEAD_LETTER_RECENT_SECONDS = 3600.0

READS = ("/teachers/{teacherId}", "/classes/{classId}", "/api/teachers/{teacherId}", "/api/classes/{classId}")


@dataclass(frozen=True)
class View:
    """What the checks look at."""

    now: datetime
    settings: Settings
    report: LagReport | None
    ingest: IngestStatus | None
    read_model: FollowerStatus | None
    replica: FollowerStatus | None
    has_reader: bool
    """Whether the database can answer while the local copy is not caught up."""
    latencies: Mapping[str, LatencySummary]
    usage: Usage
    skew_seconds: float | None = None
    """How far this machine's clock is ahead of the brokers'; None if it was not measured."""
    standstill: str | None = None
    """What makes no progress though it should, as the watchdog sees it."""
    invalid: Sequence[InvalidRecords] = ()
    """What the readers of this worker have met in changelogs that is no row."""
    uptime_seconds: float = math.inf
    """Of this process."""

    def check(
        self,
        status: CheckStatus,
        key: str,
        value: float | int | str | None = None,
        unit: str | None = None,
        *,
        affects: tuple[str, ...] = (),
        component: ComponentType = "component",
        **params: int | float | str,
    ) -> Check:
        return self.told(status, key, value, unit, params, affects, component)

    def told(
        self,
        status: CheckStatus,
        key: str,
        value: float | int | str | None,
        unit: str | None,
        params: ReasonParams,
        affects: tuple[str, ...] = READS,
        component: ComponentType = "component",
    ) -> Check:
        return Check(
            component_type=component,
            status=status,
            observed_value=value,
            observed_unit=unit,
            time=self.now,
            output=filled(OUTPUTS[key], params),
            output_key=key,
            output_params=params,
            affected_endpoints=() if status == "pass" else affects,
            links=help_links(topic_of_check(status, key)),
        )

    @property
    def has_just_started(self) -> bool:
        """Catching up is what it does now, and no incident."""
        return self.uptime_seconds <= CATCH_UP_SECONDS

    def of_catching_up(self, status: FollowerStatus, age_seconds: float = math.inf) -> CheckStatus:
        """Of a follower that reads on, with records that wait for so long: well shortly after the start only."""
        moves = status.idle_seconds <= STALLED_AFTER_SECONDS
        return "pass" if moves and is_from_before(age_seconds, self.uptime_seconds) else "warn"

    def group(self, group_id: str) -> GroupLag | None:
        groups = self.report.groups if self.report is not None and self.report.error is None else ()
        return next((g for g in groups if g.group_id == group_id), None)

    def follower(self, name: str) -> FollowerLag | None:
        followers = self.report.followers if self.report is not None else ()
        return next((f for f in followers if f.name == name), None)


def checks(view: View) -> dict[str, Check]:
    """One check per part; parts that are nobody's business here are left out."""
    return dict(_checks(view))


def _checks(view: View) -> Iterator[tuple[str, Check]]:
    yield "brokers", brokers(view)
    yield "tables", tables(view)
    if view.read_model is not None:
        yield "readModel", read_model(view, view.read_model)
    replica_check = replica(view)
    if replica_check is not None:
        yield "replica", replica_check
    yield "deadLetters", dead_letters(view)
    yield "changelogs", changelogs(view)
    ingest_group = view.group(topics.APP_ID)
    if ingest_group is not None:
        yield "consumerLag", consumer_lag(view, ingest_group)
    for name, summary in view.latencies.items():
        yield ("syncLatency" if name == "read-model" else f"syncLatency:{name}"), sync_latency(view, summary)
    yield "clock", clock(view)
    yield "progress", progress(view)
    yield "memory", memory(view)


def health(found: Mapping[str, Check]) -> Health:
    """Unhealthy only if this worker cannot answer at all; a stand-in or a delay is degraded."""
    reading = found.get("readModel")
    if reading is not None and reading.status == "fail":
        return "unhealthy"
    return "healthy" if all(check.status == "pass" for check in found.values()) else "degraded"


_BROKERS_AWAY = {
    "no_broker": ("brokers.no_broker", "brokers.no_broker_alone"),
    "refused": ("brokers.refused", "brokers.refused_alone"),
}
"""By the key of the error: what is said while pages go on from the local copy, and if they cannot."""


def brokers(view: View) -> Check:
    report = view.report
    if report is None:
        return view.check("warn", "brokers.not_asked", affects=READS)
    if report.error is not None:
        goes_on = view.read_model is not None and view.read_model.caught_up
        key, alone = _BROKERS_AWAY[report.error_key]
        return view.told("fail", key if goes_on else alone, 0, "brokers", report.error_params)
    state = report.brokers
    if state is None:
        return view.check("warn", "brokers.not_asked", affects=READS)
    n = state.brokers
    if state.missing_topics:
        return view.check(
            "fail", "brokers.missing", n, "brokers", affects=READS, topics=", ".join(state.missing_topics)
        )
    if state.offline_partitions:
        some = ", ".join(state.offline_partitions)
        return view.check("fail", "brokers.offline", n, "brokers", affects=READS, partitions=some)
    if state.under_replicated_partitions:
        return view.check("warn", "brokers.under_replicated", n, "brokers", count=state.under_replicated_partitions)
    return view.check("pass", "brokers.ok", n, "brokers", brokers=n)


def tables(view: View) -> Check:
    if view.ingest is None:
        return _tables_elsewhere(view)
    status = view.ingest
    lost = sum(status.lost_to_retention.values())
    n = len(status.assigned)
    if lost:
        return view.check("fail", "tables.lost", n, "partitions", affects=READS, lost=lost)
    if status.waits_for is not None and (status.rebalancing or not status.caught_up):
        return view.check("warn", "tables.waiting", n, "partitions", affects=READS, reason=status.waits_for)
    if not status.caught_up:
        state: CheckStatus = "pass" if view.has_just_started else "warn"
        return view.check(state, "tables.catching_up", n, "partitions", affects=READS)
    if status.rebalancing:
        return view.check("warn", "tables.rebalancing", n, "partitions", affects=READS)
    return view.check("pass", "tables.ok", n, "partitions", partitions=n)


def _tables_elsewhere(view: View) -> Check:
    group = view.group(topics.APP_ID)
    if group is None:
        return view.check("warn", "tables.unknown", affects=READS)
    if not group.members:
        return view.check("fail", "tables.nobody", 0, "workers", affects=READS)
    if group.severity == "error":
        return _because("warn", view, group, group.members, "workers")
    key = "tables.elsewhere_one" if group.members == 1 else "tables.elsewhere"
    return view.check("pass", key, group.members, "workers", members=group.members)


def _because(status: CheckStatus, view: View, group: GroupLag, value: int, unit: str) -> Check:
    """A check that says what the worst partition of a group says, which it names with its owner."""
    check = view.told(status, f"reason.{group.reason_key}", value, unit, group.reason_params)
    if group.reason_partition is None:
        return check
    where = {"partition": group.reason_partition, "owner": group.reason_owner or ""}
    return msgspec.structs.replace(check, output=group.reason_in_full, output_params={**check.output_params, **where})


def read_model(view: View, status: FollowerStatus) -> Check:
    if not status.caught_up and not view.has_reader:
        return view.check("fail", "read_model.catching_up_alone", affects=READS, component="datastore")
    if status.waiting_for is not None:
        return view.check("warn", "read_model.waiting", affects=READS, component="datastore", reason=status.waiting_for)
    if status.open_transaction is not None:
        return _held(view, "read_model.open_transaction", status.open_transaction)
    if not status.caught_up:
        return _catching_up(view, status, "read_model.catching_up", "read_model.stalled", READS)
    delay = _delay(view, status)
    if delay is not None and delay > view.settings.stale_after_seconds:
        state = view.of_catching_up(status, delay)
        return view.check(state, "read_model.behind", delay, "s", affects=READS, component="datastore", seconds=delay)
    return view.check("pass", "read_model.ok", delay, "s", component="datastore", records=status.records_total)


def replica(view: View) -> Check | None:
    status = view.replica
    if status is None:
        return _replica_elsewhere(view)
    if status.waiting_for is not None:
        return view.check("fail", "replica.waiting", component="datastore", reason=status.waiting_for)
    if status.open_transaction is not None:
        return _held(view, "replica.open_transaction", status.open_transaction)
    if not status.caught_up:
        return _catching_up(view, status, "replica.catching_up", "replica.stalled", ())
    delay = _delay(view, status)
    if delay is not None and delay > view.settings.sync_latency_threshold_seconds:
        state = view.of_catching_up(status, delay)
        return view.check(state, "replica.behind", delay, "s", component="datastore", seconds=delay)
    return view.check("pass", "replica.ok", delay, "s", component="datastore", records=status.records_total)


def _catching_up(view: View, status: FollowerStatus, moves: str, stalled: str, affects: tuple[str, ...]) -> Check:
    """`moves` and `stalled` are the keys of what is said."""
    seconds = status.idle_seconds
    if seconds > STALLED_AFTER_SECONDS:
        return view.check("warn", stalled, affects=affects, component="datastore", seconds=seconds)
    return view.check(view.of_catching_up(status), moves, affects=affects, component="datastore")


def _held(view: View, key: str, by: OpenTransaction) -> Check:
    where = f"{by.tp.topic}-{by.tp.partition}"
    params: ReasonParams = {
        "partition": where, "stable": by.stable_offset, "end": by.end_offset, "seconds": by.seconds
    }  # fmt: skip
    return view.told("warn", key, None, None, params, component="datastore")


def _replica_elsewhere(view: View) -> Check | None:
    group = view.group(topics.REPLICA_GROUP)
    if group is None:
        return None
    if not group.members:
        return view.check("warn", "replica.nobody", 0, "workers", component="datastore")
    if group.severity != "ok" and not is_catching_up(group, view.uptime_seconds):
        return _because("warn", view, group, group.members, "workers")
    key = "replica.elsewhere_one" if group.members == 1 else "replica.elsewhere"
    return view.check("pass", key, group.members, "workers", component="datastore", members=group.members)


def _delay(view: View, status: FollowerStatus) -> float | None:
    follower = view.follower(status.name)
    return None if follower is None else follower.delay_seconds


def dead_letters(view: View) -> Check:
    letters = view.report.dead_letters if view.report is not None else None
    if letters is None or letters.count is None:
        return view.check("warn", "dead_letters.unknown")
    recent = (
        letters.count > 0
        and letters.last_at is not None
        and (view.now - letters.last_at).total_seconds() - (view.skew_seconds or 0.0) < DEAD_LETTER_RECENT_SECONDS
    )
    status: CheckStatus = "warn" if recent else "pass"
    key = "dead_letters.recent" if recent else "dead_letters.ok"
    return view.check(status, key, letters.count, "records", count=letters.count)


def changelogs(view: View) -> Check:
    """Answers are right: such records are left out. They say that somebody writes where only workers may."""
    n = sum(one.count for one in view.invalid)
    if not view.invalid:
        return view.check("pass", "changelogs.ok", n, "records")
    where = invalid_records.in_words(view.invalid)
    if invalid_records.is_recent(view.invalid, view.now):
        return view.check("warn", "changelogs.recent", n, "records", count=n, where=where)
    return view.check("pass", "changelogs.old", n, "records", count=n, where=where)


def consumer_lag(view: View, group: GroupLag) -> Check:
    lag = group.total_lag
    if is_catching_up(group, view.uptime_seconds):
        return view.check("pass", "lag.from_before", lag, "records", lag=lag)
    if group.severity != "ok":
        return _because("fail" if group.severity == "error" else "warn", view, group, lag, "records")
    if "lag_over_threshold" in group.alerts:
        limit = view.settings.lag_threshold_messages
        return view.check("warn", "lag.over", lag, "records", affects=READS, lag=lag, limit=limit)
    if "unsynced_over_threshold" in group.alerts:
        seconds = max(p.unsynced_seconds or 0.0 for p in group.partitions)
        over = view.settings.unsynced_threshold_seconds
        return view.check("warn", "lag.unsynced", lag, "records", affects=READS, seconds=seconds, limit=over)
    return _because("pass", view, group, lag, "records")


def sync_latency(view: View, summary: LatencySummary) -> Check:
    average = summary.average_seconds
    if average is None:
        return _no_latency(view)
    if summary.alerts:
        limit = view.settings.sync_latency_threshold_seconds
        return view.check("warn", "latency.over", average, "s", affects=READS, seconds=average, limit=limit)
    return view.check("pass", "latency.ok", average, "s", seconds=average)


def _no_latency(view: View) -> Check:
    """Nothing to say is well while nothing waits; else it only cannot be told how late the next event will be."""
    group = view.group(topics.APP_ID)
    if group is None:
        return view.check("pass", "latency.unknown", None, "s")
    if group.total_lag:
        return view.check("pass", "latency.waiting", None, "s", lag=group.total_lag)
    return view.check("pass", "latency.none", None, "s")


def clock(view: View) -> Check:
    """Answers do not depend on it, but times in logs do."""
    skew = view.skew_seconds
    if skew is None:
        return view.check("pass", "clock.unknown", None, "s", component="system")
    value = round(skew, 3)
    if abs(skew) <= CLOCK_SKEW_WARN_SECONDS:
        return view.check("pass", "clock.ok", value, "s", component="system")
    key = "clock.ahead" if skew > 0 else "clock.behind"
    return view.check("warn", key, value, "s", component="system", seconds=abs(skew))


def progress(view: View) -> Check:
    if view.standstill is not None:
        return view.check("fail", "progress.none", affects=READS, reason=view.standstill)
    return view.check("pass", "progress.ok")


def memory(view: View) -> Check:
    percent = view.usage.memory_percent
    if percent > MEMORY_WARN_PERCENT:
        return view.check("warn", "memory.high", percent, "%", component="system", percent=percent)
    return view.check("pass", "memory.ok", percent, "%", component="system", percent=percent)
