"""One look at the brokers: which groups, topics and offsets there are, and how old unread records are."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from aiokafka import TopicPartition

from emis_streams import topics
from emis_streams.broker_clock import BrokerClock
from emis_streams.brokers import ABSENT, OFFSETS_TOPIC, Brokers, GroupFacts, TopicFacts
from emis_streams.lag_foreign_groups import ForeignGroups

TOPICS_EVERY_SECONDS = 10.0
RECORDS_PER_LOOK = 16
"""How many records are read at one look, of partitions whose position moves."""
RECORD_RETRY_SECONDS = 10.0
"""How often a record that could not be read is asked for again (all after it may be control records)."""

Offset = tuple[TopicPartition, int]


@dataclass(frozen=True)
class Watched:
    """Which topics are ours, and which groups are shown even if the brokers do not know them."""

    ingest_group: str
    replica_group: str | None
    sources: tuple[str, ...]
    changelogs: tuple[str, ...]
    dead_letter: str | None
    expected: frozenset[str]
    requests: tuple[str, ...] = ()
    """Shown as far as a group has committed there or reads it; not missed."""

    @property
    def own(self) -> set[str]:
        """Groups that are looked at every second."""
        replica = set() if self.replica_group is None else {self.replica_group}
        return {self.ingest_group, *replica, *self.expected}

    @property
    def topics(self) -> tuple[str, ...]:
        return (*self.sources, *self.changelogs, *((self.dead_letter,) if self.dead_letter else ()))

    def topics_of(self, group: str) -> tuple[str, ...]:
        """Topics of which every partition is the group's business, committed or not."""
        if group == self.ingest_group:
            return self.sources
        return self.changelogs if group == self.replica_group else ()


def watched(replicates: bool) -> Watched:
    """What a worker watches; a replica group that nobody runs is not missed."""
    return Watched(
        ingest_group=topics.APP_ID,
        replica_group=topics.REPLICA_GROUP,
        sources=tuple(t.name for t in topics.source_topics()),
        changelogs=tuple(t.name for t in topics.changelog_topics()),
        dead_letter=topics.DEAD_LETTER,
        expected=frozenset({topics.APP_ID, topics.REPLICA_GROUP} if replicates else {topics.APP_ID}),
    )


def watched_by(service: str) -> Watched:
    """What a service reads as a group: events of others, or else requests. Its local copies follow without one."""
    heard = [subject for subject in topics.LESSON_SUBJECTS if subject.service == service]
    group = topics.app_id(service)
    return Watched(
        ingest_group=group,
        replica_group=None,
        sources=tuple(name for subject in heard for name in subject.events) or (topics.request_topic(service),),
        changelogs=tuple(subject.changelog for subject in heard),
        dead_letter=topics.DEAD_LETTER,
        expected=frozenset({group}),
        requests=(topics.request_topic(service),),
    )


def watched_requests(service: str) -> Watched:
    """What a service that answers requests watches itself: it may write dead letters, and need not read them."""
    return replace(watched_by(service), dead_letter=None)


@dataclass(frozen=True)
class Measurement:
    """What the brokers said. Committed offsets were asked before ends, as the Kafka tools do."""

    at: float
    """Monotonic seconds, before the ends were asked."""
    unix_at: float
    """The same moment by the brokers' clock, as far as it is known."""
    cluster_id: str | None
    n_brokers: int
    topics: dict[str, TopicFacts]
    groups: dict[str, GroupFacts]
    """Their positions in our topics."""
    n_groups_left_out: int
    """Groups of others that read our topics, too, and are not in `groups`."""
    ends: dict[TopicPartition, int]
    earliest: dict[TopicPartition, int]


