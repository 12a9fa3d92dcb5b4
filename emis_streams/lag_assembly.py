"""From a measurement and what was seen before it to what is said of lag. No I/O."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypedDict, TypeVar

from aiokafka import TopicPartition

from emis_streams import lag_rules
from emis_streams.engine.open_transactions import NAMED_AFTER_SECONDS, OpenTransactions
from emis_streams.lag_followers import changelog_partitions, follower_lag, position_of
from emis_streams.lag_measurement import Measurement, Offset, RecordTimes, Watched, missing_topics, partitions_of
from emis_streams.lag_report import (
    Alert,
    BrokerState,
    DeadLetters,
    FollowerLag,
    GroupLag,
    LagSecondsFrom,
    OpenTransactionLag,
    PartitionLag,
    ReasonParams,
    Severity,
    State,
    Thresholds,
    TopicLag,
)
from emis_streams.lag_rules import Verdict
from emis_streams.lag_watch import OBSERVED_IS_ENOUGH_SECONDS, Watch
from emis_streams.node import FollowerStatus

Number = TypeVar("Number", int, float)


class Said(TypedDict):
    """What a verdict becomes in groups and partitions."""

    state: State
    severity: Severity
    reason: str
    reason_key: str
    reason_params: ReasonParams


@dataclass(frozen=True)
class Assembly:
    """Everything that a report is made of."""

    m: Measurement
    watched: Watched
    watch: Watch
    followers: Sequence[FollowerStatus]
    times: RecordTimes
    thresholds: Thresholds
    transactions: OpenTransactions = field(default_factory=OpenTransactions)
    """What was seen of changelogs."""

    def records_wanted(self) -> Iterator[Offset]:
        """Records whose time must be looked up before the report can be made."""
        for group, tp in self.watch.seen:
            start = self.watch.unread_from(group, tp)
            if start is not None and not self._is_told_by_ends(tp, start):
                yield tp, start
        for follower in self.followers:
            for tp in changelog_partitions(self.m, self.watched):
                start = position_of(follower, tp, self.m)
                if start < self.m.ends[tp] and self.watch.delay(tp, start, self.m.at) is None:
                    yield tp, start
        yield from ((one.tp, one.stable_offset) for one in self.transactions.all(self.m.at))
        yield from ((tp, end - 1) for tp, end in self._dead_letter_ends() if end > self.m.earliest[tp])

    def _is_told_by_ends(self, tp: TopicPartition, position: int) -> bool:
        delay = self.watch.delay(tp, position, self.m.at)
        return delay is not None and delay <= OBSERVED_IS_ENOUGH_SECONDS

    def _record_age(self, tp: TopicPartition, offset: int) -> float | None:
        at = self.times.at(tp, offset)
        if at is None:
            return None
        return lag_rules.watched_age(offset, self.watch.ends.get(tp, ()), self.m.at, self.m.unix_at - at)

    # Groups

    def groups(self) -> tuple[GroupLag, ...]:
        """The ingesting group first, then the replica's, then others by name."""
        ours = (self.watched.ingest_group, self.watched.replica_group)
        return tuple(self._group(name) for name in sorted(self.m.groups, key=lambda n: (n != ours[0], n != ours[1], n)))

    def _group(self, name: str) -> GroupLag:
        facts = self.m.groups[name]
        judged = [self._partition(name, tp) for tp in partitions_of(name, self.m, self.watched)]
        partitions = tuple(partition for partition, _ in judged)
        worst, verdict = _worst(judged)
        total = sum(p.lag or 0 for p in partitions)
        produce, consume = _sum(p.produce_rate for p in partitions), _sum(p.consume_rate for p in partitions)
        return GroupLag(
            group_id=name,
            broker_state=facts.state,
            members=facts.members,
            clients=facts.clients,
            total_lag=total,
            max_lag=_max(p.lag for p in partitions),
            max_lag_seconds=_max(p.lag_seconds for p in partitions),
            produce_rate=produce,
            consume_rate=consume,
            time_to_catch_up_seconds=lag_rules.catch_up_seconds(total, produce, consume),
            **_said(verdict),
            reason_partition=_name_of(worst, verdict),
            reason_owner=_owner_of(worst, verdict),
            since=self._since(name, None, verdict),
            alerts=self._group_alerts(partitions),
            topics=_by_topic(partitions),
            partitions=partitions,
        )

    def _partition(self, group: str, tp: TopicPartition) -> tuple[PartitionLag, Verdict]:
        seen = self.watch.seen[group, tp]
        now = seen[-1]
        lag = lag_rules.lag_of(now.committed, now.end)
        seconds, seconds_from = self._lag_seconds(group, tp)
        verdict = lag_rules.verdict(seen, seconds, self.thresholds.stale_after_seconds)
        produce = lag_rules.rate([(o.at, o.end) for o in seen])
        consume = lag_rules.rate([(o.at, o.committed) for o in seen])
        unsynced = self.watch.unsynced_seconds(group, tp, seconds, self.m.at)
        waiting = now.end - now.earliest if now.end is not None and now.earliest is not None else None
        partition = PartitionLag(
            topic=tp.topic,
            partition=tp.partition,
            owner=self.m.groups[group].owners.get(tp),
            committed_offset=now.committed,
            end_offset=now.end,
            earliest_offset=now.earliest,
            lag=lag,
            lag_to_earliest=waiting if now.committed is None else None,
            lag_seconds=seconds,
            lag_seconds_from=seconds_from,
            produce_rate=produce,
            consume_rate=consume,
            time_to_catch_up_seconds=lag_rules.catch_up_seconds(lag, produce, consume),
            unsynced_seconds=unsynced,
            **_said(verdict),
            since=self._since(group, tp, verdict),
            alerts=self._partition_alerts(lag, unsynced),
        )
        return partition, verdict

    def _since(self, group: str, tp: TopicPartition | None, found: Verdict) -> datetime | None:
        since = self.watch.in_state_since(group, tp, found, self.m.unix_at)
        return None if since is None else datetime.fromtimestamp(since, UTC)

    def _lag_seconds(self, group: str, tp: TopicPartition) -> tuple[float | None, LagSecondsFrom | None]:
        now = self.watch.seen[group, tp][-1]
        if now.end is None or now.earliest is None:
            return None, None
        start = self.watch.unread_from(group, tp)
        if start is None:
            # A group that lost all of an emptied log is level with nothing.
            lost = now.committed is not None and now.committed < now.earliest
            return (None, None) if lost else (0.0, "observed")
        if self._is_told_by_ends(tp, start):
            return self.watch.delay(tp, start, self.m.at), "observed"
        age = self._record_age(tp, start)
        if age is None:
            return None, None
        return max(age, self.watch.standing_seconds(group, tp)), "record"

    def _partition_alerts(self, lag: int | None, unsynced: float | None) -> tuple[Alert, ...]:
        alerts: list[Alert] = []
        if lag is not None and lag > self.thresholds.lag_messages:
            alerts.append("lag_over_threshold")
        if unsynced is not None and unsynced > self.thresholds.unsynced_seconds:
            alerts.append("unsynced_over_threshold")
        return tuple(alerts)

    def _group_alerts(self, partitions: Iterable[PartitionLag]) -> tuple[Alert, ...]:
        """The partitions' alerts, and the lag of all of them together."""
        found = {alert for p in partitions for alert in p.alerts}
        if sum(p.lag or 0 for p in partitions) > self.thresholds.lag_messages:
            found.add("lag_over_threshold")
        return tuple(sorted(found))

    def follower_lags(self) -> tuple[FollowerLag, ...]:
        return tuple(
            follower_lag(status, self.m, self.watched, self.watch, self._record_age) for status in self.followers
        )

    def open_transactions(self) -> tuple[OpenTransactionLag, ...]:
        """Of changelogs, by partition: the first record of one is as old as the transaction."""
        found = [
            replace(one, seconds=max(one.seconds, self._record_age(one.tp, one.stable_offset) or 0.0))
            for one in self.transactions.all(self.m.at)
        ]
        lasting = [one for one in found if one.seconds >= NAMED_AFTER_SECONDS]
        return tuple(lag_rules.open_transaction(one) for one in sorted(lasting, key=lambda one: one.tp))

    # Brokers and dead letters

    def brokers(self) -> BrokerState:
        ours = {name: facts for name, facts in self.m.topics.items() if name in self.watched.topics}
        return BrokerState(
            cluster_id=self.m.cluster_id,
            brokers=self.m.n_brokers,
            missing_topics=missing_topics(self.m, self.watched.topics),
            offline_partitions=tuple(f"{name}-{p}" for name, facts in sorted(ours.items()) for p in facts.offline),
            under_replicated_partitions=sum(facts.under_replicated for facts in ours.values()),
        )

    def dead_letters(self) -> DeadLetters:
        ends = list(self._dead_letter_ends())
        if not ends:
            return DeadLetters(count=None, last_at=None)
        last = _max(self.times.at(tp, end - 1) for tp, end in ends)
        return DeadLetters(
            count=sum(end - self.m.earliest[tp] for tp, end in ends),
            last_at=None if last is None else datetime.fromtimestamp(last, UTC),
        )

    def _dead_letter_ends(self) -> Iterator[Offset]:
        return ((tp, end) for tp, end in self.m.ends.items() if tp.topic == self.watched.dead_letter)


