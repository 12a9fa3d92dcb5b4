"""A table's rows, all of them, to a changelog that has lost records (decision 0014)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from emis_streams.engine import table
from emis_streams.engine.follower import Position
from emis_streams.engine.row_filter import RowCheck
from emis_streams.engine.store import PartitionStore
from emis_streams.engine.table import send_all

TP = TopicPartition("changelog", 3)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PartitionStore]:
    monkeypatch.setattr(table, "_SENT_AT_ONCE", 2)
    opened = PartitionStore(tmp_path / "3")
    opened.advance(Position(7, "the log that was"))
    opened.write({b"%d" % n: b"old" for n in range(5)})
    yield opened
    opened.close()


async def test_every_row_is_sent_and_the_position_forgotten_afterwards(store: PartitionStore) -> None:
    sent: list[dict[bytes, bytes]] = []

    async def send_rows(tp: TopicPartition, rows: Mapping[bytes, bytes]) -> None:
        assert (tp, store.position) == (TP, Position(7, "the log that was"))
        sent.append(dict(rows))

    await send_all(store, TP, send_rows, RowCheck())
    assert [list(rows) for rows in sent] == [[b"0", b"1"], [b"2", b"3"], [b"4"]]
    assert store.position is None


async def test_a_row_that_changes_meanwhile_is_not_sent_as_it_was(store: PartitionStore) -> None:
    """Else the old one would stand behind the new one in the log."""
    sent: dict[bytes, bytes] = {}

    async def send_rows(_tp: TopicPartition, rows: Mapping[bytes, bytes]) -> None:
        sent.update(rows)
        store.write({b"4": b"new"})

    await send_all(store, TP, send_rows, RowCheck())
    assert sent == {b"0": b"old", b"1": b"old", b"2": b"old", b"3": b"old", b"4": b"new"}


async def test_the_position_is_kept_if_sending_fails(store: PartitionStore) -> None:
    async def send_rows(_tp: TopicPartition, _rows: Mapping[bytes, bytes]) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await send_all(store, TP, send_rows, RowCheck())
    assert store.position == Position(7, "the log that was")
