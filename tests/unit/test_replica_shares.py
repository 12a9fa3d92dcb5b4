"""How slices are shared out to transactions."""

from aiokafka import TopicPartition

from emis_streams import topics
from emis_streams.engine.follower import ChangelogSlice
from emis_streams.replica.writer import share_out

CHANGELOG = topics.CLASSES.changelog


def a_slice(partition: int, n_rows: int, next_offset: int) -> ChangelogSlice:
    rows = {str(i).encode(): (b"", 0) for i in range(n_rows)}
    return ChangelogSlice(TopicPartition(CHANGELOG, partition), "id", rows, next_offset, n_rows)


def test_few_rows_go_into_one_transaction() -> None:
    assert len(share_out([a_slice(p, 10, 10) for p in range(10)], 3)) == 1


def test_many_rows_are_shared_evenly() -> None:
    shares = share_out([a_slice(p, 500, 500) for p in range(9)], 3)
    assert [share.n_rows for share in shares] == [1500, 1500, 1500]


def test_the_slices_of_a_partition_stay_together_and_in_order() -> None:
    slices = [a_slice(0, 500, 500), a_slice(1, 500, 500), a_slice(0, 500, 1000), a_slice(0, 0, 1001)]
    shares = share_out(slices, 3)
    assert sorted([(s.tp.partition, s.next_offset) for s in share.slices] for share in shares) == [
        [(0, 500), (0, 1000), (0, 1001)],
        [(1, 500)],
    ]
    positions = [at.next_offset for share in shares for at in share.positions().values()]
    assert sorted(positions) == [500, 1001]


def test_no_slices_need_no_transaction() -> None:
    assert share_out([], 3) == []
