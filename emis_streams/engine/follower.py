"""One follower of changelogs: for taking over partitions, for the read model, for the replica.

It reads changelogs in slices, keeps the highest version of each key of a slice, and hands rows and
position together to a sink. Its truth is the position that the sink keeps; "caught up" is judged by
position against the ends seen at the start, so control records and compacted ends do not matter.
What is no row (`row_filter.py`) is left out.
It follows a partition from its start when the kept position is outside the log or belongs to a topic
that was made anew; what was kept stays, and the versions decide.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata

from emis_streams.engine.answers_in_time import limit_answers
from emis_streams.engine.cluster import described
from emis_streams.engine.denied import DENIED
from emis_streams.engine.fetch import Fetched, fetch, gathering
from emis_streams.engine.open_transactions import OpenTransaction, OpenTransactions, holding
from emis_streams.engine.patience import Reminder, Waiting
from emis_streams.engine.row_filter import RESERVED_KEYS, RowFilter
from emis_streams.engine.starting import start
from emis_streams.engine.stopping import stop

logger = logging.getLogger(__name__)
T = TypeVar("T")

_LEAST_FETCH_BYTES = 1 << 20
_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
_TOPIC_ID_CHECK_SECONDS = 10.0
_SINK_CHECK_SECONDS = 5.0
_GROUP_COMMIT_SECONDS = 2.0
_TRANSACTIONS_LOOK_SECONDS = 1.0
_MAX_POLL_INTERVAL_MS = 24 * 60 * 60 * 1000
"""A sink that cannot be reached for long must not cost the group its partitions."""


class _SharedOutAnew(Exception):
    """The group takes partitions away and gives others while their positions are asked for."""


class PositionsChanged(Exception):
    """The sink's positions are not the ones it kept last (emptied, restored, another writer): ask again."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a sink has followed one partition."""

    next_offset: int
    topic_id: str
    """Id of the topic that the offset belongs to (a topic made anew has another one)."""


@dataclass(frozen=True, slots=True)
class ChangelogSlice:
    """Some consecutive records of one changelog partition, the highest version of each key."""

    tp: TopicPartition
    topic_id: str
    rows: dict[bytes, tuple[bytes, int]]
    """Row and record time (ms since 1970) by key; lower versions within the slice are left out."""
    next_offset: int
    n_records: int
    regressed: frozenset[bytes] = frozenset()
    """Keys whose last record in the slice is a lower version than one before it, or no row."""

    @property
    def position(self) -> Position:
        return Position(self.next_offset, self.topic_id)


