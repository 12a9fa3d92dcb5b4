"""Since when a partition has been held by an open transaction."""

from aiokafka import TopicPartition

from emis_streams.engine.open_transactions import NAMED_AFTER_SECONDS, OpenTransactions

ONE, TWO = TopicPartition("changelog", 1), TopicPartition("changelog", 2)


def test_only_one_that_lasts_is_named_and_the_longest_first() -> None:
    seen = OpenTransactions()
    seen.note({ONE: (7, 12)}, 100.0)
    assert seen.longest(100.0) is None
    seen.note({ONE: (7, 15), TWO: (3, 4)}, 105.0)
    found = seen.longest(100.0 + NAMED_AFTER_SECONDS)
    assert found is not None
    assert (found.tp, found.stable_offset, found.end_offset, found.seconds) == (ONE, 7, 15, NAMED_AFTER_SECONDS)
    assert [one.tp for one in seen.all(120.0)] == [ONE, TWO]


def test_one_that_ends_is_forgotten_and_the_next_is_another() -> None:
    seen = OpenTransactions()
    seen.note({ONE: (7, 12)}, 100.0)
    seen.note({ONE: (13, 20)}, 130.0)  # That one was committed, and another is open.
    assert seen.longest(131.0) is None
    seen.note({ONE: (20, 20)}, 150.0)
    assert seen.all(150.0) == []


def test_a_partition_that_is_not_noted_any_more_is_forgotten() -> None:
    seen = OpenTransactions()
    seen.note({ONE: (7, 12)}, 100.0)
    seen.note({}, 101.0)
    assert seen.longest(200.0) is None