@dataclass
class Asking:
    """Asks the brokers, and remembers between two looks what need not be asked every second."""

    brokers: Brokers
    watched: Watched
    clock: BrokerClock
    _cluster_id: str | None = None
    _n_brokers: int = 0
    _topics: dict[str, TopicFacts] = field(default_factory=dict)
    _topics_asked_at: float = float("-inf")
    _foreign: ForeignGroups = field(default_factory=ForeignGroups)

    async def measure(self) -> Measurement:
        """Raises one of `brokers.UNREACHABLE`."""
        if time.monotonic() - self._topics_asked_at >= TOPICS_EVERY_SECONDS:
            self._cluster_id, self._n_brokers = await self.brokers.cluster()
            self._topics = await self.brokers.topics()
            self._topics_asked_at = time.monotonic()
        groups = await self._groups()
        tps = self._partitions(groups)
        at, unix_at = time.monotonic(), self.clock.unix_seconds()
        ends = await self.brokers.end_offsets(tps)
        earliest = await self.brokers.earliest_offsets(tps)
        cluster = self._cluster_id, self._n_brokers, self._topics
        return Measurement(at, unix_at, *cluster, groups, self._foreign.n_left_out, ends, earliest)

    async def _groups(self) -> dict[str, GroupFacts]:
        expected = dict.fromkeys(self.watched.expected, ABSENT)
        if OFFSETS_TOPIC not in self._topics:
            self._topics_asked_at = float("-inf")  # a cluster in which no group ever was: look again soon
            return expected
        own, now = self.watched.own, time.monotonic()
        if self._foreign.is_due(now):
            self._foreign.begin_round(await self.brokers.group_names() - own, now)
        found = await self.brokers.groups(sorted(own | self._foreign.to_look_at()))
        facts = {name: self._of_our_topics(group) for name, group in found.items()}
        readers = {name: group for name, group in facts.items() if group.committed or group.owners}
        self._foreign.note({name: group for name, group in readers.items() if name not in own})
        shown = own | self._foreign.shown
        asked = {name: group for name, group in facts.items() if name in self.watched.expected}
        return expected | asked | {name: group for name, group in readers.items() if name in shown}

    def _of_our_topics(self, group: GroupFacts) -> GroupFacts:
        """What it does elsewhere is not shown: anybody can commit offsets of any topics for any group."""
        ours = {*self.watched.topics, *self.watched.requests}
        committed = {tp: offset for tp, offset in group.committed.items() if tp.topic in ours}
        return replace(group, committed=committed, owners={t: o for t, o in group.owners.items() if t.topic in ours})

    def _partitions(self, groups: Mapping[str, GroupFacts]) -> list[TopicPartition]:
        """Partitions with a leader: of our topics, and of requests that groups read."""
        named = {tp.topic for g in groups.values() for tp in (*g.committed, *g.owners)}
        wanted = named.union(self.watched.topics)
        if not wanted <= self._topics.keys():
            self._topics_asked_at = float("-inf")
        return [
            TopicPartition(topic, partition)
            for topic in sorted(wanted & self._topics.keys())
            for partition in self._topics[topic].partitions
            if partition not in self._topics[topic].offline
        ]


def partitions_of(group: str, m: Measurement, watched: Watched) -> list[TopicPartition]:
    """Every partition that a group has to do with, sorted."""
    facts = m.groups[group]
    expected = {
        TopicPartition(topic, partition)
        for topic in watched.topics_of(group)
        if topic in m.topics
        for partition in m.topics[topic].partitions
    }
    return sorted(expected.union(facts.committed, facts.owners))


class RecordTimes:
    """Times of records, asked once: a position that stands still costs nothing.

    Of positions that move only some are asked at each look; until their turn comes, the time of an
    earlier record of the partition stands in, which makes the lag no smaller than it is.
    """

    def __init__(self) -> None:
        self._known: dict[Offset, tuple[float | None, float]] = {}
        self._last: dict[TopicPartition, tuple[int, float, float]] = {}

    async def look_up(self, brokers: Brokers, wanted: Iterable[Offset]) -> None:
        """Make `at` answer for these, and forget all others; raises one of `brokers.UNREACHABLE`."""
        now = time.monotonic()
        wanted = set(wanted)
        tps = {tp for tp, _ in wanted}
        self._last = {tp: last for tp, last in self._last.items() if tp in tps}
        self._known = {
            key: (found, asked_at)
            for key, (found, asked_at) in self._known.items()
            if key in wanted and (found is not None or now - asked_at < RECORD_RETRY_SECONDS)
        }
        missing = self._chosen(wanted - self._known.keys())
        while missing:  # a partition can be looked at in one place at a time
            asked = dict(missing)
            self._remember(asked, await brokers.timestamps(asked), now)
            missing -= set(asked.items())

    def _chosen(self, missing: set[Offset]) -> set[Offset]:
        """All that nothing stands in for, and of the others those that waited longest."""
        others = sorted((o for o in missing if self._stand_in(*o) is not None), key=lambda o: self._last[o[0]][2])
        return missing - set(others[RECORDS_PER_LOOK:])

    def _remember(self, asked: Mapping[TopicPartition, int], found: Mapping[TopicPartition, float], now: float) -> None:
        for tp, offset in asked.items():
            self._known[tp, offset] = (found.get(tp), now)
            if tp in found:
                self._last[tp] = (offset, found[tp], now)

    def _stand_in(self, tp: TopicPartition, offset: int) -> float | None:
        before, at, _ = self._last.get(tp, (offset + 1, 0.0, 0.0))
        return at if before <= offset else None

    def at(self, tp: TopicPartition, offset: int) -> float | None:
        """Unix seconds of the first record at or after the offset, or of an earlier one; None if not known."""
        found, _ = self._known.get((tp, offset), (None, 0.0))
        return found if found is not None else self._stand_in(tp, offset)


def missing_topics(m: Measurement, wanted: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(set(wanted) - m.topics.keys()))
