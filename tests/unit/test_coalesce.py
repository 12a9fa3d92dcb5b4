"""Of a slice of a changelog only the highest version of each key is kept, and what went back is named."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.engine.fetch import Fetched
from emis_streams.engine.follower import ChangelogSlice, Position, coalesce

TP = TopicPartition("changelog", 4)


def newer(row: bytes, stored: bytes | None) -> bytes:
    """Versions are the first byte."""
    return row if stored is None or row[:1] >= stored[:1] else stored


def record(key: bytes, value: bytes | None, timestamp: int = 1) -> Any:
    return SimpleNamespace(key=key, value=value, timestamp=timestamp)


def coalesced(*records: Any) -> ChangelogSlice:
    return coalesce(Fetched(TP, 10, 10 + len(records), list(records)), "topic-id", newer)


def test_different_keys_are_all_kept_with_their_times() -> None:
    found = coalesced(record(b"a", b"1", 11), record(b"b", b"2", 12))
    assert found.rows == {b"a": (b"1", 11), b"b": (b"2", 12)}
    assert found.regressed == frozenset()


def test_position_and_count_are_those_of_the_log_not_of_the_rows() -> None:
    found = coalesced(record(b"a", b"1"), record(b"a", b"2"), record(b"a", None))
    assert (found.tp, found.n_records, found.position) == (TP, 3, Position(13, "topic-id"))


def test_the_last_of_rising_versions_is_kept() -> None:
    assert coalesced(record(b"a", b"1"), record(b"a", b"2", 22)).rows == {b"a": (b"2", 22)}


def test_an_equal_version_that_comes_later_is_kept() -> None:
    assert coalesced(record(b"a", b"1old", 1), record(b"a", b"1new", 2)).rows == {b"a": (b"1new", 2)}


def test_a_key_that_went_back_keeps_its_highest_version_and_is_named() -> None:
    found = coalesced(record(b"a", b"3", 1), record(b"b", b"1"), record(b"a", b"2", 2))
    assert found.rows[b"a"] == (b"3", 1)
    assert found.regressed == {b"a"}


def test_a_key_that_went_back_and_was_repaired_is_not_named() -> None:
    found = coalesced(record(b"a", b"3", 1), record(b"a", b"2", 2), record(b"a", b"3", 3))
    assert found.rows[b"a"] == (b"3", 3)
    assert found.regressed == frozenset()


def test_null_values_are_passed_over_and_their_keys_named_as_compaction_removes_the_rows_before_them() -> None:
    found = coalesced(record(b"a", b"1"), record(b"b", None), record(b"a", None))
    assert found.rows == {b"a": (b"1", 1)}
    assert found.regressed == {b"a", b"b"}


def test_a_row_after_a_null_value_stands() -> None:
    found = coalesced(record(b"a", b"1"), record(b"a", None), record(b"a", b"1"))
    assert (found.rows, found.regressed) == ({b"a": (b"1", 1)}, frozenset())


def test_what_is_no_row_is_passed_over_like_a_null_value() -> None:
    records = [record(b"a", b"1"), record(b"a", b"9 no row"), record(b"b", b"2"), record(b"c", b"no row")]
    found = coalesce(Fetched(TP, 10, 14, records), "topic-id", newer, no_rows={1, 3})
    assert found.rows == {b"a": (b"1", 1), b"b": (b"2", 1)}
    assert found.regressed == {b"a", b"c"}
    assert (found.n_records, found.next_offset) == (4, 14)


@pytest.mark.parametrize("key", [None, b"\x00position", b"\x00checked"])
def test_null_keys_and_those_of_the_stores_own_notes_are_no_keys_of_rows(key: bytes | None) -> None:
    found = coalesced(record(b"a", b"1"), record(key, b"2"))  # type: ignore[arg-type]
    assert (found.rows, found.regressed) == ({b"a": (b"1", 1)}, frozenset())


def test_a_slice_without_records_moves_only_the_position() -> None:
    found = coalesce(Fetched(TP, 10, 12, []), "topic-id", newer)
    assert (found.rows, found.next_offset) == ({}, 12)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([None, b"1", b"2", b"3"])), max_size=12))
def test_it_keeps_what_a_reader_of_one_record_after_the_other_keeps(log: list[tuple[bytes, bytes | None]]) -> None:
    kept: dict[bytes, tuple[bytes, int]] = {}
    last: dict[bytes, bytes | None] = {}
    for time, (key, value) in enumerate(log):
        last[key] = value
        if value is None:
            continue
        if key not in kept or newer(value, kept[key][0]) is value:
            kept[key] = (value, time)
    found = coalesced(*(record(key, value, time) for time, (key, value) in enumerate(log)))
    assert found.rows == kept
    assert found.regressed == {key for key, value in last.items() if value is None or value < kept[key][0]}
