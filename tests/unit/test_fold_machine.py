"""Whatever is produced, delivered, lost and delivered again, in any order: the table is the fold of what it was given.

Hypothesis plays producers, brokers, worker and crashes. Events go the way they go in a worker: JSON → `decode` →
`fold` → table and changelog. What must come out is worked out from the contract by `fold_of`, which shares no code
with `fold`.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from emis_streams import topics
from emis_streams.events import CONTRACTS, decode
from emis_streams.fold import fold
from tests.replica_rows import id_of

TOPICS = topics.CLASSES.events
DELETED = 2
"""Place of the topic of deletes, which is the rank of its events."""
KEYS = [id_of(n).encode() for n in (11, 12, 13)]
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
ARRIVED_MS = NOON_US // 1000 + 3_600_000


class Event(NamedTuple):
    """Few of everything, so that keys, times and ids clash."""

    key: bytes
    second: int
    rank: int
    number: int
    """Of its id. Two events may share one, as of a producer that makes ids badly."""
    name: str
    offset: int
    """On its topic."""

    @property
    def body(self) -> bytes:
        return b"" if self.rank == DELETED else msgspec.msgpack.encode([self.name, None, None, None, None, None])

    @property
    def version(self) -> tuple[int, int, int]:
        """Of two with one time the later one of the topic counts; two deletes differ by their ids only."""
        return self.second, self.rank, self.number if self.rank == DELETED else self.offset

    def as_json(self) -> bytes:
        common = {
            "eventId": id_of(self.number),
            "eventType": TOPICS[self.rank],
            "timestamp": (NOON + timedelta(seconds=self.second)).isoformat(),
            "classId": self.key.decode(),
        }
        return msgspec.json.encode(common if self.rank == DELETED else {**common, "className": self.name})


def fold_of(events: Sequence[Event]) -> bytes:
    """The row that these events of one key leave: the highest version, created when the earliest of them was."""
    newest = max(events, key=lambda e: e.version)
    times = (NOON_US + s * 1_000_000 for s in (newest.second, min(e.second for e in events)))
    time, created = (us.to_bytes(8, "big") for us in times)
    event_id, crc = UUID(int=newest.number).bytes, crc32(newest.body).to_bytes(4, "big")
    if newest.rank == DELETED:
        return time + bytes([DELETED]) + event_id + crc + created
    decider = b"\xff" * 8 + newest.offset.to_bytes(8, "big")
    body = b"\x97" + newest.body[1:] + b"\xc4\x11\x02" + event_id
    return time + bytes([newest.rank]) + decider + crc + created + body


class Written(NamedTuple):
    """A record of the changelog."""

    key: bytes
    row: bytes
    given: tuple[Event, ...]
    """The events of the key that the row rests on."""


@dataclass
class Commit:
    offsets: dict[str, int]
    n_written: int
    """So many records of the changelog were acknowledged when the offsets were committed."""


class FoldMachine(RuleBasedStateMachine):
    """One partition of the topics of classes, and the worker that owns it."""

    produced: Bundle[Event] = Bundle("produced")

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, list[Event]] = {topic: [] for topic in TOPICS}
        self.begin_anew()

    def begin_anew(self) -> None:
        self.offsets = dict.fromkeys(TOPICS, 0)
        self.table: dict[bytes, bytes] = {}
        self.given: defaultdict[bytes, tuple[Event, ...]] = defaultdict(tuple)
        self.changelog: list[Written] = []
        self.committed = Commit(dict(self.offsets), 0)
        self.not_committed: list[tuple[str, Sequence[Event]]] = []

    def take(self, topic: str, events: Sequence[Event]) -> None:
        """A slice of one topic, as an agent takes it."""
        if not events:
            return
        keys, values = [e.key for e in events], [e.as_json() for e in events]
        offsets = [e.offset for e in events]
        decoded = decode(CONTRACTS[topic], keys, values, [ARRIVED_MS] * len(events), offsets=offsets)
        assert decoded.refused == []
        written = fold(decoded, {key: self.table.get(key) for key in decoded.keys}).rows
        for event in events:
            self.given[event.key] += (event,)
        self.not_committed.append((topic, events))
        self.table.update(written)
        self.changelog += [Written(key, row, self.given[key]) for key, row in written.items()]

    def take_next(self, topic: str, n: int) -> None:
        at = self.offsets[topic]
        events = self.logs[topic][at : at + n]
        self.offsets[topic] += len(events)
        self.take(topic, events)

    # -- producers ------------------------------------------------------------------------------

    @initialize(
        target=produced,
        key=st.sampled_from(KEYS),
        rank=st.sampled_from(range(len(TOPICS))),
    )
    def produce_the_first(self, key: bytes, rank: int) -> Event:
        return self.produce(key, 3, rank, 1, "10A1")

    @rule(
        target=produced,
        key=st.sampled_from(KEYS),
        second=st.integers(0, 6),
        rank=st.sampled_from(range(len(TOPICS))),
        number=st.integers(1, 4),
        name=st.sampled_from(["10A1", "10A2", "Lớp 10A3"]),
    )
    def produce_an_event_of_any_time(self, key: bytes, second: int, rank: int, number: int, name: str) -> Event:
        """One that is older than all before it is a late one."""
        return self.produce(key, second, rank, number, name)

    def produce(self, key: bytes, second: int, rank: int, number: int, name: str) -> Event:
        log = self.logs[TOPICS[rank]]
        log.append(Event(key, second, rank, number, name, len(log)))
        return log[-1]

    @rule(event=produced)
    def produce_again(self, event: Event) -> None:
        """The same event at another place of the log."""
        log = self.logs[TOPICS[event.rank]]
        log.append(event._replace(offset=len(log)))

    # -- brokers --------------------------------------------------------------------------------

    @rule(topic=st.sampled_from(TOPICS), n=st.integers(1, 6))
    def deliver_the_next(self, topic: str, n: int) -> None:
        self.take_next(topic, n)

    @rule(topic=st.sampled_from(TOPICS), picks=st.lists(st.integers(0, 50), min_size=1, max_size=6))
    def deliver_any_in_any_order(self, topic: str, picks: list[int]) -> None:
        """More than brokers do: the rule rests on no order at all."""
        log = self.logs[topic]
        self.take(topic, [log[pick % len(log)] for pick in picks] if log else [])

    @rule(topic=st.sampled_from(TOPICS), offset=st.integers(0, 10))
    def redeliver_from(self, topic: str, offset: int) -> None:
        """Offsets go back, the table does not."""
        self.offsets[topic] = min(self.offsets[topic], offset)
        self.committed.offsets[topic] = min(self.committed.offsets[topic], offset)

    # -- worker ---------------------------------------------------------------------------------

    @rule()
    def commit(self) -> None:
        """All that was written is acknowledged by then (engine/chain.py)."""
        self.committed = Commit(dict(self.offsets), len(self.changelog))
        self.not_committed.clear()

    @rule()
    def crash_and_keep_the_table(self) -> None:
        self.offsets = dict(self.committed.offsets)

    @rule(unacknowledged=st.integers(0, 8), order=st.permutations(TOPICS))
    def crash_with_a_table_ahead_of_its_changelog(self, unacknowledged: int, order: Sequence[str]) -> None:
        """RocksDB had flushed what the brokers never got. What was not committed comes again, topic by topic."""
        del self.changelog[max(self.committed.n_written, len(self.changelog) - unacknowledged) :]
        slices, self.not_committed = self.not_committed, []
        for topic, events in sorted(slices, key=lambda taken: order.index(taken[0])):
            self.take(topic, events)

    @rule(event=produced, earlier=st.integers(1, 3), unacknowledged=st.integers(0, 3))
    def crash_after_a_late_create(self, event: Event, earlier: int, unacknowledged: int) -> None:
        self.commit()
        self.produce(event.key, event.second - earlier, 0, event.number, event.name)
        self.take_next(TOPICS[0], len(self.logs[TOPICS[0]]))
        self.crash_with_a_table_ahead_of_its_changelog(unacknowledged, TOPICS)

    @rule(unacknowledged=st.integers(0, 8))
    def crash_and_lose_the_table(self, unacknowledged: int) -> None:
        """It comes back from the changelog, which may have been cut in the middle of a slice."""
        del self.changelog[max(self.committed.n_written, len(self.changelog) - unacknowledged) :]
        self.table.clear()
        self.given.clear()
        for key, row, given in self.changelog:
            self.table[key] = row
            self.given[key] = given
        self.offsets = dict(self.committed.offsets)

    @rule()
    def lose_table_and_changelog(self) -> None:
        """The way back is to read the sources from their beginning."""
        self.begin_anew()

    # -- what always holds ----------------------------------------------------------------------

    @invariant()
    def the_table_is_the_fold_of_what_was_delivered(self) -> None:
        assert self.table == {key: fold_of(events) for key, events in self.given.items()}

    @invariant()
    def the_changelog_ends_with_the_rows_of_the_table(self) -> None:
        """So that the table can be lost."""
        assert self.table == {written.key: written.row for written in self.changelog}

    @invariant()
    def versions_in_the_changelog_do_not_go_back_but_where_it_was_cut(self) -> None:
        newest: dict[bytes, bytes] = {}
        for key, row, _ in self.changelog:
            assert row[:29] >= newest.get(key, b"")
            newest[key] = row[:29]

    def teardown(self) -> None:
        for topic in TOPICS:
            self.take_next(topic, len(self.logs[topic]))
        produced = sorted(itertools.chain(*self.logs.values()), key=lambda e: e.key)
        assert self.table == {key: fold_of(list(own)) for key, own in itertools.groupby(produced, lambda e: e.key)}


TestFoldMachine = FoldMachine.TestCase
TestFoldMachine.settings = settings(max_examples=200, stateful_step_count=40, derandomize=True)
