"""Whatever becomes of changelog, process and disk: what a follower keeps is the fold of what it has followed.

Hypothesis plays the brokers, with logs in memory, and the crashes. The follower is the real one: how it judges
positions, what it makes of a slice, what it does when the position is outside the log. So are the sinks, on RocksDB and
SQLite; a crash takes them back to what was on disk. tests/integration/test_follower.py has the same on a real broker.
"""

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from emis_streams import changelog_rows, rows, topics
from emis_streams.engine.follower import ChangelogSlice, Follower, Position, Sink
from tests.memory_log import Brokers, Log
from tests.replica_rows import DELETED, class_row, id_of, row_of

IN_MEMORY = Path("/dev/shm")
"""Where the crashes are played they need no disk, and take a tenth of the time."""

TPS = [TopicPartition(topics.CLASSES.changelog, n) for n in range(2)] + [TopicPartition(topics.TEACHERS.changelog, 0)]
KEYS = [id_of(n).encode() for n in (11, 12, 13)]
"""The same in all partitions: a producer that partitions otherwise writes a class to two."""
NO_ROWS = [
    None,
    b"",
    b"hello",
    b'{"eventType": "emis.class.updated", "classId": "%s"}' % KEYS[0],
    b"\xff" * 37,
    row_of(59, 9, None),
    class_row(59)[:-1] + b"x",
    row_of(59, 0, (id_of(3), "subject-teacher", None, None, None, "x")),
]
"""What anybody may write under the key of a row: a tombstone, and values that are no rows."""
NO_KEYS = [b"test", b"", b"\x00position", b"\x00checked", KEYS[0].upper() + b"A"]
TEACHER_IDS = [None, id_of(1), id_of(2)]
VERSION = slice(rows.VERSION_BYTES)

Kept = dict[tuple[TopicPartition | str, bytes], bytes]
"""Rows by where they are kept (table partition, or topic) and key."""


