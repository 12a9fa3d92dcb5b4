"""The shapes of `/health`, `/readyz` and `/info` (camelCase JSON, `docs/openapi.yaml`).

The second seed's fields stand on top; `checks` follow draft-inadarei-api-health-check-06. What a
check says comes three times: `output` in English, `outputKey` and `outputParams` for translation.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from emis_streams.lag_report import Camel, HistoryPoint, InvalidRecords, LagReport, LatencySummary, ReasonParams

Health = Literal["healthy", "degraded", "unhealthy"]
CheckStatus = Literal["pass", "warn", "fail"]
ComponentType = Literal["component", "datastore", "system"]

CANNOT_BE_TOLD = frozenset(
    {
        *("brokers.not_asked", "tables.unknown", "dead_letters.unknown", "latency.waiting", "latency.unknown"),
        *("reason.end_unknown", "reason.no_partitions"),
    }
)
"""Keys of what checks say when they do not know: grey on pages, whatever their status is to programs."""
NOTHING_TO_TELL = frozenset({"latency.none", "clock.unknown"})
"""Grey as well, and no reason to doubt the rest."""
NOT_KNOWN = CANNOT_BE_TOLD | NOTHING_TO_TELL


class Memory(Camel, frozen=True, kw_only=True):
    """Bytes of this process, against what it may use."""

    used: int
    total: int
    percentage: float


class Cpu(Camel, frozen=True, kw_only=True):
    """Per cent of the CPU that this process may use."""

    usage: float


class Check(Camel, frozen=True, kw_only=True):
    """One part: whether it does its work, and what it means for whom."""

    component_type: ComponentType
    status: CheckStatus
    observed_value: float | int | str | None
    observed_unit: str | None
    time: datetime
    output: str
    output_key: str
    output_params: ReasonParams
    affected_endpoints: tuple[str, ...] = ()
    """Only while the check does not pass."""
    since: datetime | None = None
    """Since when it says so, as far as this worker has seen; null if it was not seen yet."""
    links: dict[str, str] = msgspec.field(default_factory=dict)
    """`help`: address of the runbook's entry that says what to do; empty while all is well."""


class HealthChange(Camel, frozen=True, kw_only=True):
    """One change of a check's state; `part` is the check, or `process` for a start of the worker."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    part: str
    before: CheckStatus | None
    """Null: nothing was known of it before."""
    after: CheckStatus
    output: str
    output_key: str
    output_params: ReasonParams


class HealthChanges(Camel, frozen=True, kw_only=True):
    """`GET /health/journal`: the newest first, 200 at most; kept over restarts."""

    changes: tuple[HealthChange, ...]


class HealthReport(Camel, frozen=True, kw_only=True):
    """`GET /health`: 200 healthy and degraded, 503 unhealthy."""

    status: Health
    timestamp: datetime
    uptime: float
    """Seconds."""
    memory: Memory
    cpu: Cpu
    version: str
    roles: tuple[str, ...]
    checks: dict[str, Check]


class ReadyReport(Camel, frozen=True, kw_only=True):
    """`GET /readyz` and `/startupz`: 200 ready, 503 not ready."""

    status: Literal["ready", "not-ready"]
    reasons: tuple[str, ...]
    """What is waited for."""
    warnings: tuple[str, ...]


class LiveReport(Camel, frozen=True, kw_only=True):
    """`GET /livez`: whoever reads this got it from a loop that runs."""

    status: Literal["alive"]
    timestamp: datetime


class InfoReport(Camel, frozen=True, kw_only=True):
    """`GET /info`."""

    name: str
    version: str
    git_commit: str | None
    python_version: str
    faust_version: str
    roles: tuple[str, ...]
    group_ids: tuple[str, ...]
    topics: tuple[str, ...]
    changelogs: tuple[str, ...]
    dead_letter_topic: str
    started_at: datetime
    uptime: float


class ConsumerLag(LagReport, frozen=True, kw_only=True):
    """`GET /api/consumer-lag`: a lag report, the sync latencies of this worker, and the trend."""

    sync_latency: dict[str, LatencySummary]
    invalid_records: tuple[InvalidRecords, ...]
    """Partitions of changelogs that hold records that are no rows: see `emis-streams changelogs check`."""
    history: tuple[HistoryPoint, ...]