def group_delay(groups: Collection[GroupLag], group_id: str | None, topics: Collection[str]) -> float | None:
    """How far a group is behind in topics; None if that is not known for all their partitions."""
    partitions = [p for g in groups if g.group_id == group_id for p in g.partitions if p.topic in topics]
    return lag_rules.total_delay(p.lag_seconds for p in partitions) if partitions else None


def _worst(judged: Sequence[tuple[PartitionLag, Verdict]]) -> tuple[PartitionLag | None, Verdict]:
    """The partition that a group's state is taken from: of equally bad ones that with the most lag."""
    if not judged:
        return None, lag_rules.NOTHING_TO_READ
    return max(judged, key=lambda found: (lag_rules.badness(found[1]), found[0].lag or 0))


def _name_of(worst: PartitionLag | None, verdict: Verdict) -> str | None:
    if worst is None or verdict.reason_key in ("level", "within", "never_committed_empty"):
        return None
    return f"{worst.topic}-{worst.partition}"


def _owner_of(worst: PartitionLag | None, verdict: Verdict) -> str | None:
    if worst is None or worst.owner is None or _name_of(worst, verdict) is None:
        return None
    return f"{worst.owner.client_id} {worst.owner.host}"


def _said(verdict: Verdict) -> Said:
    return {
        "state": verdict.state,
        "severity": verdict.severity,
        "reason": verdict.reason,
        "reason_key": verdict.reason_key,
        "reason_params": verdict.params,
    }


def _by_topic(partitions: Iterable[PartitionLag]) -> tuple[TopicLag, ...]:
    topics: dict[str, list[PartitionLag]] = {}
    for p in partitions:
        topics.setdefault(p.topic, []).append(p)
    return tuple(
        TopicLag(topic=t, lag=sum(p.lag or 0 for p in ps), max_lag_seconds=_max(p.lag_seconds for p in ps))
        for t, ps in topics.items()
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """Sum of what is known; None if nothing is."""
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def _max(values: Iterable[Number | None]) -> Number | None:
    return max((v for v in values if v is not None), default=None)
