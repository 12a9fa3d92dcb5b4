"""Which events a snapshot's lines lead to: with equal times the source is right, and a second sync has nothing to do.

The tables are real ones: what is sent goes through `decode` and `fold`, on topics whose logs have an order.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emis_streams import rows
from emis_streams.events import CONTRACTS, Event, decode
from emis_streams.fold import fold
from emis_streams.snapshot import Comparison, compare, delete_of, precision_us
from tests.replica_rows import id_of

NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)
NOW_MS = int(NOON.timestamp() * 1000) + 3_600_000
CLASS, OTHER = id_of(11), id_of(12)
SECOND, MS = 1_000_000, 1_000

CREATED, UPDATED, DELETED = "emis.class.created", "emis.class.updated", "emis.class.deleted"


def time_text(us: int) -> str:
    """So many µs after noon."""
    return (NOON + timedelta(microseconds=us)).isoformat()


@dataclass
class Here:
    """The table of classes, and the logs of its topics."""

    table: dict[bytes, bytes] = field(default_factory=dict)
    n_sent: dict[str, int] = field(default_factory=dict)

    def take(self, topic: str, us: int, name: str) -> None:
        """An event of the source; its id is lower than that of every event before it."""
        fields = {"classId": CLASS} if topic == DELETED else {"classId": CLASS, "className": name}
        event_id = str(uuid.UUID(int=2**100 - sum(self.n_sent.values())))
        self._take(topic, {"eventId": event_id, "eventType": topic, "timestamp": time_text(us), **fields})

    def take_sent(self, events: Iterable[Event]) -> None:
        for event in events:
            self._take(event.event_type, msgspec.to_builtins(event))  # type: ignore[attr-defined]

    def _take(self, topic: str, event: dict[str, Any]) -> None:
        offset = self.n_sent.get(topic, 0)
        self.n_sent[topic] = offset + 1
        key, value = event["classId"].encode(), msgspec.json.encode(event)
        decoded = decode(CONTRACTS[topic], [key], [value], [NOW_MS], offsets=[offset])
        assert decoded.refused == []
        self.table |= fold(decoded, {key: self.table.get(key)}).rows

    def sync(self, name: str | None, updated_at_us: int) -> dict[str, int]:
        """With a snapshot that has the class by this name (None: not at all) and another one; what became of it."""
        states: list[tuple[str, str]] = []
        versions = {uuid.UUID(key.decode()).bytes: row[:29] for key, row in self.table.items()}
        comparison = Comparison(versions, lambda state, class_id: states.append((state, class_id)))
        line = {"classId": CLASS, "className": name, "updatedAt": time_text(updated_at_us)}
        other = {"classId": OTHER, "className": "other", "updatedAt": time_text(updated_at_us)}
        lines = [other] if name is None else [line, other]
        sent, refused = comparison.take([(n, msgspec.json.encode(one)) for n, one in enumerate(lines)], NOW_MS)
        assert refused == []
        assert comparison.newest is not None
        sent += [delete_of(*one) for one in comparison.lacking(comparison.newest)]
        self.take_sent(sent)
        return {state: 1 for state, class_id in states if class_id == CLASS}

    @property
    def name(self) -> str | None:
        row = self.table.get(CLASS.encode())
        body = None if row is None else rows.body_of(row, rows.ClassRow)
        return None if body is None else body.class_name


LIVES = {
    "updates": [(UPDATED, "10A1"), (UPDATED, "10A2"), (UPDATED, "10A3")],
    "created and updated": [(CREATED, "10A1"), (UPDATED, "10A2")],
    "created twice": [(CREATED, "10A1"), (CREATED, "10A2")],
    "created and deleted": [(CREATED, "10A1"), (DELETED, "")],
    "created, deleted, created": [(CREATED, "10A1"), (DELETED, ""), (CREATED, "10A2")],
    "deleted, created, updated, deleted": [(DELETED, ""), (CREATED, "10A1"), (UPDATED, "10A2"), (DELETED, "")],
}


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
@pytest.mark.parametrize(("step_us", "updated_at_us"), [(0, 0), (0, 7 * MS), (250 * MS, 0), (300, 7 * MS)])
def test_what_happens_within_one_tick_ends_as_the_source_says(
    life: list[tuple[str, str]], step_us: int, updated_at_us: int
) -> None:
    """The events have the source's own times (of a second, of a millisecond), or finer ones than its `updatedAt`."""
    here = Here()
    state: str | None = None
    for n, (topic, name) in enumerate(life):
        here.take(topic, updated_at_us + n * step_us, name)
        state = None if topic == DELETED else name
        here.sync(state, updated_at_us)
        assert here.name == state, (topic, name)
        assert here.sync(state, updated_at_us) == {}, "the second one has nothing to do"


