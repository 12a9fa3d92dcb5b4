"""A partition's rows and position on a real RocksDB: the position never leads the data."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emis_streams.engine.database_errors import Damaged, Unusable, told
from emis_streams.engine.follower import Position
from emis_streams.engine.store import PartitionStore, decode_position, encode_position, open_or_set_aside

TOPIC = "0123456789abcdef0123456789abcdef"
OTHER_TOPIC = "fedcba9876543210fedcba9876543210"


def at(offset: int, topic_id: str = TOPIC) -> Position:
    return Position(offset, topic_id)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table" / "3"


@pytest.fixture
def store(path: Path) -> Iterator[PartitionStore]:
    opened = PartitionStore(path)
    yield opened
    opened.close()


def next_offset(store: PartitionStore) -> int:
    assert store.position is not None
    return store.position.next_offset


# -- rows ---------------------------------------------------------------------------------------


def test_rows_are_found_again_and_what_is_not_there_is_none(store: PartitionStore) -> None:
    store.write({b"b": b"2", b"a": b"1"})
    assert store.get_many([b"a", b"missing", b"b", b"a"]) == {b"a": b"1", b"b": b"2", b"missing": None}


def test_a_row_is_replaced(store: PartitionStore) -> None:
    store.write({b"a": b"1", b"b": b"1"})
    store.write({b"a": b"2"})
    assert dict(store.items()) == {b"a": b"2", b"b": b"1"}


def test_the_position_is_no_row(store: PartitionStore) -> None:
    store.advance(at(5))
    store.write({b"a": b"1"})
    assert list(store.items()) == [(b"a", b"1")]


def test_a_position_is_its_bytes() -> None:
    assert decode_position(encode_position(at(2**40))) == at(2**40)


def test_rows_and_position_survive_closing(path: Path) -> None:
    store = PartitionStore(path)
    store.advance(at(7))
    store.write({b"a": b"1"})
    store.close()
    again = PartitionStore(path)
    assert again.position == at(7)
    assert dict(again.items()) == {b"a": b"1"}
    again.close()


def test_closing_keeps_a_position_that_moved_after_the_last_write(path: Path) -> None:
    """Who owned a partition last then shows in the databases that workers leave behind."""
    store = PartitionStore(path)
    store.advance(at(7))
    store.write({b"a": b"1"})
    store.acknowledged(7, 1)
    store.close()
    again = PartitionStore(path)
    assert again.position == at(8)
    again.close()


def test_a_position_that_is_forgotten_is_forgotten_on_disk_and_the_rows_stay(path: Path) -> None:
    store = PartitionStore(path)
    store.advance(at(7))
    store.write({b"a": b"1"})
    store.forget_position()
    assert store.position is None
    store.close()
    again = PartitionStore(path)
    assert again.position is None
    assert dict(again.items()) == {b"a": b"1"}
    again.close()


# -- acknowledgements ---------------------------------------------------------------------------


def test_acknowledged_rows_move_the_position(store: PartitionStore) -> None:
    store.advance(at(10))
    store.acknowledged(10, 3)
    assert store.position == at(13)


def test_a_gap_holds_the_position_until_it_is_closed(store: PartitionStore) -> None:
    store.advance(at(10))
    store.acknowledged(12, 3)
    assert next_offset(store) == 10
    store.acknowledged(10, 2)
    assert next_offset(store) == 15


def test_several_gaps_are_closed_one_after_the_other(store: PartitionStore) -> None:
    store.advance(at(0))
    for base in (2, 4, 8):
        store.acknowledged(base, 2)
    store.acknowledged(0, 2)
    assert next_offset(store) == 6
    store.advance(at(8))
    assert next_offset(store) == 10


@pytest.mark.parametrize("unknown", [-1, -2])
def test_rows_whose_offset_the_brokers_did_not_say_leave_a_gap(store: PartitionStore, unknown: int) -> None:
    store.advance(at(10))
    store.acknowledged(unknown, 5)
    assert next_offset(store) == 10
    store.acknowledged(15, 1)
    assert next_offset(store) == 10


def test_what_is_acknowledged_before_the_first_position_counts_only_behind_it(store: PartitionStore) -> None:
    store.acknowledged(0, 2)
    store.acknowledged(2, 2)
    assert store.position is None
    store.advance(at(1))
    assert next_offset(store) == 4


def test_what_is_acknowledged_far_before_the_first_position_does_not_move_it(store: PartitionStore) -> None:
    store.acknowledged(5, 2)
    store.advance(at(1))
    assert next_offset(store) == 1


def test_the_position_never_goes_back_within_a_topic(store: PartitionStore) -> None:
    store.advance(at(10))
    store.advance(at(4))
    assert next_offset(store) == 10
    store.acknowledged(3, 2)
    assert next_offset(store) == 10


def test_a_topic_made_anew_has_its_own_positions(store: PartitionStore) -> None:
    store.advance(at(10))
    store.advance(at(4, OTHER_TOPIC))
    assert store.position == at(4, OTHER_TOPIC)


# -- processes that die -------------------------------------------------------------------------

_WRITE_FOR_EVER = """
import sys
from pathlib import Path
from emis_streams.engine.database_errors import Damaged, Unusable, told
from emis_streams.engine.follower import Position
from emis_streams.engine.store import PartitionStore

