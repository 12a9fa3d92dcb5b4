"""The writer on SQLite and on MariaDB: the same cases."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from hypothesis import HealthCheck, strategies
from sqlalchemy import Engine, and_, delete, insert, select, text, update

from emis_streams import database, topics
from emis_streams.engine.follower import Position, PositionsChanged
from emis_streams.errors import Unavailable
from emis_streams.replica import migrate
from emis_streams.replica.schema import class_infos, metadata, replica_positions, teacher_assignments, teachers
from emis_streams.replica.writer import ReplicaSink
from tests.replica_rows import (
    ASSIGNMENTS,
    CLASSES,
    CREATED,
    DELETED,
    TEACHERS,
    TOPIC_ID,
    UPDATED,
    WRITTEN_MS,
    class_row,
    id_of,
    row_of,
    slice_of,
)

Refused = list[tuple[TopicPartition, bytes, bytes, str]]
BOTH = ["sqlite", "mariadb"]


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'replica.db'}"
    url: str = request.getfixturevalue("mariadb_url")
    return url


@pytest.fixture
def refused() -> Refused:
    return []


@pytest_asyncio.fixture
async def sink(database_url: str, refused: Refused) -> AsyncIterator[ReplicaSink]:
    opened = await open_sink(database_url, refused)
    yield opened
    await opened.close()


async def open_sink(database_url: str, refused: Refused) -> ReplicaSink:
    async def refuse(tp: TopicPartition, key: bytes, row: bytes, reason: str) -> None:
        refused.append((tp, key, row, reason))

    opened = ReplicaSink.open(database_url, refuse)
    await opened.positions([CLASSES, TEACHERS, ASSIGNMENTS])
    return opened


@pytest.fixture
def engine(database_url: str) -> Any:
    """For the test's own look at the database."""
    migrate.upgrade(database_url)
    made = database.migration_engine(database_url)
    yield made
    made.dispose()


def change(engine: Engine, *statements: Any) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)


def classes_in(engine: Engine, *columns: str) -> dict[str, Any]:
    """One column, or a tuple of several, by class id."""
    query = select(class_infos.c.ClassId, *(class_infos.c[name] for name in columns))
    with engine.connect() as connection:
        return {key: rest[0] if len(rest) == 1 else tuple(rest) for key, *rest in connection.execute(query)}


async def test_rows_and_positions_are_kept(sink: ReplicaSink, engine: Engine) -> None:
    await sink.apply(
        [
            slice_of(CLASSES, {id_of(50): class_row(1), id_of(51): class_row(2, "Lớp 10A2 — «chuyên» 🙂 '\\%s\"")}, 7),
            slice_of(TEACHERS, {id_of(1): row_of(1, CREATED, ("Hoa", None, None))}, 3),
            slice_of(ASSIGNMENTS, {f"{id_of(1)}|{id_of(100)}": row_of(1, CREATED, (id_of(50), "subject", None))}, 1),
        ]
    )
    assert classes_in(engine, "ClassName") == {id_of(50): "10A1", id_of(51): "Lớp 10A2 — «chuyên» 🙂 '\\%s\""}
    with engine.connect() as connection:
        assert connection.scalars(select(teachers.c.FullName)).all() == ["Hoa"]
        assert connection.scalars(select(teacher_assignments.c.ClassId)).all() == [id_of(50)]
    assert await sink.positions([CLASSES, TEACHERS, ASSIGNMENTS]) == {
        CLASSES: Position(7, TOPIC_ID),
        TEACHERS: Position(3, TOPIC_ID),
        ASSIGNMENTS: Position(1, TOPIC_ID),
    }


