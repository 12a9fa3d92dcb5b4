"""The lag monitor: asks the brokers once a second how far everything is behind, and remembers."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from aiokafka import TopicPartition

from emis_streams import lag_assembly, lag_rules
from emis_streams.broker_clock import BrokerClock
from emis_streams.brokers import NO_ANSWER, UNREACHABLE, Brokers
from emis_streams.engine.denied import denied
from emis_streams.engine.open_transactions import OpenTransactions
from emis_streams.engine.patience import in_words
from emis_streams.kafka_refusals import why
from emis_streams.lag_assembly import Assembly
from emis_streams.lag_followers import changelog_partitions
from emis_streams.lag_measurement import Asking, Measurement, RecordTimes, Watched, watched
from emis_streams.lag_report import GroupLag, HistoryPoint, LagReport, ReasonParams, Thresholds
from emis_streams.lag_rules import ERRORS, AgeBasis
from emis_streams.lag_watch import Watch
from emis_streams.node import FollowerStatus
from emis_streams.quantities import filled
from emis_streams.settings import Settings
from emis_streams.sync_latency import SyncLatency

if TYPE_CHECKING:
    from emis_streams.answers import Source
    from emis_streams.node import Node

__all__ = ["LagMonitor", "SyncLatency", "followers_of"]

log = logging.getLogger(__name__)

READ_MODEL = "read-model"
HISTORY_POINTS = 600
RATE_POINTS = 5
"""Rates of the chart are over this many measurements: commits come in steps."""
MAX_BACKOFF_SECONDS = 5.0
TRANSACTIONS_EVERY_SECONDS = 5.0
"""How often the last stable offsets of changelogs are asked for."""
CLOCK_EVERY_SECONDS = 10.0
"""How often the brokers' time is read from a record, unless heartbeats tell it more often."""


def followers_of(node: "Node") -> list[FollowerStatus]:
    """Where this worker's followers of changelogs are now."""
    return [f.status() for f in (node.read_model_follower, node.replica_follower) if f is not None]