class Noting:
    """A sink that says what was asked of it."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.n_applied = 0

    async def positions(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        return await self.sink.positions(tps)

    async def reset(self, tp: TopicPartition) -> None:
        await self.sink.reset(tp)

    async def apply(self, slices: Sequence[ChangelogSlice]) -> None:
        await self.sink.apply(slices)
        self.n_applied += len(slices)


class Delivery(NamedTuple):
    tp: TopicPartition
    offset: int
    key: bytes
    value: bytes | None

    @property
    def row(self) -> bytes | None:
        """The value, if it is a row."""
        return self.value if changelog_rows.refusal(self.tp.topic, self.key, self.value) is None else None


class FollowerMachine(RuleBasedStateMachine):
    """A follower of three partitions. What differs between the sinks is in the subclasses."""

    tps = TPS
    merge = staticmethod(rows.merged)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(mkdtemp(prefix="emis-follower-", dir=IN_MEMORY if IN_MEMORY.exists() else None))
        self.n_topics = 0
        self.logs: dict[TopicPartition, Log] = {}
        for topic in {tp.topic for tp in self.tps}:
            self.make(topic)
        self.delivered: list[Delivery] = []
        """What the kept rows rest on, in order."""
        self.saved: list[Delivery] = []
        self.saved_positions: dict[TopicPartition, Position] = {}
        self.open()
        self.save()
        self.begin()

    # -- the sink -------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def open(self) -> None:
        """Opens what is on disk."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        """Everything that is written so far is on disk."""

    def sink(self) -> Sink:
        """A new one, as a process has it after its start."""
        raise NotImplementedError

    def kept(self) -> Kept:
        raise NotImplementedError

    def place(self, tp: TopicPartition) -> TopicPartition | str:
        """Partitions of a topic are kept together, unless a subclass says otherwise."""
        return tp.topic

    # -- process and brokers --------------------------------------------------------------------

    def make(self, topic: str) -> None:
        self.n_topics += 1
        self.logs.update({tp: Log(f"{self.n_topics:032x}") for tp in self.tps if tp.topic == topic})

    def begin(self) -> None:
        self.noting = Noting(self.sink())
        self.follower = Follower(
            name="machine",
            client={},
            sink=self.noting,
            merge=self.merge,
            partitions=self.tps,
            row_filter=changelog_rows.row_filter(),
        )
        self.follower._consumer = Brokers(self.logs)
        self.position()

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def position(self) -> None:
        self.run(self.follower.position(self.tps))

    def save(self) -> None:
        self.flush()
        shutil.rmtree(self.folder / "saved", ignore_errors=True)
        if self.data.exists():
            shutil.copytree(self.data, self.folder / "saved", ignore=shutil.ignore_patterns("LOCK", "LOG*"))
        self.saved = list(self.delivered)

    def step(self, tps: Sequence[TopicPartition], n: int) -> None:
        """As Follower does with what a fetch answers."""
        logs = {tp: self.logs[tp] for tp in tps}
        at = self.follower.next_offsets
        if any(not log.start <= at[tp] <= log.end for tp, log in logs.items()):
            self.position()  # The brokers answer that the offset is out of range.
            return
        fetched = [log.fetch(tp, at[tp], n) for tp, log in logs.items() if at[tp] < log.end]
        slices = [self.follower._coalesced(f) for f in fetched]
        if not slices:
            return
        before = self.noting.n_applied
        self.run(self.follower._apply(slices))
        if self.noting.n_applied > before:
            self.delivered += [Delivery(f.tp, *r) for f in fetched for r in f.records]

    def follow_to_the_end(self) -> None:
        while any(self.follower.next_offsets[tp] != log.end for tp, log in self.logs.items()):
            self.step(self.tps, 50)

    # -- rules: what is written -----------------------------------------------------------------

    @initialize()
    def some_rows(self) -> None:
        for n, tp in enumerate(self.tps):
            self.write(tp, KEYS[0], 3 + n, "10A1", 0, None)

    @rule(
        tp=st.sampled_from(TPS),
        key=st.sampled_from(KEYS),
        second=st.integers(1, 6),
        name=st.sampled_from(["10A1", "10A2", None]),
        earlier=st.integers(0, 2),
        homeroom=st.sampled_from(TEACHER_IDS),
    )
    def write(
        self, tp: TopicPartition, key: bytes, second: int, name: str | None, earlier: int, homeroom: str | None
    ) -> None:
        """A row of any version: an older one after a newer one is a zombie's; None is a delete."""
        if tp not in self.logs:
            return
        if name is None:
            row = row_of(second, DELETED[topics.CLASSES], None, created=max(0, second - earlier))
        elif tp.topic == topics.CLASSES.changelog:
            row = class_row(second, name, homeroom=homeroom, created=max(0, second - earlier))
        else:
            row = row_of(second, 0, (name, None, None), created=max(0, second - earlier))
        self.logs[tp].append(key, row)

    @rule(tp=st.sampled_from(TPS), key=st.sampled_from([*KEYS, *NO_KEYS]), value=st.sampled_from(NO_ROWS))
    def write_no_row(self, tp: TopicPartition, key: bytes, value: bytes | None) -> None:
        """As anybody with a producer may."""
        if tp in self.logs:
            self.logs[tp].append(key, value)

    @rule(tp=st.sampled_from(TPS), key=st.sampled_from(NO_KEYS))
    def write_a_row_under_a_key_that_is_none(self, tp: TopicPartition, key: bytes) -> None:
        if tp in self.logs:
            self.logs[tp].append(key, class_row(59))

    # -- rules: brokers -------------------------------------------------------------------------

    @rule(tps=st.lists(st.sampled_from(TPS), min_size=1, unique=True), n=st.integers(1, 6))
    def deliver(self, tps: list[TopicPartition], n: int) -> None:
        self.step([tp for tp in tps if tp in self.logs], n)

    @rule(tp=st.sampled_from(TPS), before=st.integers(1, 30))
    def compact(self, tp: TopicPartition, before: int) -> None:
        if tp in self.logs:
            self.logs[tp].compact(before)

    @rule(tp=st.sampled_from(TPS), start=st.integers(1, 30))
    def truncate(self, tp: TopicPartition, start: int) -> None:
        if tp in self.logs:
            self.logs[tp].truncate(start)

    @rule(topic=st.sampled_from([topics.CLASSES.changelog, topics.TEACHERS.changelog]))
    def make_a_topic_anew(self, topic: str) -> None:
        if any(tp.topic == topic for tp in self.tps):
            self.make(topic)

    @rule()
    def look_at_the_topics(self) -> None:
        """As the follower does every few seconds (`_check_topic_ids`)."""
        if any(log.topic_id != self.follower.topic_id(tp) for tp, log in self.logs.items()):
            self.position()

    # -- rules: process -------------------------------------------------------------------------

    @rule()
    def flush_to_disk(self) -> None:
        self.save()

    @rule()
    def stop_and_start(self) -> None:
        self.close()
        self.open()
        self.begin()

    @rule()
    def crash(self) -> None:
        """What was not flushed is gone, rows and positions."""
        self.close()
        shutil.rmtree(self.data, ignore_errors=True)
        if (self.folder / "saved").exists():
            shutil.copytree(self.folder / "saved", self.data)
        self.delivered = list(self.saved)
        self.open()
        self.begin()

    @rule()
    def follow(self) -> None:
        self.look_at_the_topics()
        self.follow_to_the_end()
        assert self.follower.caught_up
        kept = self.kept()
        for tp, log in self.logs.items():
            for record in log.records:
                row = Delivery(tp, *record).row
                assert row is None or kept[self.place(tp), record.key][VERSION] >= row[VERSION]

    # -- what always holds ----------------------------------------------------------------------

    def expected(self) -> Kept:
        fold: Kept = {}
        for delivery in self.delivered:
            place = self.place(delivery.tp), delivery.key
            if (row := delivery.row) is not None:
                fold[place] = self.merge(row, fold.get(place))
        return fold

    @invariant()
    def what_is_kept_is_the_fold_of_what_was_followed(self) -> None:
        assert self.kept() == self.expected()

    @invariant()
    def no_position_is_ahead_of_what_was_followed(self) -> None:
        for tp, at in self.run(self.noting.positions(self.tps)).items():
            assert at.next_offset <= self.follower.next_offsets[tp]

    def teardown(self) -> None:
        self.follow()
        self.what_is_kept_is_the_fold_of_what_was_followed()
        self.close()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        shutil.rmtree(self.folder)