@hypothesis.settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@hypothesis.given(names=strategies.lists(strategies.text(min_size=1, max_size=200), min_size=1, max_size=8))
def test_any_text_is_kept_as_it_is(database_url: str, names: list[str]) -> None:
    """Whichever way it is sent: with what the driver escapes, or without."""
    names += ["'); DROP TABLE ClassInfos; --", "\\", "%s", "\x1c", "\x1d','\x1e"][: len(names) % 6]

    async def keep_and_look() -> dict[str, Any]:
        sink = await open_sink(database_url, [])
        await sink.reset(CLASSES)
        rows = {id_of(n): class_row(1, name) for n, name in enumerate(names)}
        async with sink._engine.begin() as connection:
            await connection.execute(delete(class_infos))
        await sink.positions([CLASSES])
        await sink.apply([slice_of(CLASSES, rows, 1)])
        async with sink._engine.begin() as connection:
            kept = await connection.execute(select(class_infos.c.ClassId, class_infos.c.ClassName))
            found = {row.ClassId: row.ClassName for row in kept}
        await sink.close()
        return found

    assert asyncio.run(keep_and_look()) == {id_of(n): name for n, name in enumerate(names)}


async def test_a_kept_row_has_the_columns_of_old_and_says_where_it_is_from(sink: ReplicaSink, engine: Engine) -> None:
    row = row_of(5, UPDATED, ("B", "10", "2025-2026", 41, id_of(9), id_of(3)), created=2)
    await sink.apply([slice_of(CLASSES, {id_of(50): row}, 1)])
    with engine.connect() as connection:
        [kept] = connection.execute(select(class_infos)).mappings()
    times = {name: str(kept[name]) for name in ("LastSyncedAt", "CreatedAt", "UpdatedAt")}
    assert kept["Id"] == kept["ClassId"] == id_of(50)
    assert times == {
        "LastSyncedAt": "2025-09-04 15:33:20.123000",
        "CreatedAt": "2025-09-05 07:00:02.250002",
        "UpdatedAt": "2025-09-05 07:00:05.250005",
    }
    assert (kept["SyncSource"], kept["SourceEventId"]) == ("emis.class.updated", id_of(1005))
    assert (kept["HomeroomTeacherId"], kept["TotalStudents"], kept["DeletedAt"]) == (id_of(3), 41, None)
    assert kept["Version"] == row[:29].hex()


async def test_every_order_of_events_ends_with_the_highest_version(sink: ReplicaSink, engine: Engine) -> None:
    events = [class_row(1, "first"), class_row(2, "second", UPDATED), class_row(3, "third", UPDATED)]
    for n, order in enumerate(itertools.permutations(events)):
        for step, row in enumerate(order):
            await sink.apply([slice_of(CLASSES, {id_of(n): row}, n * 3 + step + 1)])
    assert set(classes_in(engine, "ClassName", "UpdatedAt", "SourceEventId").values()) == {
        classes_in(engine, "ClassName", "UpdatedAt", "SourceEventId")[id_of(0)]
    }
    assert set(classes_in(engine, "ClassName", "Version").values()) == {("third", events[2][:29].hex())}


async def test_an_equal_version_is_written_again(sink: ReplicaSink, engine: Engine) -> None:
    await sink.apply([slice_of(CLASSES, {id_of(50): class_row(1)}, 1)])
    await sink.apply([slice_of(CLASSES, {id_of(50): class_row(1)}, 2, WRITTEN_MS + 1000)])
    [synced] = classes_in(engine, "LastSyncedAt").values()
    assert str(synced) == "2025-09-04 15:33:21.123000"


async def test_a_deleted_row_stays_as_a_marker_and_is_not_brought_back(sink: ReplicaSink, engine: Engine) -> None:
    deleted = row_of(3, DELETED[topics.CLASSES], None, created=1)
    await sink.apply([slice_of(CLASSES, {id_of(50): class_row(1, homeroom=id_of(3))}, 1)])
    await sink.apply([slice_of(CLASSES, {id_of(50): deleted, id_of(51): deleted}, 2)])
    await sink.apply([slice_of(CLASSES, {id_of(50): class_row(2, "late"), id_of(51): class_row(1)}, 3)])
    kept = classes_in(engine, "ClassName", "HomeroomTeacherId", "Version", "DeletedAt")
    assert {k: (*v[:3], str(v[3])) for k, v in kept.items()} == {
        id_: (None, None, deleted[:29].hex(), "2025-09-05 07:00:03.250003") for id_ in (id_of(50), id_of(51))
    }


