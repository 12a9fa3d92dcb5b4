"""A local copy of e687981, which kept whatever a changelog held: what is no row is removed, on a real RocksDB."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from rocksdict import WriteBatch

from emis_streams import topics
from emis_streams.answers import ClassDetail, TeacherDetail
from emis_streams.engine.follower import Position
from emis_streams.read_model import indexing
from emis_streams.read_model.keys import ACTIVITY_ROW, ASSIGNMENT, CLASS, POSITION, PROGRESS_ROW, TEACHER, TIME_BYTES
from emis_streams.read_model.model import ReadModel
from emis_streams.read_model.sink import ReadModelSink
from tests.replica_rows import (
    ASSIGNMENTS,
    CLASSES,
    CREATED,
    TEACHERS,
    TOPIC_ID,
    WRITTEN_MS,
    class_row,
    id_of,
    row_of,
    slice_of,
)

LAN, MAI = id_of(1), id_of(2)
A, B, C = id_of(11), id_of(12), id_of(13)
NEXT_OFFSET = 7
OTHER_CLASSES = TopicPartition(topics.CLASSES.changelog, 5)
EVENT = json.dumps({"eventId": id_of(5), "eventType": "emis.class.created", "classId": B, "className": "10A1"}).encode()
LATE = b"\xff" * 8 + b"\x01" + b"\xff" * 16
"""The beginning of a version that no honest one exceeds."""

GARBAGE: dict[str, tuple[bytes, str, bytes]] = {
    "the JSON of an event under a classId": (CLASS, B, EVENT),
    "text under a classId": (CLASS, B, b"hello"),
    "nothing under a classId": (CLASS, B, b""),
    "a key that is no id": (CLASS, "test", class_row(1)),
    "an empty key": (CLASS, "", class_row(1)),
    "a key with a bar": (CLASS, f"{B}|{C}", class_row(1)),
    "a row whose content was changed": (CLASS, B, class_row(1, "10A1").replace(b"10A1", b"10A2")),
    "a version of the far future": (CLASS, B, LATE + class_row(1)[len(LATE) :]),
    "a row of another table": (CLASS, B, row_of(1, CREATED, ("Lan", None, None))),
    "a teacher that is text": (TEACHER, MAI, b"hello"),
    "an assignment without a bar": (ASSIGNMENT, LAN, row_of(1, CREATED, (A, "subject-teacher", None))),
    "an assignment to no class": (ASSIGNMENT, f"{LAN}|{C}", row_of(1, CREATED, ("test", "subject-teacher", None))),
    "progress that is text": (PROGRESS_ROW, f"{LAN}|{C}", b"hello"),
    "activity that is text": (ACTIVITY_ROW, f"{LAN}|{C}", b"hello"),
}
CHANGELOG_OF = {
    CLASS: topics.CLASSES.changelog,
    TEACHER: topics.TEACHERS.changelog,
    ASSIGNMENT: topics.ASSIGNMENTS.changelog,
    PROGRESS_ROW: topics.PROGRESS.changelog,
    ACTIVITY_ROW: topics.ACTIVITY.changelog,
}
PARTITIONS = [CLASSES, OTHER_CLASSES, *(TopicPartition(name, 0) for name in list(CHANGELOG_OF.values())[1:])]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "read-model"


@pytest.fixture
def model(path: Path) -> Iterator[ReadModel]:
    with closing(ReadModel(path)) as opened:
        yield opened


async def write_honest_rows(model: ReadModel) -> None:
    """Class A of teacher Lan, and a position in every partition."""
    sink = ReadModelSink(model)
    await sink.apply([slice_of(tp, {}, NEXT_OFFSET) for tp in PARTITIONS])
    await sink.apply([slice_of(TEACHERS, {LAN: row_of(1, CREATED, ("Lan", None, None))}, NEXT_OFFSET)])
    await sink.apply([slice_of(CLASSES, {A: class_row(1, "10A1", homeroom=LAN)}, NEXT_OFFSET)])
    assigned = {f"{LAN}|{id_of(9)}": row_of(1, CREATED, (A, "subject-teacher", None))}
    await sink.apply([slice_of(ASSIGNMENTS, assigned, NEXT_OFFSET)])


def as_e687981_left_it(model: ReadModel, garbage: Mapping[bytes, bytes]) -> None:
    """With what it kept unseen, its positions under `p`, and no index but of homeroom classes."""
    older = WriteBatch(raw_mode=True)
    for key, value in garbage.items():
        older.put(key, WRITTEN_MS.to_bytes(TIME_BYTES, "big") + value)
    for key, value in list(model.scan(POSITION, bytes([POSITION[0] + 1]))):
        older.put(b"p" + key[1:], value)
        older.delete(key)
    model.write(older)


async def open_again(model: ReadModel) -> dict[TopicPartition, Position]:
    return await ReadModelSink(model).positions(PARTITIONS)


def shown(model: ReadModel) -> list[tuple[str, str | None]]:
    found = model.teacher(LAN)
    assert isinstance(found, TeacherDetail)
    return [(c.class_id, c.class_name) for c in found.class_assignments]


@pytest.mark.parametrize(("prefix", "key", "value"), GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_row_is_removed_and_its_changelog_followed_from_its_start(
    model: ReadModel, prefix: bytes, key: str, value: bytes
) -> None:
    await write_honest_rows(model)
    as_e687981_left_it(model, {prefix + key.encode(): value})
    positions = await open_again(model)
    assert model.get_many([prefix + key.encode()]) == [None]
    from_start = {tp for tp, at in positions.items() if at != Position(NEXT_OFFSET, TOPIC_ID)}
    assert from_start == {tp for tp in PARTITIONS if tp.topic == CHANGELOG_OF[prefix]}
    assert all(positions[tp].topic_id == "" for tp in from_start), "a position of no topic is outside of every log"
    assert shown(model) == [(A, "10A1")]
    assert await open_again(model) == positions


async def test_the_row_that_a_changelog_still_has_comes_back(model: ReadModel) -> None:
    await write_honest_rows(model)
    as_e687981_left_it(model, {CLASS + A.encode(): EVENT, CLASS + B.encode(): LATE})
    await open_again(model)
    await ReadModelSink(model).apply([slice_of(CLASSES, {A: class_row(1, "10A1"), B: class_row(2, "11B2")}, 2)])
    found = [model.class_(class_id) for class_id in (A, B)]
    assert [c.class_name if isinstance(c, ClassDetail) else None for c in found] == ["10A1", "11B2"]


async def test_honest_rows_stay_and_positions_with_them(model: ReadModel) -> None:
    await write_honest_rows(model)
    as_e687981_left_it(model, {})
    assert await open_again(model) == dict.fromkeys(PARTITIONS, Position(NEXT_OFFSET, TOPIC_ID))
    assert shown(model) == [(A, "10A1")]


async def test_a_sweep_that_a_crash_cut_off_goes_on_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends after some of the garbage: what is left of it is not forgotten, and neither is the log."""
    garbage = {CLASS + id_of(1_000 + n).encode(): b"hello" for n in range(1_200)}
    with closing(ReadModel(path)) as model:
        await write_honest_rows(model)
        as_e687981_left_it(model, garbage)
        cut_off_after(1, monkeypatch)
        with pytest.raises(ZeroDivisionError):
            await open_again(model)
        assert 0 < sum(value is not None for value in model.get_many(list(garbage))) < len(garbage)
    monkeypatch.undo()
    with closing(ReadModel(path)) as model:
        positions = await open_again(model)
        assert model.get_many(list(garbage)) == [None] * len(garbage)
        assert (positions[CLASSES].topic_id, positions[TEACHERS].topic_id) == ("", TOPIC_ID)
        assert shown(model) == [(A, "10A1")]


def cut_off_after(n_removals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, left = indexing._remove, [n_removals]

    def remove_or_end(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise ZeroDivisionError("the process ends here")
        remove(*arguments)

    monkeypatch.setattr(indexing, "_remove", remove_or_end)


async def test_a_copy_of_this_version_is_not_looked_through_again(
    model: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_honest_rows(model)
    as_e687981_left_it(model, {})
    await open_again(model)

    def refusals(*_: object) -> Any:
        raise AssertionError("rows are looked at")

    monkeypatch.setattr(indexing, "refusals", refusals)
    await open_again(model)