class Sink(Protocol):
    """Where a follower writes. Rows and positions go together, or not at all."""

    async def positions(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        """Positions that are kept; partitions never followed are left out."""

    async def apply(self, slices: Sequence[ChangelogSlice]) -> None:
        """Keep the rows that win over what is kept, and the positions, in one batch.

        Without slices only look whether the positions are still the ones kept last (PositionsChanged).
        """

    async def reset(self, tp: TopicPartition) -> None:
        """The kept position is outside the log, or of another topic: forget it. What is kept may be the last copy."""


Merge = Callable[[bytes, bytes | None], bytes]
"""The row to keep, of one that comes later and the one that is kept (None: there is none)."""


def coalesce(fetched: Fetched, topic_id: str, merge: Merge, no_rows: Collection[int] = frozenset()) -> ChangelogSlice:
    """What `merge` keeps of the records of each key; those at the places `no_rows` are passed over."""
    records = fetched.records
    rows: dict[bytes, tuple[bytes, int]] = {} if no_rows else {r.key: (r.value, r.timestamp) for r in records}
    regressed: set[bytes] = set()
    if len(rows) != len(records) or _has_null_or_reserved(rows):
        rows, regressed = _coalesce_repeated(records, merge, no_rows)
    return ChangelogSlice(fetched.tp, topic_id, rows, fetched.end, len(records), frozenset(regressed))


def _has_null_or_reserved(rows: Mapping[Any, tuple[Any, int]]) -> bool:
    return None in rows or not RESERVED_KEYS.isdisjoint(rows) or any(row is None for row, _ in rows.values())


def _coalesce_repeated(
    records: Iterable[Any], merge: Merge, no_rows: Collection[int]
) -> tuple[dict[bytes, tuple[bytes, int]], set[bytes]]:
    rows: dict[bytes, tuple[bytes, int]] = {}
    regressed: set[bytes] = set()
    for place, record in enumerate(records):
        key, row = record.key, record.value
        if key is None or key in RESERVED_KEYS:
            continue
        if row is None or place in no_rows:
            regressed.add(key)
            continue
        kept, timestamp = rows.get(key, (None, record.timestamp))
        to_keep = merge(row, kept)
        if to_keep == row:
            rows[key] = (row, record.timestamp)
            regressed.discard(key)
        else:
            rows[key] = (to_keep, timestamp)
            regressed.add(key)
    return rows, regressed


@dataclass(kw_only=True)
class Follower:
    """Follows partitions of changelogs into a sink.

    Without `group` it reads all of `partitions`; with one, the group shares the partitions of
    `topics` among its members, and positions are committed there too, for the eyes of lag tools only.
    Errors of the sink that are of `wait_for` are waited out with backoff and jitter, with everything
    kept; all others end the follower.
    """

    name: str
    client: Mapping[str, Any] = field(repr=False)
    """Keyword arguments of every Kafka client: bootstrap servers, security."""
    sink: Sink
    merge: Merge | Mapping[str, Merge]
    """One rule for all topics, or the rule of each by its name."""
    partitions: Sequence[TopicPartition] = ()
    topics: Sequence[str] = ()
    group: str | None = None
    wait_for: tuple[type[Exception], ...] = ()
    slice_records: int = 500
    slice_bytes: int = 1_000_000
    sink_apply_seconds: float = 0.0
    """How long the sink may take for some slices by itself: it has a time-out of its own. See `standstill`."""
    sink_positions_seconds: float = 0.0
    """The same for its positions, which may change its schema or make indexes first."""
    linger_seconds: float = 0.04
    """How long the brokers let records gather when there is no backlog (`fetch.gathering`): each slice has a price."""
    check_cluster: Callable[[str], None] = lambda _id: None
    """Called with the cluster's id before anything of it is taken; raises what ends the follower."""
    row_filter: RowFilter = field(default_factory=RowFilter)
    """Says which records are rows, and counts the others."""
    past_transactions: bool = False
    """`catch_up` also waits for transactions that are open at its start: rows of others stand behind them."""
    on_level: Callable[[], None] = lambda: None
    """Called when the ends are reached that were seen at the start, or when positions were last asked for."""

    caught_up: bool = field(default=False, init=False)
    """Whether the ends seen at the start were reached; stays true."""
    records_total: int = field(default=0, init=False)
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict, init=False)
    last_progress: float = field(default_factory=time.monotonic, init=False)
    """Monotonic time of the last answer of the brokers that moved a position, or found all level."""

    _consumer: AIOKafkaConsumer = field(init=False, repr=False)
    _level: bool = field(default=False, init=False)
    _targets: dict[TopicPartition, int] = field(default_factory=dict, init=False)
    _assigned: Sequence[TopicPartition] | None = field(default=None, init=False)
    """What the group has given and is not followed yet."""
    _n_revoked: int = field(default=0, init=False)
    """How often the group has taken all partitions away, to share them out anew."""
    _topic_ids: dict[str, str] = field(default_factory=dict, init=False)
    _ids_checked: float = field(default=0.0, init=False)
    _group_committed: float = field(default=0.0, init=False)
    _group_commit: "asyncio.Task[None] | None" = field(default=None, init=False)
    _waiting: Waiting = field(init=False, repr=False)
    _sink_asked: tuple[float, float] | None = field(default=None, init=False)
    """Monotonic, since when the sink has not answered, and how long it may take; None: nothing is asked of it."""
    _sink_seen: float = field(default=0.0, init=False)
    _transactions: OpenTransactions = field(default_factory=OpenTransactions, init=False)
    _transactions_seen: float = field(default=0.0, init=False)
    _log_ends: dict[TopicPartition, int] = field(default_factory=dict, init=False)
    """The first high watermarks that fetches were answered with."""
    _reminder: Reminder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._waiting = Waiting(lambda text: logger.warning("%s: %s", self.name, text))
        self._reminder = Reminder(lambda text: logger.warning("%s: %s", self.name, text))

    @property
    def waiting_for(self) -> str | None:
        """What cannot be reached now; None if nothing is waited for."""
        return self._waiting.reason

    @property
    def open_transaction(self) -> OpenTransaction | None:
        """What holds it at the last stable offset of a partition, and has done so for a while; None: nothing."""
        return self._transactions.longest(time.monotonic())

    def sink_unanswered_seconds(self, now: float) -> float:
        """For how long the sink has not answered what was asked of it last, by a monotonic time."""
        asked = self._sink_asked
        return 0.0 if asked is None else now - asked[0]

    def standstill(self, now: float, limit_seconds: float) -> str | None:
        """Why nothing is kept for longer than the limit, by a monotonic time; None: the sink answers (with errors too).

        For `App.standstills`.
        """
        asked = self._sink_asked
        if asked is None or now - asked[0] <= limit_seconds + asked[1]:
            return None
        return f"the sink of {self.name} has not answered for {now - asked[0]:.0f} s"

    async def follow(self) -> None:
        """Follows for ever (until cancelled)."""
        try:
            await self._start()
            while True:
                await self._step()
        finally:
            await self._stop()

    async def catch_up(self) -> None:
        """Follows to the ends seen at the start: of what is stable, unless it is to read `past_transactions`."""
        try:
            await self._start()
            while not (self.caught_up and self._is_past_transactions()):
                await self._step()
        finally:
            await self._stop()

    def topic_id(self, tp: TopicPartition) -> str:
        return self._topic_ids[tp.topic]

    async def _start(self) -> None:
        self._consumer = AIOKafkaConsumer(
            **{"client_id": self.name, **self.client},
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="none" if self.group is None else "earliest",
            isolation_level="read_committed",
            **gathering(self.linger_seconds),
            max_partition_fetch_bytes=max(self.slice_bytes, _LEAST_FETCH_BYTES),
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            # A topic that was missing when the group shared out is asked for again only then (aiokafka: 5 minutes).
            metadata_max_age_ms=round(1000 * _TOPIC_ID_CHECK_SECONDS),
        )
        limit_answers(self._consumer._client, _ANSWER_SECONDS)
        await self._waiting.for_(lambda: start(self._consumer), KafkaError)
        if self.group is not None:
            self._consumer.subscribe(list(self.topics), listener=_GroupListener(self))
            return
        self._consumer.assign(list(self.partitions))
        await self.position(self.partitions)

    async def position(self, tps: Iterable[TopicPartition]) -> None:
        """Seeks to where the sink is, or to the start of the log where its position is not valid (any more).

        Gives up once the group shares out anew: what it gives then is asked for by itself.
        """
        tps, n_revoked = list(tps), self._n_revoked
        try:
            await self._waiting.for_(lambda: self._position(tps, n_revoked), KafkaError, *self.wait_for)
        except _SharedOutAnew:
            logger.info("%s: the group shared out anew while positions were asked for", self.name)

    async def _position(self, tps: list[TopicPartition], n_revoked: int) -> None:
        if not tps:
            self._note_caught_up()
            return
        # The log is asked after the sink: another member, or a topic made anew, may have moved a position since.
        kept = await self._of_sink(self.sink.positions(tps), self.sink_positions_seconds)
        for name, topic in (await described(self._consumer._client, {tp.topic for tp in tps})).items():
            self.check_cluster(topic.cluster_id)
            self._topic_ids[name] = topic.id
        begins = await self._consumer.beginning_offsets(tps)
        ends = await self._consumer.end_offsets(tps)
        outside = [tp for tp, at in kept.items() if not self._is_valid(tp, at, begins[tp], ends[tp])]
        for tp in outside:
            self._check_still_ours(n_revoked)
            logger.warning("%s: position %s of %s is outside the log: following its start", self.name, kept[tp], tp)
            await self._of_sink(self.sink.reset(tp), self.sink_positions_seconds)
        if outside:
            kept = await self._of_sink(self.sink.positions(tps), self.sink_positions_seconds)
        self._check_still_ours(n_revoked)
        for tp in tps:
            start = kept[tp].next_offset if tp in kept else begins[tp]
            self._consumer.seek(tp, start)
            self.next_offsets[tp] = start
            self._targets[tp] = ends[tp]
        self._log_ends.clear()
        self._level = False
        self._note_caught_up()

    async def _of_sink(self, answer: Awaitable[T], seconds: float) -> T:
        """The sink's answer, which may take so long by itself."""
        self._sink_asked = time.monotonic(), seconds
        try:
            return await answer
        finally:
            self._sink_asked = None

    def _check_still_ours(self, n_revoked: int) -> None:
        if n_revoked != self._n_revoked:
            raise _SharedOutAnew

    async def _position_again(self) -> None:
        """Asks again for the positions of what is followed; of nothing, if the group is sharing out just now."""
        if self.next_offsets:
            await self.position(self.next_offsets)

    def _is_valid(self, tp: TopicPartition, at: Position, begin: int, end: int) -> bool:
        return at.topic_id == self._topic_ids[tp.topic] and begin <= at.next_offset <= end

    async def _step(self) -> None:
        if self._assigned is not None:
            assigned, self._assigned = self._assigned, None
            await self.position(assigned)
        try:
            fetched = await self._fetch()
        except DENIED:
            fetched = await self._fetch_when_granted()
        except OffsetOutOfRangeError:
            await self._position_again()
            return
        if fetched:
            await self._apply([self._coalesced(f) for f in fetched])
        await self._check_topic_ids()
        await self._look_at_sink()
        self._look_at_transactions()
        self._show_to_group()

    def _coalesced(self, fetched: Fetched) -> ChangelogSlice:
        topic = fetched.tp.topic
        topic_id = self._topic_ids[topic]
        merge = self.merge[topic] if isinstance(self.merge, Mapping) else self.merge
        return coalesce(fetched, topic_id, merge, self.row_filter.places(fetched, topic_id))

    async def _fetch(self) -> list[Fetched]:
        if self.group is not None:
            self._consumer._coordinator.check_errors()  # It waits for ever to be asked, and does not join meanwhile.
        n_revoked = self._n_revoked
        return await fetch(
            self._consumer._fetcher,
            set(self.next_offsets),
            _POLL_SECONDS,
            self.slice_records,
            self.slice_bytes,
            is_wanted=lambda: n_revoked == self._n_revoked,
        )

    async def _fetch_when_granted(self) -> list[Fetched]:
        """A grant that is missing costs no reader: what was copied so far goes on to answer."""
        fetched: list[Fetched] = []

        async def fetch_again() -> None:
            fetched[:] = await self._fetch()

        await self._waiting.for_(fetch_again, *DENIED)
        return fetched

    async def _apply(self, slices: list[ChangelogSlice]) -> None:
        if not await self._keep(slices):
            return
        for part in slices:
            if part.tp in self.next_offsets:
                self.next_offsets[part.tp] = part.next_offset
            self.records_total += part.n_records
        self.last_progress = time.monotonic()
        if self.next_offsets:  # Else the group has taken them away meanwhile.
            self._note_caught_up()

    async def _keep(self, slices: list[ChangelogSlice]) -> bool:
        self._sink_seen = time.monotonic()
        try:
            await self._waiting.for_(
                lambda: self._of_sink(self.sink.apply(slices), self.sink_apply_seconds), *self.wait_for
            )
        except PositionsChanged as reason:
            logger.warning("%s: %s; following again from the kept positions", self.name, reason)
            await self._position_again()
            return False
        return True

    async def _look_at_sink(self) -> None:
        """A sink that is emptied or restored is filled again, also while nothing new comes."""
        if self.next_offsets and time.monotonic() - self._sink_seen >= _SINK_CHECK_SECONDS:
            await self._keep([])

    def _look_at_transactions(self) -> None:
        now = time.monotonic()
        if now - self._transactions_seen < _TRANSACTIONS_LOOK_SECONDS:
            return
        self._transactions_seen = now
        self._transactions.note(holding(self._consumer, self.next_offsets), now)
        if self._transactions.all(now):
            self.last_progress = now  # The brokers answer: there is nothing more to be read.
        longest = self._transactions.longest(now)
        self._reminder.note("" if longest is None else longest.in_words())

    def _is_past_transactions(self) -> bool:
        """Whether the ends of the logs are reached, whatever was stable then."""
        return not self.past_transactions or all(self._is_at_log_end(tp, at) for tp, at in self.next_offsets.items())

    def _is_at_log_end(self, tp: TopicPartition, position: int) -> bool:
        end = self._consumer.highwater(tp)
        return end is not None and position >= min(end, self._log_ends.setdefault(tp, end))

    def _note_caught_up(self) -> None:
        if self._level or any(at < self._targets[tp] for tp, at in self.next_offsets.items()):
            return
        self._level = self.caught_up = True
        logger.info("%s: caught up, %d records", self.name, self.records_total)
        self.on_level()

    async def _check_topic_ids(self) -> None:
        """A topic that was deleted and made anew may already be as long as the old one was."""
        now = time.monotonic()
        if not self.next_offsets or now - self._ids_checked < _TOPIC_ID_CHECK_SECONDS:
            return
        self._ids_checked = now
        try:
            topics = await described(self._consumer._client, {tp.topic for tp in self.next_offsets})
        except KafkaError as error:
            logger.debug("%s: topic ids not checked: %r", self.name, error)
            return
        if any(topic.id != self._topic_ids[name] for name, topic in topics.items()):
            await self._position_again()

    def _show_to_group(self) -> None:
        """Commits the positions now and then, without waiting: nothing of ours rests on it."""
        now = time.monotonic()
        if self.group is None or not self.next_offsets or now - self._group_committed < _GROUP_COMMIT_SECONDS:
            return
        if self._group_commit is None or self._group_commit.done():
            self._group_committed = now
            self._group_commit = asyncio.create_task(self._commit_to_group(dict(self.next_offsets)))

    async def _commit_to_group(self, offsets: dict[TopicPartition, int]) -> None:
        try:
            await self._consumer.commit({tp: OffsetAndMetadata(at, "") for tp, at in offsets.items()})
        except (KafkaError, IllegalStateError) as error:
            logger.debug("%s: position not shown to the group: %r", self.name, error)

    async def _stop(self) -> None:
        if self._group_commit is not None:
            self._group_commit.cancel()
        await stop(self._consumer)


class _GroupListener(ConsumerRebalanceListener):
    """Tells the follower what is its share; it asks the sink for their positions, not the group.

    The follower does that itself, not this call: one position is asked for at a time, what fails there ends the
    follower (aiokafka only logs it here), and a database that is away does not keep the others of the group waiting.
    """

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._follower._n_revoked += 1
        self._follower._assigned = None
        self._follower.next_offsets.clear()
        self._follower._targets.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._follower._assigned = list(assigned)
