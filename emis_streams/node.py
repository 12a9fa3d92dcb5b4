"""What one worker is made of, as its pages see it. Put together by `worker.py`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from emis_streams.broker_clock import BrokerClock
from emis_streams.engine.open_transactions import OpenTransaction
from emis_streams.health_journal import HealthJournal
from emis_streams.health_report import Health
from emis_streams.instance_tracker import InstanceTracker
from emis_streams.invalid_records import merged
from emis_streams.settings import Role, Settings

if TYPE_CHECKING:
    from emis_streams.lag import LagMonitor
    from emis_streams.lag_report import InvalidRecords
    from emis_streams.read_model.model import ReadModel
    from emis_streams.read_model.user_rows import UserRows
    from emis_streams.replica.reader import ReplicaReader
    from emis_streams.services.service import Service
    from emis_streams.sync_latency import SyncLatency


@dataclass(frozen=True)
class FollowerStatus:
    """A follower of changelogs as health and lag pages show it."""

    name: str
    """`read-model` or `replica`."""
    caught_up: bool
    """Whether the end seen at the start was reached; once true it stays true."""
    positions: dict[tuple[str, int], int]
    """Next offset by changelog topic and partition."""
    records_total: int
    waiting_for: str | None
    """Reason, while it deliberately waits for something that cannot be reached."""
    invalid_records: "Sequence[InvalidRecords]" = ()
    """Records of the changelogs that were no rows, and left out, by partition."""
    open_transaction: OpenTransaction | None = None
    """What has held it at a last stable offset for a while: the longest."""
    idle_seconds: float = 0.0
    """Since a position moved last, also while there is nothing to be read."""

    @property
    def waits_for(self) -> str | None:
        """What it waits for, in words: what cannot be reached, or the end of a transaction. None: nothing."""
        if self.waiting_for is None and self.open_transaction is not None:
            return self.open_transaction.in_words()
        return self.waiting_for

    @property
    def invalid_records_total(self) -> int:
        return sum(one.count for one in self.invalid_records)


class Follows(Protocol):
    def status(self) -> FollowerStatus: ...


@dataclass(frozen=True)
class IngestStatus:
    """The ingesting side of a worker."""

    assigned: frozenset[tuple[str, int]]
    """Source partitions (topic, partition) that it owns now."""
    caught_up: bool
    """Whether its tables were caught up at least once since the start."""
    rebalancing: bool
    waits_for: str | None
    """Why nothing is read, or what is wrong with the topics; None: nothing."""
    events_total: int
    superseded_total: int
    """Events that lost against a higher version that was there already."""
    clock_skew_total: int
    """Of those, the ones older than one of the same key on the same topic."""
    refused_total: int
    """Records sent to the dead-letter topic."""
    misplaced_total: int
    """Records whose partition is not murmur2(key) % n: their producer uses another partitioner."""
    unknown_fields_total: int
    set_by_others_total: int
    """Partitions that went on where another program had set the group: what it was set over was never read."""
    lost_to_retention: dict[tuple[str, int], int]
    """Records that the log no longer had when this worker took the partition over: ask for `sync`."""
    invalid_records: "Sequence[InvalidRecords]" = ()
    """Records of the own changelogs that were no rows, and left out, by partition."""

    @property
    def invalid_records_total(self) -> int:
        return sum(one.count for one in self.invalid_records)


class Ingests(Protocol):
    def status(self) -> IngestStatus: ...


@dataclass
class Node:
    """The parts of this worker; a part that its roles do not need is None."""

    settings: Settings
    roles: frozenset[Role]
    read_model: "ReadModel | None" = None
    user_rows: "UserRows | None" = None
    """Of the services that hear of lessons: their local copy."""
    read_model_follower: Follows | None = None
    replica_follower: Follows | None = None
    reader: "ReplicaReader | None" = None
    lag: "LagMonitor | None" = None
    ingest: Ingests | None = None
    service: "Service | None" = None
    """What this process is to the other services."""
    sync_latency: "dict[str, SyncLatency]" = field(default_factory=dict)
    """Event time to visible, by the follower's name; the followers feed it."""
    journal: HealthJournal = field(default_factory=HealthJournal)
    """Which check of health changed its state when."""
    health: Health | None = None
    """By the checks of this process; None until they are made for the first time."""
    health_since: datetime | None = None
    """Since when it is not healthy; None while it is."""
    clock: BrokerClock = field(default_factory=BrokerClock)
    standstill: Callable[[], str | None] = lambda: None
    """What makes no progress though it should, as the watchdog sees it; None: nothing."""
    instances: InstanceTracker = field(default_factory=InstanceTracker)
    """Which workers and services there are, and since when one is missing."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)

    @property
    def uptime_seconds(self) -> float:
        return time.monotonic() - self.began

    def now(self) -> datetime:
        """The time by the brokers' clock, as far as it is known."""
        return datetime.fromtimestamp(self.clock.unix_seconds(), UTC)

    def invalid_records(self) -> "tuple[InvalidRecords, ...]":
        """What tables, local copy and replica have met in changelogs; each partition once, as who met most there."""
        readers = (self.ingest, self.read_model_follower, self.replica_follower)
        return merged(one for reader in readers if reader is not None for one in reader.status().invalid_records)


NODE: web.AppKey[Node] = web.AppKey("node", Node)
"""Where aiohttp handlers find it: `request.app[NODE]`."""
