"""What is no row is counted once and logged once per partition; stores of earlier releases are freed of it."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from emis_streams.changelog_rows import ROW_CHECK
from emis_streams.engine.fetch import Fetched
from emis_streams.engine.follower import Position
from emis_streams.engine.row_filter import RowCheck, RowFilter
from emis_streams.engine.store import PartitionStore
from emis_streams.engine.table import remove_invalid_rows, send_all
from emis_streams.topics import CLASSES
from tests.replica_rows import TOPIC_ID, class_row, id_of

TP = TopicPartition("changelog", 4)
CLASSES_0 = TopicPartition(CLASSES.changelog, 0)
KEYS = [id_of(n).encode() for n in range(3)]


def fetched(*pairs: tuple[bytes | None, bytes | None], base: int = 10) -> Fetched:
    records: list[Any] = [
        SimpleNamespace(key=key, value=value, offset=base + n) for n, (key, value) in enumerate(pairs)
    ]
    return Fetched(TP, base, base + len(records), records)


def no_digits(_topic: str, records: Any) -> list[tuple[int, str]]:
    return [(place, "no digit") for place, record in enumerate(records) if not (record.value or b"").isdigit()]


def a_filter() -> RowFilter:
    return RowFilter(lambda _topic: RowCheck(no_digits, "Ask Lan"))


def test_places_are_those_of_the_check() -> None:
    found = a_filter()
    assert found.places(fetched((b"a", b"1"), (b"b", b"x"), (b"c", None)), "id") == {1, 2}


def test_the_first_of_a_partition_is_logged_with_its_place_and_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    found = a_filter()
    with caplog.at_level(logging.WARNING):
        found.places(fetched((b"a", b"1"), (b"b", b"x"), (b"c", b"y")), "id")
        found.places(fetched((b"a", b"z"), base=20), "id")
    (line,) = caplog.messages
    assert line.startswith("changelog:4:11 is no row: no digit.")
    assert line.endswith(". Ask Lan")
    assert found.n_invalid == 3


def test_each_partition_has_its_count_and_its_last_record() -> None:
    found = a_filter()
    found.places(fetched((b"a", b"x"), (b"b", b"1"), (b"c", b"y")), "id")
    found.places(fetched((b"a", b"z"), base=20), "id")
    found.places(Fetched(TopicPartition("changelog", 5), 0, 1, fetched((b"a", b"x"), base=0).records), "id")
    seen = {place: (one.n, one.last_offset, one.last_reason) for place, one in found.invalid.items()}
    assert seen == {("changelog", 4): (3, 20, "no digit"), ("changelog", 5): (1, 0, "no digit")}


def test_what_is_read_twice_is_counted_once_but_not_what_a_new_topic_holds() -> None:
    found = a_filter()
    for _ in range(2):
        found.places(fetched((b"a", b"x"), (b"b", b"y")), "id")
    assert found.n_invalid == 2
    found.places(fetched((b"a", b"x")), "another id")
    assert found.n_invalid == 3


def test_tombstones_are_passed_over_without_being_counted() -> None:
    found = a_filter()
    assert found.places(fetched((b"a", None)), "id") == {0}
    assert (found.n_invalid, found.invalid) == (0, {})


def test_without_a_check_null_keys_and_values_are_no_rows() -> None:
    found = RowFilter()
    assert found.places(fetched((None, b"1"), (b"a", None), (b"\x00position", b"1"), (b"b", b"")), "id") == {0, 1, 2}
    assert found.n_invalid == 2


# -- stores of releases that kept everything ----------------------------------------------------


def kept_by_an_earlier_release(path: Path) -> None:
    store = PartitionStore(path)
    store.advance(Position(7, TOPIC_ID))
    store.write({KEYS[0]: class_row(1), KEYS[1]: b"hello", b"test": class_row(2), KEYS[2]: class_row(3)[:-1]})
    store.close()


async def test_what_an_earlier_release_kept_and_is_no_row_is_removed_and_the_log_followed_from_its_start(
    tmp_path: Path,
) -> None:
    kept_by_an_earlier_release(tmp_path / "0")
    store = PartitionStore(tmp_path / "0")
    await remove_invalid_rows(store, CLASSES.changelog, ROW_CHECK)
    assert dict(store.items()) == {KEYS[0]: class_row(1)}
    assert store.position is None


async def test_a_store_is_looked_through_once(tmp_path: Path) -> None:
    looked: list[int] = []

    def refusals(topic: str, records: Any) -> list[tuple[int, str]]:
        looked.append(len(records))
        return ROW_CHECK.refusals(topic, records)

    kept_by_an_earlier_release(tmp_path / "0")
    for _ in range(2):
        store = PartitionStore(tmp_path / "0")
        await remove_invalid_rows(store, CLASSES.changelog, RowCheck(refusals))
        store.advance(Position(9, TOPIC_ID))
        store.write({KEYS[1]: class_row(4)})
        store.close()
    assert looked == [4]


async def test_a_store_that_an_earlier_release_wrote_to_again_is_looked_through_again(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0")
    await remove_invalid_rows(store, CLASSES.changelog, ROW_CHECK)
    store.advance(Position(5, TOPIC_ID))
    store.write({KEYS[0]: class_row(1)})
    store.is_checked = False  # That release does not know the mark, and writes the position only.
    store.advance(Position(6, TOPIC_ID))
    store.write({KEYS[1]: b"hello"})
    store.close()
    again = PartitionStore(tmp_path / "0")
    await remove_invalid_rows(again, CLASSES.changelog, ROW_CHECK)
    assert dict(again.items()) == {KEYS[0]: class_row(1)}


async def test_a_lost_changelog_gets_rows_only(tmp_path: Path) -> None:
    kept_by_an_earlier_release(tmp_path / "0")
    sent: dict[bytes, bytes] = {}

    async def send_rows(_tp: TopicPartition, rows: Any) -> None:
        sent.update(rows)

    await send_all(PartitionStore(tmp_path / "0"), CLASSES_0, send_rows, ROW_CHECK)
    assert sent == {KEYS[0]: class_row(1)}