def test_one_sync_after_all_of_it_ends_as_the_source_says_too() -> None:
    for life in LIVES.values():
        here = Here()
        for topic, name in life:
            here.take(topic, 0, name)
        state = None if life[-1][0] == DELETED else life[-1][1]
        here.sync(state, 0)
        assert here.name == state, life


def test_a_genuine_event_of_the_same_second_wins_against_what_sync_sent_before_it() -> None:
    here = Here()
    here.take(UPDATED, 0, "10A1")
    here.sync("10A2", 0)
    here.take(UPDATED, 0, "10A3")
    assert here.name == "10A3"
    assert here.sync("10A3", 0) == {}


def test_what_is_newer_by_a_whole_tick_stays() -> None:
    for tick in (SECOND, MS, 1):
        here = Here()
        here.take(UPDATED, 3 * tick, "newer")
        assert here.sync("older", 2 * tick) == {"newer here": 1}
        assert here.name == "newer"


def test_a_class_that_was_made_after_the_snapshot_is_not_deleted() -> None:
    here = Here()
    here.take(CREATED, 2 * SECOND, "new")
    assert here.sync(None, SECOND) == {"newer here": 1}
    assert here.name == "new"


def test_an_event_of_another_time_has_another_id_and_the_same_one_the_same() -> None:
    sent = []
    for us in (0, 0, 1):
        here = Here()
        here.take(DELETED, us, "")
        comparison = Comparison({uuid.UUID(CLASS).bytes: here.table[CLASS.encode()][:29]}, lambda *_: None)
        line = {"classId": CLASS, "className": "10A1", "updatedAt": time_text(0)}
        sent += comparison.take([(1, msgspec.json.encode(line))], NOW_MS)[0]
    assert sent[0] == sent[1]
    assert sent[0].event_id != sent[2].event_id


@pytest.mark.parametrize(
    ("us", "step"),
    [(0, SECOND), (3 * SECOND, SECOND), (1_500_000, MS), (1_500_001, 1), (999, 1)],
)
def test_a_time_tells_how_fine_its_clock_is(us: int, step: int) -> None:
    assert precision_us(us) == step


@given(st.integers(0, 5_000), st.sampled_from([1, MS, SECOND]), st.integers(0, 999_999), st.integers(0, 2))
def test_what_is_sent_is_never_older_than_the_line_nor_newer_than_its_tick(
    n: int, tick: int, us: int, rank: int
) -> None:
    line_us = (n + 1) * tick
    here_us = line_us - SECOND + us
    here = max(0, here_us).to_bytes(8, "big") + bytes([rank]) + bytes(20)
    state, sent_us = compare(here, line_us.to_bytes(8, "big") + b"\x01" + bytes(16) + b"hash")
    if state == "newer here":
        assert here_us >= line_us + precision_us(line_us)
    else:
        assert line_us <= sent_us <= line_us + precision_us(line_us)


happenings = st.lists(
    st.tuples(
        st.sampled_from([CREATED, UPDATED, UPDATED, DELETED]),
        st.integers(0, 900),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=10,
)
"""Topic, ms within the second, whether the event is lost, whether a sync follows."""


@settings(max_examples=200)
@given(happenings, st.sampled_from([SECOND, MS]), st.booleans())
def test_whatever_happens_in_a_second_sync_ends_as_the_source_says(
    happened: list[tuple[str, int, bool, bool]], tick: int, events_are_finer: bool
) -> None:
    here = Here()
    state: str | None = None
    times_ms = sorted(ms for _, ms, _, _ in happened)
    for n, ((topic, _, is_lost, is_synced), ms) in enumerate(zip(happened, times_ms, strict=True)):
        updated_at_us = ms * MS - ms * MS % tick
        state = None if topic == DELETED else f"10A{n}"
        if not is_lost:
            here.take(topic, ms * MS if events_are_finer else updated_at_us, f"10A{n}")
        if is_synced or n == len(happened) - 1:
            here.sync(state, updated_at_us)
            assert here.name == state
            assert here.sync(state, updated_at_us) == {}
