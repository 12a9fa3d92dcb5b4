"""Which event wins: the same rows whatever the order, however often, and however the log is cut into slices.

On one topic the place in the log is part of the event: it decides between those of equal time.
"""

import itertools
from collections.abc import Iterable, Sequence
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams import rows
from emis_streams.events import Decoded
from emis_streams.fold import Folded, fold

CREATED, UPDATED, DELETED = 0, 1, 2
KEY = b"key"

Event = tuple[bytes, int, int, int, bytes]
"""Key, time (µs), rank, offset on its topic (of a delete: number of its id), body."""

EARLY = 1_000_000


def event(time: int, rank: int = UPDATED, body: bytes = b"body", offset: int = 1, key: bytes = KEY) -> Event:
    return key, EARLY + time, rank, offset, b"" if rank == DELETED else body


def version(of: Event) -> bytes:
    _, us, rank, offset, body = of
    decider = UUID(int=offset).bytes if rank == DELETED else b"\xff" * 8 + offset.to_bytes(8, "big")
    return us.to_bytes(8, "big") + bytes([rank]) + decider + crc32(body).to_bytes(4, "big")


def decoded(events: Sequence[Event]) -> Decoded:
    return Decoded([e[0] for e in events], [version(e) for e in events], [e[4] for e in events])


def kept_of(slices: Iterable[Sequence[Event]]) -> tuple[dict[bytes, bytes], Folded]:
    """The table after the slices, and what was counted."""
    table: dict[bytes, bytes] = {}
    total = Folded()
    for part in slices:
        folded = fold(decoded(part), {e[0]: table.get(e[0]) for e in part})
        table.update(folded.rows)
        total.superseded += folded.superseded
        total.clock_skew += folded.clock_skew
    return table, total


def row_of(newest: Event, first: Event) -> bytes:
    return rows.pack(version(newest), version(first)[: rows.CREATED_BYTES], newest[4])


LIFE = [
    event(1, CREATED, b"created", 1),
    event(2, UPDATED, b"updated", 2),
    event(3, UPDATED, b"updated again", 3),
    event(4, DELETED, offset=4),
]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_all_orders_of_a_life_give_its_last_state(n: int) -> None:
    for order in itertools.permutations(LIFE[:n]):
        table, _ = kept_of([order])
        assert table == {KEY: row_of(LIFE[n - 1], LIFE[0])}, order


def test_what_comes_after_a_delete_but_is_older_does_not_bring_it_back() -> None:
    table, total = kept_of([[LIFE[3]], [LIFE[0]], [LIFE[1], LIFE[2]]])
    assert rows.is_deleted(table[KEY])
    assert total.superseded == 3


def test_a_later_create_brings_a_deleted_thing_back() -> None:
    again = event(9, CREATED, b"again", 9)
    for order in itertools.permutations([LIFE[0], LIFE[3], again]):
        assert kept_of([order])[0] == {KEY: row_of(again, LIFE[0])}, order


def test_at_equal_times_the_rank_decides_then_the_place_in_the_log() -> None:
    created, updated, deleted = (event(5, rank) for rank in (CREATED, UPDATED, DELETED))
    later = event(5, UPDATED, offset=2)
    for lower, higher in [
        (created, updated),
        (updated, deleted),
        (updated, later),
        (event(5, UPDATED, offset=255), event(5, UPDATED, offset=256)),
    ]:
        for order in itertools.permutations([lower, higher]):
            assert kept_of([order])[0][KEY][: rows.VERSION_BYTES] == version(higher)


def test_an_equal_version_is_written_again() -> None:
    """A replay must repair a changelog that a crash cut short."""
    table, _ = kept_of([[LIFE[1]]])
    folded = fold(decoded([LIFE[1]]), table)
    assert folded.rows == table
    assert folded.superseded == 0


def test_a_superseded_event_writes_nothing() -> None:
    table, _ = kept_of([[LIFE[0], LIFE[2]]])
    folded = fold(decoded([LIFE[1]]), table)
    assert folded.rows == {}
    assert (folded.superseded, folded.clock_skew) == (1, 1)


@pytest.mark.parametrize(
    ("stored", "late", "is_skew"),
    [(LIFE[2], LIFE[1], True), (LIFE[2], LIFE[0], False), (LIFE[3], LIFE[2], False)],
    ids=["update after update", "create after update", "update after delete"],
)
def test_clock_skew_is_counted_for_events_of_the_same_topic_only(stored: Event, late: Event, is_skew: bool) -> None:
    """Different topics have no order among them: late events of those are no sign of a wrong clock."""
    _, total = kept_of([[stored], [late]])
    assert (total.superseded, total.clock_skew) == (1, is_skew)


def test_created_is_the_time_of_the_earliest_event_whatever_the_order() -> None:
    """Topics of one subject are read side by side: an update is often seen before its create."""
    for order in itertools.permutations(LIFE):
        table, _ = kept_of([[e] for e in order])
        assert table[KEY][rows.VERSION_BYTES : rows.BODY_AT] == version(LIFE[0])[:8], order


def test_the_row_of_a_late_first_event_keeps_version_and_content() -> None:
    table, total = kept_of([[LIFE[2]], [LIFE[0]]])
    assert table == {KEY: row_of(LIFE[2], LIFE[0])}
    assert total.superseded == 1


def test_a_replay_of_the_event_that_created_is_of_writes_the_row_again() -> None:
    """A crash may have kept the row, with the earlier time, from the changelog, but not from the table."""
    table, _ = kept_of([[LIFE[2]], [LIFE[0]]])
    folded = fold(decoded([LIFE[0]]), table)
    assert folded.rows == table
    assert folded.superseded == 1


def test_an_event_of_the_same_time_as_created_writes_the_row_again_too() -> None:
    """Which of them the row's `created` came from is not known."""
    early = event(1, UPDATED, b"also the first", 9)
    table, _ = kept_of([[LIFE[2]], [LIFE[0]]])
    assert fold(decoded([early]), table).rows == table


events_of_some_keys = st.lists(
    st.builds(
        event,
        time=st.integers(0, 6),
        rank=st.sampled_from([CREATED, UPDATED, DELETED]),
        body=st.sampled_from([b"one", b"two", b""]),
        offset=st.integers(0, 3),
        key=st.sampled_from([b"a", b"b", b"c"]),
    ),
    min_size=1,
    max_size=12,
)


@given(events_of_some_keys, st.data())
def test_any_order_with_repeats_in_slices_of_any_cut_gives_the_same_rows(
    events: list[Event], data: st.DataObject
) -> None:
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=4))
    order = data.draw(st.permutations(events + repeats))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order)), max_size=4)) | {0, len(order)})
    slices = [order[begin:end] for begin, end in itertools.pairwise(cuts)]
    expected = {}
    for key in {e[0] for e in events}:
        own = [e for e in events if e[0] == key]
        expected[key] = row_of(max(own, key=version), min(own, key=version))
    assert kept_of(slices)[0] == expected
