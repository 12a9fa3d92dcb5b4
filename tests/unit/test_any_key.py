"""Records with keys of any length are sent on, and no key takes the process's time."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams import ingest, partitioner, topics
from emis_streams.engine.any_key import partition_of_any
from emis_streams.partitioner import partition_of

PARTITIONS = list(range(10))


@given(st.binary(max_size=256))
def test_a_key_of_usual_length_lies_where_java_puts_it(key: bytes) -> None:
    assert partition_of_any(key, PARTITIONS, PARTITIONS) == partition_of(key, 10)


@given(st.integers(257, 100_000))
def test_a_long_key_always_lies_in_the_same_partition(n_bytes: int) -> None:
    found = {partition_of_any(b"k" * n_bytes, PARTITIONS, available) for available in (PARTITIONS, [1])}
    assert len(found) == 1
    assert found <= set(PARTITIONS)


def test_a_record_without_a_key_goes_where_brokers_take_it() -> None:
    assert partition_of_any(None, PARTITIONS, [7]) == 7


def batch_of(keys: list[bytes | None], partition: int) -> Any:
    return SimpleNamespace(records=[SimpleNamespace(key=key) for key in keys], partition=partition)


def test_only_ids_are_counted_as_misplaced_and_no_other_key_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = b"6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    elsewhere = (partition_of(id_, topics.PARTITIONS) + 1) % topics.PARTITIONS
    hashed: list[int] = []
    monkeypatch.setattr(partitioner, "murmur2", lambda key: hashed.append(len(key)) or 0)
    assert ingest.misplaced(batch_of([None, b"", b"k" * 1_000_000, id_], elsewhere)) == 1
    assert hashed == []
