"""Which entry of the runbook says what to do about a state. Every state that is not well has one; a test sees to it."""

from emis_streams.lag_report import State

_CATCHES_UP = "a-worker-catches-up"
_LAG = "consumer-lag-grows"
_KAFKA = "kafka-is-away"
_NOBODY = "no-worker-reads"
_TRANSACTION = "an-open-transaction-holds-a-partition"
_MOVED = "a-group-was-moved"
_LOST = "records-were-lost-to-retention"
_TOPICS = "topics-are-missing"

OF_LAG_STATE: dict[State, str] = {
    "CATCHING_UP": _CATCHES_UP,
    "BEHIND": _LAG,
    "STALLED": "a-group-has-stalled",
    "OPEN_TRANSACTION": _TRANSACTION,
    "STOPPED": _NOBODY,
    "REWIND": _MOVED,
    "NEVER_COMMITTED": _NOBODY,
    "LOST": _LOST,
    "AHEAD": _MOVED,
    "UNKNOWN": _TOPICS,
}
"""Of a partition or a group."""

OF_CHECK: dict[str, str] = {
    "brokers.not_asked": _KAFKA,
    "brokers.unreachable": _KAFKA,
    "brokers.unreachable_alone": _KAFKA,
    "brokers.missing": _TOPICS,
    "brokers.offline": _KAFKA,
    "brokers.under_replicated": _KAFKA,
    "tables.nobody": _NOBODY,
    "tables.rebalancing": _CATCHES_UP,
    "tables.catching_up": _CATCHES_UP,
    "tables.waiting": _TOPICS,
    "tables.lost": _LOST,
    "tables.unknown": _KAFKA,
    "read_model.behind": "data-seems-outdated",
    "read_model.catching_up": _CATCHES_UP,
    "read_model.stalled": _KAFKA,
    "read_model.catching_up_alone": _CATCHES_UP,
    "read_model.waiting": _KAFKA,
    "read_model.open_transaction": _TRANSACTION,
    "replica.behind": _LAG,
    "replica.catching_up": _CATCHES_UP,
    "replica.waiting": "the-database-is-away",
    "replica.stalled": "the-database-is-away",
    "replica.open_transaction": _TRANSACTION,
    "replica.nobody": _NOBODY,
    "dead_letters.recent": "events-were-rejected",
    "dead_letters.unknown": _KAFKA,
    "changelogs.recent": "records-of-changelogs-that-are-no-rows",
    "lag.over": _LAG,
    "lag.unsynced": "data-seems-outdated",
    "latency.over": "events-become-visible-late",
    "latency.waiting": _LAG,
    "latency.unknown": _KAFKA,
    "clock.ahead": "a-machines-clock-is-wrong",
    "clock.behind": "a-machines-clock-is-wrong",
    "progress.none": "no-progress",
    "memory.high": "memory-is-short",
    "reason.no_partitions": _TOPICS,
    "reason.shrinking": _CATCHES_UP,
    "reason.growing": _LAG,
    "reason.steady": _LAG,
    "reason.trend_unknown": _LAG,
    "reason.stalled": "a-group-has-stalled",
    "reason.open_transaction": _TRANSACTION,
    "reason.stopped": _NOBODY,
    "reason.rewind": _MOVED,
    "reason.never_committed": _CATCHES_UP,
    "reason.never_committed_stopped": _NOBODY,
    "reason.lost": _LOST,
    "reason.ahead": _MOVED,
    "reason.end_unknown": _TOPICS,
}
"""By the key of what a check of health says."""

OF_FIGURE: dict[str, str] = {
    "consumerLag": _LAG,
    "age": "data-seems-outdated",
    "syncLatency": "events-become-visible-late",
    "deadLetters": "events-were-rejected",
}
OF_FOLLOWER: dict[str, str] = {"replica": "the-database-is-away", "read-model": _KAFKA}
"""Of one that waits."""
FOLLOWER_CATCHES_UP = _CATCHES_UP
CHANGELOGS = "records-of-changelogs-that-are-no-rows"
BROKERS = _KAFKA
SERVICE = "a-service-is-missing"
BREAKER = "a-circuit-breaker-is-open"
EXTRA = (SERVICE, BREAKER)
