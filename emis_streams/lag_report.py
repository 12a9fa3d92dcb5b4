"""What is said of lag: the shapes that the page, `/api/consumer-lag`, the CLI and the metrics share.

JSON is camelCase. Times are UTC. None means "not known" (never committed is None, not 0). A reason
comes three times: `reason` in English, and `reasonKey` with `reasonParams` for other languages.
"""

from datetime import datetime
from typing import Literal

import msgspec

State = Literal[
    "OK",
    "CATCHING_UP",
    "BEHIND",
    "STALLED",
    "OPEN_TRANSACTION",
    "STOPPED",
    "REWIND",
    "NEVER_COMMITTED",
    "LOST",
    "AHEAD",
    "UNKNOWN",
]
Severity = Literal["ok", "warn", "error"]
SEVERITIES: tuple[Severity, ...] = ("ok", "warn", "error")
"""From the mildest to the worst."""
Alert = Literal["lag_over_threshold", "unsynced_over_threshold", "sync_latency_over_threshold"]
LagSecondsFrom = Literal["record", "observed"]
"""`record`: the time of the record at the committed offset; `observed`: when the end was seen there."""
ReasonParams = dict[str, int | float | str]


class Camel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of everything that is shown."""


class Owner(Camel, frozen=True, kw_only=True):
    """The member of a group that a partition is assigned to, as the brokers name it."""

    member_id: str
    client_id: str
    host: str


class PartitionLag(Camel, frozen=True, kw_only=True):
    """A group's position in one partition."""

    topic: str
    partition: int
    owner: Owner | None
    committed_offset: int | None
    end_offset: int | None
    earliest_offset: int | None
    lag: int | None
    """End minus committed: what `kafka-consumer-groups` prints. None: never committed."""
    lag_to_earliest: int | None
    """Records still in the log that were never read, when nothing was committed."""
    lag_seconds: float | None
    lag_seconds_from: LagSecondsFrom | None
    produce_rate: float | None
    consume_rate: float | None
    time_to_catch_up_seconds: float | None
    """Only while the group reads faster than others write."""
    unsynced_seconds: float | None
    """How long the group was not seen level with the end."""
    state: State
    severity: Severity
    reason: str
    reason_key: str
    reason_params: ReasonParams
    since: datetime | None = None
    """Since when it is in this state, as far as this process has seen; null while its severity is ok."""
    alerts: tuple[Alert, ...] = ()


class TopicLag(Camel, frozen=True, kw_only=True):
    """A group's lag in all partitions of one topic."""

    topic: str
    lag: int
    max_lag_seconds: float | None


class GroupLag(Camel, frozen=True, kw_only=True):
    """A consumer group, all its partitions of our topics."""

    group_id: str
    broker_state: str
    """As the coordinator calls it: Stable, Empty, PreparingRebalance …; `Absent`: it knows no such group."""
    members: int | None
    clients: tuple[Owner, ...] = ()
    """The members as the brokers name them, also those that no partition is assigned to; 1000 at most."""
    total_lag: int
    max_lag: int | None
    max_lag_seconds: float | None
    produce_rate: float | None
    consume_rate: float | None
    time_to_catch_up_seconds: float | None
    state: State
    severity: Severity
    reason: str
    reason_key: str
    reason_params: ReasonParams
    """Of its worst partition, which is named here unless nothing is wrong."""
    reason_partition: str | None = None
    reason_owner: str | None = None
    """Client id and host of the member that reads that partition; null if nobody does."""
    since: datetime | None = None
    """Since when it is in this state, as far as this process has seen; null while its severity is ok."""
    alerts: tuple[Alert, ...]
    topics: tuple[TopicLag, ...]
    partitions: tuple[PartitionLag, ...]

    @property
    def reason_in_full(self) -> str:
        """The reason in English, with the partition and its owner before it."""
        if self.reason_partition is None:
            return self.reason
        owner = f" ({self.reason_owner})" if self.reason_owner else ""
        return f"{self.reason_partition}{owner}: {self.reason}"


class OpenTransactionLag(Camel, frozen=True, kw_only=True):
    """A transaction that does not end: readers of committed records get no further in this partition."""

    topic: str
    partition: int
    stable_offset: int
    """The last stable offset: of its first record."""
    end_offset: int
    seconds: float
    """How long it has been open, at least."""
    reason: str

    @property
    def reason_params(self) -> ReasonParams:
        """The figures of the reason, for texts in other languages."""
        return {"stable": self.stable_offset, "end": self.end_offset, "seconds": self.seconds}


class FollowerPartition(Camel, frozen=True, kw_only=True):
    """A follower's position in one partition of a changelog."""

    topic: str
    partition: int
    position: int | None
    end_offset: int
    lag: int
    delay_seconds: float | None


class FollowerLag(Camel, frozen=True, kw_only=True):
    """A follower of changelogs in this worker: it has no group, its position lies with its data."""

    name: str
    caught_up: bool
    records_total: int
    waiting_for: str | None
    open_transaction: OpenTransactionLag | None = None
    """What holds it in a partition, and has done so for 10 s."""
    total_lag: int
    delay_seconds: float | None
    partitions: tuple[FollowerPartition, ...]


class LatencySummary(Camel, frozen=True, kw_only=True):
    """Event time to visible, over the last minute; events older than the worker's start are apart."""

    count: int
    average_seconds: float | None
    p50_seconds: float | None
    p99_seconds: float | None
    max_seconds: float | None
    window_seconds: float
    backlog_count: int
    alerts: tuple[Alert, ...] = ()


class DeadLetters(Camel, frozen=True, kw_only=True):
    """The dead-letter topic; `last_at` is when the newest record was written."""

    count: int | None
    last_at: datetime | None


class InvalidRecords(Camel, frozen=True, kw_only=True):
    """Records of a changelog partition that are no rows: read since the start of this worker, and left out."""

    topic: str
    partition: int
    count: int
    last_offset: int
    last_reason: str
    last_read_at: datetime


class BrokerState(Camel, frozen=True, kw_only=True):
    """The brokers as asked; the lists name topics of ours."""

    cluster_id: str | None
    brokers: int
    missing_topics: tuple[str, ...]
    offline_partitions: tuple[str, ...]
    under_replicated_partitions: int


class HistoryPoint(Camel, frozen=True, kw_only=True):
    """One second of the chart: totals over the ingesting group."""

    time: datetime
    total_lag: int
    max_lag_seconds: float | None
    produce_rate: float | None
    consume_rate: float | None


class Thresholds(Camel, frozen=True, kw_only=True):
    """From which figures the pages warn (settings)."""

    lag_messages: int
    sync_latency_seconds: float
    unsynced_seconds: float
    stale_after_seconds: float


class LagReport(Camel, frozen=True, kw_only=True):
    """One measurement of everything. With `error` set, the figures are those of `measured_at`."""

    measured_at: datetime | None
    error: str | None
    error_key: str = ""
    """Of `lag_rules.ERRORS`, with `error_params`: what the pages translate."""
    error_params: ReasonParams = {}
    age_seconds: float | None
    """Upper bound on how old an answer of this worker's read model was at `measured_at`."""
    severity: Severity
    thresholds: Thresholds
    brokers: BrokerState | None
    groups: tuple[GroupLag, ...]
    groups_left_out: int = 0
    """Groups of others that read these topics as well: ten of them are in `groups`, at most."""
    followers: tuple[FollowerLag, ...]
    open_transactions: tuple[OpenTransactionLag, ...] = ()
    """Of the changelogs, whoever follows them. Of the other topics, the groups' states say it."""
    dead_letters: DeadLetters | None