store = PartitionStore(Path(sys.argv[1]))
filler = b"x" * 200_000
n = 0
store.advance(Position(0, "topic"))
while True:
    store.write({b"%08d" % n: filler})
    n += 1
    store.acknowledged(n - 1, 1)
    if n == 300:
        print("many written", flush=True)
"""


@pytest.mark.parametrize("attempt", range(2))
def test_after_a_kill_every_row_before_the_position_is_there(path: Path, attempt: int) -> None:
    """Batches of 200 kB, so that many memtables were flushed while it wrote."""
    process = subprocess.Popen([sys.executable, "-c", _WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"many written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = PartitionStore(path)
    position = next_offset(store)
    assert position > 0, "nothing was flushed: the test shows nothing"
    found = store.get_many([b"%08d" % n for n in range(position)])
    assert [key for key, row in found.items() if row is None] == []
    store.close()


def test_a_database_in_use_by_another_process_is_named_with_the_way_out(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RuntimeError, match=f"{path} is in use by another worker: give each .+"):
            open_or_set_aside(path, PartitionStore)
    finally:
        process.kill()
        process.communicate()
    assert not path.with_name("3.corrupt").exists()


def test_a_database_that_is_open_already_is_not_set_aside(store: PartitionStore, path: Path) -> None:
    with pytest.raises(RuntimeError, match="in use"):
        open_or_set_aside(path, PartitionStore)
    assert store.get_many([b"a"]) == {b"a": None}


# -- databases that cannot be read --------------------------------------------------------------


def filled(path: Path) -> None:
    store = PartitionStore(path)
    store.advance(at(7))
    store.write({b"%06d" % n: os.urandom(100) for n in range(5_000)})
    store.close()


def damage(file: Path) -> None:
    """Another content of the same length."""
    file.write_bytes(bytes(byte ^ 0x5A for byte in file.read_bytes()))


def damage_beginning(file: Path) -> None:
    """Of a table file: its first block, where the position is."""
    raw = file.read_bytes()
    file.write_bytes(bytes(byte ^ 0x5A for byte in raw[:1000]) + raw[1000:])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT", "*.sst"])
@pytest.mark.parametrize("harm", [damage, damage_beginning, cut, Path.unlink])
def test_a_database_that_cannot_be_read_is_set_aside_and_begun_anew(
    path: Path, pattern: str, harm: Callable[[Path], None]
) -> None:
    filled(path)
    for file in path.glob(pattern):
        harm(file)
    store = open_or_set_aside(path, PartitionStore)
    assert store.position is None
    assert dict(store.items()) == {}
    store.write({b"a": b"1"})
    assert store.get_many([b"a"]) == {b"a": b"1"}
    store.close()


def test_what_was_set_aside_is_kept_for_a_look_and_replaced_by_the_next(path: Path) -> None:
    for _ in range(2):
        filled(path)
        damage(next(path.glob("MANIFEST-*")))
        open_or_set_aside(path, PartitionStore).close()
    assert list(path.with_name("3.corrupt").glob("*.sst"))


# -- blocks that turn out to be damaged afterwards ----------------------------------------------


def flip_a_bit_in_the_middle(path: Path) -> None:
    """Of each table file, where it is open."""
    for file in path.glob("*.sst"):
        with file.open("r+b") as opened:
            opened.seek(file.stat().st_size // 2)
            byte = opened.read(1)[0]
            opened.seek(-1, os.SEEK_CUR)
            opened.write(bytes([byte ^ 0x10]))


@pytest.fixture
def damaged(path: Path) -> PartitionStore:
    filled(path)
    store = PartitionStore(path)
    flip_a_bit_in_the_middle(path)
    return store


def test_a_block_that_is_damaged_sets_the_database_aside_for_the_next_start(
    damaged: PartitionStore, path: Path
) -> None:
    with pytest.raises(Damaged, match=f"{path} is damaged and set aside"):
        damaged.get_many([b"%06d" % n for n in range(5_000)])
    assert not path.exists()
    assert list(path.with_name("3.corrupt").glob("*.sst"))


def test_rows_behind_a_damaged_block_are_no_end(damaged: PartitionStore) -> None:
    with pytest.raises(Exception, match="Corruption"):
        list(damaged.items())


@pytest.mark.parametrize("said", ["No space left on device", "Read-only file system", "Too many open files"])
def test_a_disk_that_cannot_be_used_is_one_line(path: Path, said: str) -> None:
    error = told(path, Exception(f"IO error: {said}: While appending to file: {path}/000009.sst: {said}"))
    assert isinstance(error, Unusable)
    assert str(error).startswith(f"{path} cannot be used: {said};")
