"""Of what is no row, that is listed which compaction would keep; what mends it is a row of the log, or a tombstone."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from emis_streams.changelog_check import Changes, _finish, _Found, _keep_rows, _note_last
from emis_streams.engine.fetch import Fetched
from emis_streams.rows import merged
from emis_streams.topics import CLASSES
from tests.replica_rows import class_row, id_of

TP = TopicPartition(CLASSES.changelog, 0)
A, B = id_of(1).encode(), id_of(2).encode()
ROW, NEWER = class_row(1), class_row(2)


def checked(*pairs: tuple[bytes | None, bytes | None]) -> Changes:
    records: list[Any] = [SimpleNamespace(key=k, value=v, offset=n) for n, (k, v) in enumerate(pairs)]
    found = _Found()
    for record in records:  # As in runs of one record each.
        _note_last(found, Fetched(TP, record.offset, record.offset + 1, [record]))
    _keep_rows(found, Fetched(TP, 0, len(records), records), {key for key in found.last if key is not None})
    _finish(found)
    changes = Changes()
    if found.last:
        changes.found[TP] = found
    return changes


@pytest.mark.parametrize(
    ("pairs", "offsets", "sent"),
    [
        ([(A, ROW)], [], []),
        ([(A, ROW), (A, b"hello")], [1], [(A, ROW)]),
        ([(A, NEWER), (A, ROW), (A, b"hello")], [2], [(A, merged(ROW, NEWER))]),
        ([(A, b"hello")], [0], [(A, None)]),
        ([(b"test", b"hello")], [0], [(b"test", None)]),
        ([(b"test", ROW)], [0], [(b"test", None)]),
        ([(A, ROW), (A, None)], [1], [(A, ROW)]),
        ([(A, None)], [], []),
        ([(b"test", b"hello"), (b"test", None)], [], []),
        ([(A, ROW), (A, b"hello"), (A, ROW)], [], []),
        ([(A, b"hello"), (A, b"there"), (B, ROW)], [1], [(A, None)]),
        ([(None, b"hello")], [0], []),
        ([(b"", b"hello")], [0], [(b"", None)]),
    ],
)
def test_what_stands_is_listed_and_what_mends_it_is_sent(
    pairs: list[tuple[bytes | None, bytes | None]], offsets: list[int], sent: list[tuple[bytes, bytes | None]]
) -> None:
    changes = checked(*pairs)
    assert [one.offset for one in changes.no_rows()] == offsets
    assert [(key, value) for _, key, value in changes.records()] == sent
    assert all(one.reason for one in changes.no_rows())


def test_after_the_repair_nothing_is_listed() -> None:
    pairs: list[tuple[bytes | None, bytes | None]] = [(A, ROW), (A, b"hello"), (B, b"x"), (b"test", ROW)]
    mended = [(key, value) for _, key, value in checked(*pairs).records()]
    assert checked(*pairs, *mended).no_rows() == []