class LagMonitor:
    """Asks the brokers; `snapshot` and `age_seconds` answer from the last measurement at once."""

    def __init__(
        self,
        settings: Settings,
        followers: Callable[[], Sequence[FollowerStatus]] = tuple,
        watched_topics: Watched | None = None,
        poll_seconds: float = 1.0,
        clock: BrokerClock | None = None,
    ) -> None:
        """`followers` is asked at each measurement; `watched_topics`: those of teacher workers if not given.

        `clock` is the process's: where no heartbeat measures the brokers' time, the monitor does.
        """
        self._settings = settings
        self._followers = followers
        self._watched = watched_topics or watched(replicates="replicate" in settings.roles_enabled())
        self._poll_seconds = poll_seconds
        self._thresholds = Thresholds(
            lag_messages=settings.lag_threshold_messages,
            sync_latency_seconds=settings.sync_latency_threshold_seconds,
            unsynced_seconds=settings.unsynced_threshold_seconds,
            stale_after_seconds=settings.stale_after_seconds,
        )
        self._watch = Watch(settings.stale_after_seconds)
        self._times = RecordTimes()
        self._transactions = OpenTransactions()
        self._transactions_seen = float("-inf")
        self._clock = clock or BrokerClock()
        self._ends_before: tuple[float, dict[TopicPartition, int]] | None = None
        self._asking: Asking | None = None
        self._failures = 0
        self._report: LagReport | None = None
        self._ages: dict[Source, AgeBasis] = {}
        self._history: deque[HistoryPoint] = deque(maxlen=HISTORY_POINTS)
        self._totals: deque[tuple[float, int, int]] = deque(maxlen=RATE_POINTS)

    @property
    def own_groups(self) -> frozenset[str]:
        """EMIS's own: of others that read the same topics it only reports."""
        return frozenset(self._watched.own)

    async def run(self) -> None:
        """Measure until cancelled. Brokers that cannot be reached are reported, all else is raised."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                started = loop.time()
                await self.measure()
                pause = min(self._poll_seconds * 2 ** min(self._failures, 8), MAX_BACKOFF_SECONDS)
                await asyncio.sleep(max(0.0, started + max(pause, self._poll_seconds) - loop.time()))
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of the connections; the next measurement makes new ones."""
        asking, self._asking = self._asking, None
        if asking is not None:
            await asking.brokers.close()

    async def measure(self) -> LagReport:
        """Ask once; with brokers that cannot be reached, the report says so in `error`."""
        try:
            report = await self._measure()
        except UNREACHABLE as error:
            await self.close()
            self._failures += 1
            report = self._failed(denied(error) or await why(self._settings) or _reason(error))
        else:
            if self._failures:
                log.info("The brokers at %s can be asked again", self._settings.kafka_brokers)
            self._failures = 0
        self._report = report
        return report

    async def _measure(self) -> LagReport:
        if self._asking is None:
            self._asking = Asking(Brokers(self._settings.kafka_client()), self._watched, self._clock)
            await self._asking.brokers.start()
        m = await self._asking.measure()
        # Positions are read after the ends: level with an end means having all that was there at `m.at`.
        followers = self._followers()
        self._watch.add(m, self._watched)
        await self._look_at_transactions(self._asking.brokers, m)
        seen = self._times, self._thresholds, self._transactions
        assembly = Assembly(m, self._watched, self._watch, followers, *seen)
        await self._times.look_up(self._asking.brokers, assembly.records_wanted())
        await self._learn_the_time(self._asking.brokers, m)
        # Pure, and up to 30 µs for each partition of each group: in a thread, so that no request waits for all of it.
        groups = await asyncio.to_thread(assembly.groups)
        return self._assembled(m, assembly, groups)

    async def _look_at_transactions(self, brokers: Brokers, m: Measurement) -> None:
        """Where a group stands, at each look; in changelogs, whose followers have no group, now and then."""
        standing = self._watch.standing()
        is_due = m.at - self._transactions_seen >= TRANSACTIONS_EVERY_SECONDS
        changelogs = changelog_partitions(m, self._watched) if is_due else []
        stable = await brokers.stable_offsets(standing.union(changelogs))
        self._watch.note_stable({tp: stable[tp] for tp in standing})
        if is_due:
            self._transactions_seen = m.at
            self._transactions.note({tp: (stable[tp], m.ends[tp]) for tp in changelogs}, m.at)

    async def _learn_the_time(self, brokers: Brokers, m: Measurement) -> None:
        """A record that was not there at the look before was stamped by its broker since."""
        before, self._ends_before = self._ends_before, (m.at, m.ends)
        if before is None or time.monotonic() - self._clock.sampled_at < CLOCK_EVERY_SECONDS:
            return
        since, ends = before
        grown = next((tp for tp, end in m.ends.items() if end > ends.get(tp, end)), None)
        if grown is None:
            return
        stamped_ms = await brokers.stamped_ms(grown, ends[grown])
        if stamped_ms is not None:
            self._clock.note(stamped_ms, since, time.monotonic())

    def _assembled(self, m: Measurement, assembly: Assembly, groups: tuple[GroupLag, ...]) -> LagReport:
        followers = assembly.follower_lags()
        ours = self._watched
        ingest = lag_assembly.group_delay(groups, ours.ingest_group, ours.sources)
        local = next((f.delay_seconds for f in followers if f.name == READ_MODEL), None)
        replica = lag_assembly.group_delay(groups, ours.replica_group, ours.changelogs)
        age = self._keep_age("local", m.at, ingest, local)
        self._keep_age("mysql", m.at, ingest, replica)
        self._remember(m, groups)
        open_transactions = assembly.open_transactions()
        severity = lag_rules.worst_severity(g.severity for g in groups if g.group_id in ours.expected)
        return LagReport(
            measured_at=datetime.fromtimestamp(m.unix_at, UTC),
            error=None,
            age_seconds=age,
            severity="error" if open_transactions else severity,
            thresholds=self._thresholds,
            brokers=assembly.brokers(),
            groups=groups,
            groups_left_out=m.n_groups_left_out,
            followers=followers,
            open_transactions=open_transactions,
            dead_letters=assembly.dead_letters(),
        )

    def _keep_age(self, source: "Source", at: float, *delays: float | None) -> float | None:
        """A measurement that is not complete leaves the last one standing: its bound still holds."""
        known = [d for d in delays if d is not None]
        if len(known) < len(delays):
            return None
        self._ages[source] = AgeBasis(at, sum(known))
        return sum(known)

    def _remember(self, m: Measurement, groups: Sequence[GroupLag]) -> None:
        for group in groups:
            if group.group_id != self._watched.ingest_group:
                continue
            known = [p for p in group.partitions if p.end_offset is not None and p.earliest_offset is not None]
            read = sum(p.committed_offset if p.committed_offset is not None else p.earliest_offset or 0 for p in known)
            self._totals.append((m.at, sum(p.end_offset or 0 for p in known), read))
            point = HistoryPoint(
                time=datetime.fromtimestamp(m.unix_at, UTC),
                total_lag=group.total_lag,
                max_lag_seconds=group.max_lag_seconds,
                produce_rate=lag_rules.rate([(at, end) for at, end, _ in self._totals]),
                consume_rate=lag_rules.rate([(at, done) for at, _, done in self._totals]),
            )
            self._history.append(point)

    def _failed(self, reason: str | None) -> LagReport:
        """None: nobody answers."""
        key = "no_broker" if reason is None else "refused"
        params: ReasonParams = {"brokers": self._settings.kafka_brokers}
        if reason is not None:
            params["reason"] = reason.removesuffix(".")
        error = filled(ERRORS[key], params)
        if self._failures == 1:
            log.warning("%s", error)
        if self._report is not None:
            return msgspec.structs.replace(
                self._report, error=error, error_key=key, error_params=params, severity="error"
            )
        return LagReport(
            measured_at=None,
            error=error,
            error_key=key,
            error_params=params,
            age_seconds=None,
            severity="error",
            thresholds=self._thresholds,
            brokers=None,
            groups=(),
            followers=(),
            dead_letters=None,
        )

    def snapshot(self) -> LagReport | None:
        """The last report; None before the first."""
        return self._report

    def history(self) -> list[HistoryPoint]:
        """The last ten minutes of the ingesting group, oldest first, for the chart."""
        return list(self._history)

    def age_seconds(self, now: float, source: "Source" = "local") -> float | None:
        """Upper bound on how old an answer can be at `now` (monotonic seconds); None if not known.

        The ingesting group's delay, and the delay of the read model (`local`) or of the replica
        (`mysql`) against the changelogs, and the age of the measurement. While the brokers cannot be
        asked it grows from the last measurement.
        """
        basis = self._ages.get(source)
        return None if basis is None else basis.age_seconds(now)


def _reason(error: Exception) -> str | None:
    """None: nobody answers."""
    return None if isinstance(error, NO_ANSWER) else in_words(error)
