"""Which entry of the runbook says what to do about a state. Every state that is not well has one; a test sees to it."""

from emis_streams.health_report import NOT_KNOWN, CheckStatus
from emis_streams.lag_report import State

_CATCHES_UP = "a-worker-catches-up"
_LAG = "consumer-lag-grows"
_KAFKA = "kafka-is-away"
_NOBODY = "no-worker-reads"
_TRANSACTION = "an-open-transaction-holds-a-partition"
_MOVED = "a-group-was-moved"
_LOST = "records-were-lost-to-retention"
_TOPICS = "topics-are-missing"
_STALLED = "a-group-has-stalled"
_OLD = "data-seems-outdated"
_LATE = "events-become-visible-late"
_REJECTED = "events-were-rejected"
_INVALID = "records-of-changelogs-that-are-no-rows"
_DATABASE = "the-database-is-away"
_CLOCK = "a-machines-clock-is-wrong"
_PROGRESS = "no-progress"
_MEMORY = "memory-is-short"

OF_LAG_STATE: dict[State, str] = {
    "CATCHING_UP": _CATCHES_UP,
    "BEHIND": _LAG,
    "STALLED": _STALLED,
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
    "brokers.no_broker": _KAFKA,
    "brokers.no_broker_alone": _KAFKA,
    "brokers.refused": _KAFKA,
    "brokers.refused_alone": _KAFKA,
    "brokers.missing": _TOPICS,
    "brokers.offline": _KAFKA,
    "brokers.under_replicated": _KAFKA,
    "tables.nobody": _NOBODY,
    "tables.rebalancing": _CATCHES_UP,
    "tables.catching_up": _CATCHES_UP,
    "tables.waiting": _TOPICS,
    "tables.lost": _LOST,
    "tables.unknown": _KAFKA,
    "read_model.behind": _OLD,
    "read_model.catching_up": _CATCHES_UP,
    "read_model.stalled": _KAFKA,
    "read_model.catching_up_alone": _CATCHES_UP,
    "read_model.waiting": _KAFKA,
    "read_model.open_transaction": _TRANSACTION,
    "replica.behind": _LAG,
    "replica.catching_up": _CATCHES_UP,
    "replica.waiting": _DATABASE,
    "replica.stalled": _DATABASE,
    "replica.open_transaction": _TRANSACTION,
    "replica.nobody": _NOBODY,
    "dead_letters.recent": _REJECTED,
    "dead_letters.unknown": _KAFKA,
    "changelogs.recent": _INVALID,
    "lag.over": _LAG,
    "lag.unsynced": _OLD,
    "latency.over": _LATE,
    "latency.waiting": _LAG,
    "latency.unknown": _KAFKA,
    "latency.none": _LATE,
    "clock.unknown": _CLOCK,
    "clock.ahead": _CLOCK,
    "clock.behind": _CLOCK,
    "progress.none": _PROGRESS,
    "memory.high": _MEMORY,
    "reason.no_partitions": _TOPICS,
    "reason.shrinking": _CATCHES_UP,
    "reason.growing": _LAG,
    "reason.steady": _LAG,
    "reason.trend_unknown": _LAG,
    "reason.stalled": _STALLED,
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
    "age": _OLD,
    "syncLatency": _LATE,
    "deadLetters": _REJECTED,
}
OF_FOLLOWER: dict[str, str] = {"replica": _DATABASE, "read-model": _KAFKA}
"""Of one that waits."""
FOLLOWER_CATCHES_UP = _CATCHES_UP
CHANGELOGS = _INVALID
BROKERS = _KAFKA
SERVICE = "a-service-is-missing"
BREAKER = "a-circuit-breaker-is-open"
GROUP_OF_OTHERS = "a-group-of-others-is-behind"
EXTRA = (SERVICE, BREAKER, GROUP_OF_OTHERS)

OF_SERVICE_CHECK: dict[str, str] = {
    "service.brokers": _KAFKA,
    "service.database": _DATABASE,
    "service.outbox": _KAFKA,
    "service.clock": _CLOCK,
    "service.circuitBreakers": BREAKER,
    "service.consumerLag": _KAFKA,
    "service.changelogs": _INVALID,
    "service.progress": _PROGRESS,
    "service.memory": _MEMORY,
}
"""By the key of what a check of a service says."""


def topic_of_check(status: CheckStatus, output_key: str) -> str | None:
    """What to do about what a check says; None if it is well, or a check of a service's own."""
    if status == "pass" and output_key not in NOT_KNOWN:
        return None
    return OF_CHECK.get(output_key) or OF_SERVICE_CHECK.get(output_key)


def help_links(topic: str | None) -> dict[str, str]:
    """The links of a check in JSON: `help`, the address of the entry."""
    return {} if topic is None else {"help": f"/help/{topic}"}