async def test_refused_rows_are_told_and_do_not_hold_up_their_neighbours(
    sink: ReplicaSink, engine: Engine, refused: Refused
) -> None:
    rows = {id_of(n): class_row(1, f"C{n}") for n in range(1200)}
    too_many = class_row(1, students=2**63)
    rows |= {id_of(3): too_many, id_of(700): too_many, id_of(701): b"no row"}
    await sink.apply([slice_of(CLASSES, rows, 1200)])
    assert len(classes_in(engine, "ClassName")) == 1197
    assert sorted((tp, key, row) for tp, key, row, _ in refused) == sorted(
        [
            (CLASSES, id_of(3).encode(), too_many),
            (CLASSES, id_of(700).encode(), too_many),
            (CLASSES, id_of(701).encode(), b"no row"),
        ]
    )
    assert all(reason for *_, reason in refused)
    assert (await sink.positions([CLASSES]))[CLASSES].next_offset == 1200


async def test_nothing_is_kept_when_a_refused_row_cannot_be_told(database_url: str, engine: Engine) -> None:
    is_away = True

    async def refuse(*_: object) -> None:
        if is_away:
            raise Unavailable("no broker")

    sink = ReplicaSink.open(database_url, refuse)
    assert await sink.positions([CLASSES]) == {}
    part = slice_of(CLASSES, {id_of(1): class_row(1), id_of(2): b"no row"}, 2)
    with pytest.raises(Unavailable, match="no broker"):
        await sink.apply([part])
    assert classes_in(engine, "ClassName") == {}
    is_away = False
    await sink.apply([part])
    assert classes_in(engine, "ClassName") == {id_of(1): "10A1"}
    await sink.close()


async def test_many_partitions_are_all_kept(sink: ReplicaSink, engine: Engine) -> None:
    tps = [TopicPartition(CLASSES.topic, p) for p in range(10)]
    await sink.positions(tps)
    for step in (1, 2):
        await sink.apply(
            [
                slice_of(
                    tp, {id_of(tp.partition * 1000 + n): class_row(step, f"{step}") for n in range(400)}, step * 400
                )
                for tp in tps
            ]
        )
    assert list(classes_in(engine, "ClassName").values()) == ["2"] * 4000
    assert {at.next_offset for at in (await sink.positions(tps)).values()} == {800}


async def test_a_commit_of_unknown_outcome_is_simply_applied_again(
    sink: ReplicaSink, engine: Engine, database_url: str
) -> None:
    part = slice_of(CLASSES, {id_of(50): class_row(1)}, 5)
    other = await open_sink(database_url, [])
    await other.apply([part])  # as if this sink's commit had been done, and its answer lost
    await other.close()
    await sink.apply([part])
    await sink.apply([slice_of(CLASSES, {id_of(51): class_row(1)}, 6)])
    assert set(classes_in(engine, "ClassName")) == {id_of(50), id_of(51)}


async def test_a_position_that_another_worker_has_moved_is_not_forgotten(sink: ReplicaSink, database_url: str) -> None:
    await sink.apply([slice_of(CLASSES, {id_of(50): class_row(1)}, 5)])
    other = await open_sink(database_url, [])
    await other.apply([slice_of(CLASSES, {id_of(51): class_row(1)}, 6)])
    await sink.reset(CLASSES)
    assert (await sink.positions([CLASSES]))[CLASSES].next_offset == 6
    await other.reset(CLASSES)
    assert await sink.positions([CLASSES]) == {}
    await other.close()


def written_by_0_1_0(tp: TopicPartition, next_offset: int) -> Any:
    """What a writer of that release does to a position: it knows no `WrittenOffset`."""
    own = and_(replica_positions.c.Topic == tp.topic, replica_positions.c.Partition == tp.partition)
    return update(replica_positions).where(own).values(NextOffset=next_offset)


