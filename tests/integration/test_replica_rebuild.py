"""`replica verify` and `replica rebuild` on a real broker, with SQLite and MariaDB."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from click.testing import CliRunner
from sqlalchemy import Engine, delete, func, insert, select, update

from emis_streams import admin, database, following, settings, topics
from emis_streams.broker_clock import BrokerClock
from emis_streams.cli.replica import replica
from emis_streams.local import KafkaCluster
from emis_streams.replica.comparison import Difference
from emis_streams.replica.schema import class_infos, replica_positions, teacher_assignments, teachers
from emis_streams.replica.verify import Result, verify
from emis_streams.replica.writer import ReplicaSink
from emis_streams.settings import Settings
from emis_streams.sync_latency import SyncLatency
from tests.replica_rows import CREATED, DELETED, UPDATED, class_row, id_of, row_of
from tests.services import environment_of, kafka_cluster, settings_for, until

N = 300
NAMES = {"classes": topics.CLASSES, "teachers": topics.TEACHERS, "assignments": topics.ASSIGNMENTS}


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[KafkaCluster]:
    """The changelogs' names are fixed, so they need a broker of their own."""
    with kafka_cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module")
async def changelogs(own_kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Filled once: every row twice in the log, the newer version last or first; some deleted."""
    config = settings_for(own_kafka.bootstrap, tmp_path_factory.mktemp("topics"))
    await admin.ensure_topics(config)
    async with AIOKafkaProducer(bootstrap_servers=own_kafka.bootstrap, linger_ms=5) as producer:
        for n in range(N):
            await send(producer, topics.CLASSES, id_of(n), class_row(2, f"C{n}", UPDATED), n)
            await send(producer, topics.CLASSES, id_of(n), class_row(1, "old"), n)
            await send(producer, topics.TEACHERS, id_of(n), row_of(1, CREATED, (f"T{n}", None, None)), n)
            key = f"{id_of(n)}|{id_of(5000 + n)}"
            await send(producer, topics.ASSIGNMENTS, key, row_of(1, CREATED, (id_of(n), "subject", None)), n)
        for n in range(0, N, 10):
            await send(producer, topics.CLASSES, id_of(n), row_of(3, DELETED[topics.CLASSES], None, created=1), n)
        await producer.flush()
    return own_kafka.bootstrap


async def send(producer: AIOKafkaProducer, subject: topics.Subject, key: str, row: bytes, n: int) -> None:
    await producer.send(subject.changelog, row, key.encode(), partition=n % topics.PARTITIONS)


@pytest.fixture(params=["sqlite", "mariadb"])
def config(request: pytest.FixtureRequest, changelogs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = settings_for(changelogs, tmp_path)
    if request.param == "mariadb":
        made = settings_for(changelogs, tmp_path, database_url=request.getfixturevalue("mariadb_url"))
    for name, value in environment_of(made).items():
        monkeypatch.setenv(name, value)
    settings.current.cache_clear()
    yield made
    settings.current.cache_clear()


@pytest.fixture
def engine(config: Settings) -> Iterator[Engine]:
    made = database.migration_engine(config.database_url)
    yield made
    made.dispose()


async def change(engine: Engine, *statements: Any) -> None:
    """(In a thread: a writer that waits for this loop to commit may hold the lock.)"""

    def execute() -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    await asyncio.to_thread(execute)


async def counts(engine: Engine) -> list[int]:
    def count() -> list[int]:
        with engine.connect() as connection:
            tables = (class_infos, teachers, teacher_assignments)
            return [connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables]

    return await asyncio.to_thread(count)


async def is_full(engine: Engine) -> bool:
    return await counts(engine) == [N, N, N]


async def command(*arguments: str) -> Any:
    """The command as a user calls it (in a thread: it has a loop of its own)."""
    return await asyncio.to_thread(CliRunner().invoke, replica, arguments, catch_exceptions=False)


@asynccontextmanager
async def a_worker(config: Settings) -> AsyncIterator[Any]:
    """What a worker with the role `replicate` runs."""

    async def refuse(*_: object) -> None: ...

    sink = ReplicaSink.open(config.database_url, refuse)
    follower = following.replica_follower(config, sink, SyncLatency(0.0), BrokerClock())
    running = asyncio.create_task(follower.follow())
    try:
        yield follower
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await sink.close()


async def differences(config: Settings) -> dict[str, list[Difference]]:
    result: Result = await verify(config, 10.0, lambda _: None, lambda _: None)
    listed = [d for p in result.partitions for d in p.differences]
    assert result.equal == (not listed)
    return {kind: [d for d in listed if d.kind == kind] for kind in sorted({d.kind for d in listed})}


async def test_a_rebuilt_replica_is_equal_to_the_tables(config: Settings, engine: Engine) -> None:
    rebuilt = await command("rebuild")
    assert (rebuilt.exit_code, rebuilt.stdout) == (0, "The replica has 1,230 records of the changelogs.\n")
    assert await counts(engine) == [N, N, N]
    with engine.connect() as connection:
        named = select(func.count()).where(class_infos.c.ClassName.like("C%"))
        assert connection.scalar(named) == N - N // 10
    verified = await command("verify")
    assert verified.stdout == "The replica is equal to the tables: 900 rows in 30 partitions.\n"
    assert verified.exit_code == 0


WRONG: dict[str, Callable[[], list[Any]]] = {
    "missing": lambda: [delete(class_infos).where(class_infos.c.ClassId.in_([id_of(4), id_of(14)]))],
    "older": lambda: [update(teachers).where(teachers.c.TeacherId == id_of(7)).values(Version="00" * 29)],
    "different": lambda: [
        update(teacher_assignments).where(teacher_assignments.c.TeacherId == id_of(8)).values(Role="homeroom")
    ],
    "newer": lambda: [update(class_infos).where(class_infos.c.ClassId == id_of(3)).values(Version="ff" * 29)],
    "extra": lambda: [
        insert(teachers).from_select(
            [c.name for c in teachers.columns],
            select(*[(c if c.name != "TeacherId" else id_) for c in teachers.columns]).where(
                teachers.c.TeacherId == id_of(1)
            ),
        )
        for id_ in [func.replace(teachers.c.TeacherId, "0000-", "1111-")]
    ],
}


async def test_each_kind_of_difference_is_found_and_named(config: Settings, engine: Engine) -> None:
    await command("rebuild")
    assert await differences(config) == {}
    await change(engine, *(statement for wrong in WRONG.values() for statement in wrong()))
    found = await differences(config)
    assert {kind: [d.key for d in listed] for kind, listed in found.items()} == {
        "missing": [id_of(4), id_of(14)],
        "older": [id_of(7)],
        "different": [f"{id_of(8)}|{id_of(5008)}"],
        "newer": [id_of(3)],
        "extra": [id_of(1).replace("0000-", "1111-")],
    }
    assert found["different"][0].columns == ["Role"]
    shown = await command("verify")
    assert shown.exit_code == 1
    assert f"older {id_of(7)}: a lower version than the table's" in shown.stdout
    assert "6 differences" in shown.stdout
    as_json = json.loads((await command("verify", "--json")).stdout)
    assert as_json["equal"] is False
    assert {d["kind"] for p in as_json["partitions"] for d in p["differences"]} == set(WRONG)


async def test_a_rebuild_repairs_and_with_truncate_it_removes_too(config: Settings, engine: Engine) -> None:
    await command("rebuild")
    await change(engine, *(statement for wrong in WRONG.values() for statement in wrong()))
    await command("rebuild")
    assert set(await differences(config)) == {"newer", "extra"}
    await command("rebuild", "--truncate")
    assert await differences(config) == {}


async def test_a_replica_that_nobody_fills_is_behind_and_not_equal(config: Settings) -> None:
    await command("migrate")
    verified = await command("verify", "--wait", "0")
    assert verified.exit_code == 1
    assert "records behind" in verified.stdout


async def test_running_workers_do_the_rebuild(config: Settings, engine: Engine) -> None:
    async with a_worker(config) as follower:
        await until(lambda: follower.caught_up)
        await change(engine, update(class_infos).values(Version="00" * 29, ClassName="wrong"))
        rebuilt = await command("rebuild")
        assert rebuilt.exit_code == 0
        assert await differences(config) == {}


EMPTIED: dict[str, Callable[[], list[Any]]] = {
    "positions and rows": lambda: [delete(t) for t in (class_infos, teachers, teacher_assignments, replica_positions)],
    "rows": lambda: [delete(t) for t in (class_infos, teachers, teacher_assignments)],
}


@pytest.mark.parametrize("what", EMPTIED)
async def test_an_emptied_database_is_filled_again_by_itself_though_no_event_comes(
    config: Settings, engine: Engine, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emis_streams.engine.follower._SINK_CHECK_SECONDS", 0.2)
    async with a_worker(config) as follower:
        await until(lambda: follower.caught_up)
        await change(engine, *EMPTIED[what]())
        await until(lambda: is_full(engine))
        assert await differences(config) == {}


async def test_a_restored_database_is_brought_up_to_date_by_itself(
    config: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emis_streams.engine.follower._SINK_CHECK_SECONDS", 0.2)
    async with a_worker(config) as follower:
        await until(lambda: follower.caught_up)
        # As a backup from the middle has it: fewer rows, lower positions.
        await change(
            engine,
            update(replica_positions).values(NextOffset=10),
            delete(class_infos).where(class_infos.c.ClassId > id_of(60)),
            delete(teachers).where(teachers.c.TeacherId > id_of(99)),
            delete(teacher_assignments).where(teacher_assignments.c.TeacherId > id_of(99)),
        )
        await until(lambda: is_full(engine))
        assert await differences(config) == {}


async def test_what_comes_while_comparing_is_no_difference(
    config: Settings, changelogs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows reach the replica after the changelog was read to its end."""
    await command("rebuild")
    from emis_streams.replica import verify as module

    read = module._read
    sent: list[TopicPartition] = []

    async def read_then_more_comes(logs: Any, tp: TopicPartition, *rest: Any) -> None:
        await read(logs, tp, *rest)
        if tp.topic == topics.TEACHERS.changelog and tp.partition == 5 and not sent:
            sent.append(tp)
            async with AIOKafkaProducer(bootstrap_servers=changelogs) as producer:
                for n in (5, 15):
                    row = row_of(30, UPDATED, (f"T{n} renamed", None, None), created=1)
                    await producer.send_and_wait(tp.topic, row, id_of(n).encode(), partition=5)
            assert (await command("rebuild")).exit_code == 0

    monkeypatch.setattr(module, "_read", read_then_more_comes)
    assert await differences(config) == {}
    assert sent