TEACHER = {id_of(1): row_of(1, CREATED, ("Hoa", None, None))}


async def test_what_a_writer_of_the_last_release_wrote_is_followed_again(
    sink: ReplicaSink, engine: Engine, database_url: str
) -> None:
    """It reads event ids of rows of format 2 wrongly (decision 0017); an equal version is written again."""
    await sink.apply([slice_of(CLASSES, {id_of(50): class_row(1)}, 5), slice_of(TEACHERS, TEACHER, 3)])
    right = classes_in(engine, "SourceEventId")
    wrong = update(class_infos).values(SourceEventId="ffffffff-ffff-ffff-0000-000000000005")
    change(engine, wrong, written_by_0_1_0(CLASSES, 9))
    next_one = await open_sink(database_url, [])
    assert await next_one.positions([CLASSES, TEACHERS]) == {
        CLASSES: Position(5, TOPIC_ID),
        TEACHERS: Position(3, TOPIC_ID),
    }
    await next_one.apply([slice_of(CLASSES, {id_of(50): class_row(1)}, 9)])
    assert classes_in(engine, "SourceEventId") == right
    assert (await next_one.positions([CLASSES]))[CLASSES] == Position(9, TOPIC_ID)
    await next_one.close()


async def test_a_partition_that_only_the_last_release_wrote_is_followed_from_its_start(
    sink: ReplicaSink, engine: Engine
) -> None:
    own = {"Topic": CLASSES.topic, "Partition": CLASSES.partition, "NextOffset": 9, "TopicId": TOPIC_ID}
    await sink.apply([slice_of(CLASSES, {id_of(50): class_row(1)}, 5)])
    change(engine, delete(replica_positions), insert(replica_positions).values(own))
    assert await sink.positions([CLASSES]) == {}


EMPTIED: dict[str, Callable[[], list[Any]]] = {
    "positions deleted": lambda: [delete(replica_positions)],
    "rows deleted": lambda: [delete(class_infos)],
    "both deleted": lambda: [delete(class_infos), delete(replica_positions)],
    "tables dropped": lambda: [text(f"DROP TABLE {n}") for n in (*metadata.tables, "ReplicaSchemaVersion")],
}


@pytest.mark.parametrize("how", EMPTIED)
async def test_a_database_emptied_under_the_writer_is_noticed_and_filled_from_the_start(
    sink: ReplicaSink, engine: Engine, how: str
) -> None:
    first, second = (slice_of(CLASSES, {id_of(n): class_row(n)}, n) for n in (1, 2))
    await sink.apply([first])
    await sink.apply([second])
    change(engine, *EMPTIED[how]())
    with pytest.raises(PositionsChanged):
        await sink.apply([slice_of(CLASSES, {id_of(3): class_row(3)}, 3)])
    assert await sink.positions([CLASSES]) == {}
    for part in (first, second, slice_of(CLASSES, {id_of(3): class_row(3)}, 3)):
        await sink.apply([part])
    assert set(classes_in(engine, "ClassName")) == {id_of(1), id_of(2), id_of(3)}


THEIRS = TopicPartition(CLASSES.topic, 1)


@pytest_asyncio.fixture
async def other(sink: ReplicaSink, database_url: str) -> AsyncIterator[ReplicaSink]:
    """Another worker's; each of the two has written a row of its own partition, of CLASSES and of THEIRS."""
    opened = await open_sink(database_url, [])
    await sink.apply([slice_of(CLASSES, {id_of(1): class_row(1)}, 1)])
    await opened.apply([slice_of(THEIRS, {id_of(2): class_row(2)}, 1)])
    yield opened
    await opened.close()


async def test_a_table_that_another_writer_has_begun_to_fill_again_is_still_noticed(
    sink: ReplicaSink, other: ReplicaSink, engine: Engine
) -> None:
    change(engine, delete(class_infos))
    assert await other.positions([THEIRS]) == {}
    await other.apply([slice_of(THEIRS, {id_of(2): class_row(2)}, 1)])
    with pytest.raises(PositionsChanged):
        await sink.apply([])
    assert await sink.positions([CLASSES]) == {}


async def test_rows_that_were_on_their_way_do_not_hide_that_a_table_was_emptied(
    sink: ReplicaSink, other: ReplicaSink, engine: Engine
) -> None:
    change(engine, delete(class_infos).where(class_infos.c.ClassId != id_of(2)))  # As if written just after.
    with pytest.raises(PositionsChanged, match="ClassInfos in the database was emptied"):
        await sink.apply([slice_of(CLASSES, {id_of(3): class_row(3)}, 2)])
    assert await sink.positions([CLASSES]) == {}
    with pytest.raises(PositionsChanged):
        await other.apply([])
    assert await other.positions([THEIRS]) == {}


async def test_a_restored_database_is_noticed_and_followed_from_its_own_position(
    sink: ReplicaSink, engine: Engine
) -> None:
    for n in (1, 2, 3):
        await sink.apply([slice_of(CLASSES, {id_of(n): class_row(n)}, n)])
    back = update(replica_positions).where(replica_positions.c.Topic == CLASSES.topic).values(NextOffset=1)
    change(engine, back, delete(class_infos).where(class_infos.c.ClassId != id_of(1)))
    with pytest.raises(PositionsChanged, match="next_offset=1"):
        await sink.apply([slice_of(CLASSES, {id_of(4): class_row(4)}, 4)])
    assert await sink.positions([CLASSES]) == {CLASSES: Position(1, TOPIC_ID)}


async def test_a_table_in_which_no_row_could_be_kept_is_not_taken_for_an_emptied_one(
    sink: ReplicaSink, refused: Refused
) -> None:
    for n in (1, 2, 3):
        await sink.apply([slice_of(CLASSES, {id_of(n): b"no row"}, n)])
    assert len(refused) == 3


async def test_a_position_that_was_reset_is_forgotten_and_the_rows_stay(sink: ReplicaSink, engine: Engine) -> None:
    tps = [CLASSES, TopicPartition(CLASSES.topic, 1)]
    await sink.apply([slice_of(tp, {id_of(tp.partition): class_row(1)}, 9) for tp in tps])
    await sink.reset(CLASSES)
    assert await sink.positions(tps) == {tps[1]: Position(9, TOPIC_ID)}
    await sink.apply([slice_of(CLASSES, {id_of(0): class_row(2, "again")}, 1)])
    assert classes_in(engine, "ClassName") == {id_of(0): "again", id_of(1): "10A1"}


async def test_a_lock_held_by_another_is_waited_for_and_nothing_is_lost(
    database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emis_streams.database.LOCK_WAIT_SECONDS", 0.5)
    monkeypatch.setattr("emis_streams.replica.writer.TIMEOUT_SECONDS", 0.6)
    sink = await open_sink(database_url, [])
    await sink.apply([slice_of(CLASSES, {id_of(50): class_row(1)}, 1)])
    part = slice_of(CLASSES, {id_of(50): class_row(2, "new", UPDATED)}, 2)
    with engine.begin() as connection:
        connection.execute(update(class_infos).values(Grade="11"))
        with pytest.raises(Unavailable):
            await sink.apply([part])
    await sink.apply([part])
    assert classes_in(engine, "ClassName") == {id_of(50): "new"}
    await sink.close()


async def test_a_look_without_anything_to_write_notices_too(sink: ReplicaSink, engine: Engine) -> None:
    await sink.apply([slice_of(CLASSES, {id_of(50): class_row(1)}, 1)])
    await sink.apply([])
    change(engine, delete(class_infos))
    with pytest.raises(PositionsChanged):
        await sink.apply([])
    assert await sink.positions([CLASSES]) == {}
    await sink.apply([])
