"""The replica's database goes away, hangs, or refuses to write: nothing is lost, all is told."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from sqlalchemy import select

from emis_streams import database
from emis_streams.errors import Unavailable
from emis_streams.local import MariaDb
from emis_streams.replica.reader import ReplicaReader
from emis_streams.replica.schema import class_infos
from emis_streams.replica.writer import ReplicaSink
from tests.replica_rows import CLASSES, class_row, id_of, slice_of
from tests.services import mariadb_server

TPS = [TopicPartition(CLASSES.topic, p) for p in range(3)]


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDb]:
    """A server of this module's own, to be stopped and started."""
    with mariadb_server() as own:
        yield own


@pytest.fixture
def own_url(server: MariaDb) -> Iterator[str]:
    yield server.create("emis")
    server.drop("emis")


@pytest_asyncio.fixture
async def sink(own_url: str) -> AsyncIterator[ReplicaSink]:
    async def refuse(*what: object) -> None:
        raise AssertionError(what)

    opened = ReplicaSink.open(own_url, refuse)
    await opened.positions(TPS)
    await opened.apply(parts(1))
    yield opened
    await opened.close()


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Its port; it accepts every connection and never sends a byte."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def parts(step: int, n_rows: int = 400) -> list[Any]:
    """Enough for several transactions side by side."""
    return [
        slice_of(tp, {id_of(tp.partition * 1000 + n): class_row(step, f"{step}") for n in range(n_rows)}, step)
        for tp in TPS
    ]


def names_in(url: str) -> set[str | None]:
    engine = database.migration_engine(url)
    with engine.connect() as connection:
        names = set(connection.scalars(select(class_infos.c.ClassName)))
    engine.dispose()
    return names


async def test_a_stopped_server_is_waited_for_and_then_gets_everything(
    sink: ReplicaSink, server: MariaDb, own_url: str
) -> None:
    server.process.kill()
    with pytest.raises(Unavailable, match=r"Can't connect|Lost connection|gone away"):
        await sink.apply(parts(2))
    with pytest.raises(Unavailable, match="Can't connect"):
        await sink.apply(parts(2))
    with pytest.raises(Unavailable, match="Can't connect"):
        await sink.positions(TPS)
    server.start()
    await sink.apply(parts(2))
    assert names_in(own_url) == {"2"}


async def test_connections_that_the_server_closed_are_replaced(
    sink: ReplicaSink, server: MariaDb, own_url: str
) -> None:
    reader = ReplicaReader.open(own_url, pool_size=1)
    assert await reader.class_(id_of(0)) is not None
    server.execute("KILL USER 'emis'@'%'")
    await sink.apply(parts(2))
    assert await reader.class_(id_of(0)) is not None
    await reader.close()
    assert names_in(own_url) == {"2"}


async def test_a_server_that_hangs_is_given_up_in_time(
    sink: ReplicaSink, server: MariaDb, own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emis_streams.replica.writer.TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr("emis_streams.replica.reader.TIMEOUT_SECONDS", 0.5)
    reader = ReplicaReader.open(own_url, pool_size=1)
    assert await reader.class_(id_of(0)) is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="no answer"):
            await sink.apply(parts(2))
        with pytest.raises(Unavailable, match="no answer"):
            await reader.class_(id_of(0))
    finally:
        server.process.send_signal(signal.SIGCONT)
    monkeypatch.undo()
    await sink.apply(parts(2))
    assert await reader.class_(id_of(0)) is not None
    await reader.close()
    assert names_in(own_url) == {"2"}


async def test_a_server_that_accepts_and_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before there is any connection that worked: the first question is for the schema."""
    monkeypatch.setattr("emis_streams.replica.migrate.ANSWER_SECONDS", 0.5)

    async def refuse(*what: object) -> None:
        raise AssertionError(what)

    async with silent_server() as port:
        sink = ReplicaSink.open(f"mysql://emis:secret@127.0.0.1:{port}/emis", refuse)
        with pytest.raises(Unavailable, match=r"timed out|Lost connection"):
            await asyncio.wait_for(sink.positions(TPS), 30)
        await sink.close()


async def test_a_server_that_only_reads_is_waited_for(sink: ReplicaSink, server: MariaDb, own_url: str) -> None:
    server.execute("SET GLOBAL read_only = 1")
    try:
        with pytest.raises(Unavailable, match="read-only"):
            await sink.apply(parts(2))
    finally:
        server.execute("SET GLOBAL read_only = 0")
    await sink.apply(parts(2))
    assert names_in(own_url) == {"2"}


async def test_a_text_too_long_for_its_column_is_refused_whatever_the_server_s_mode_is(
    own_url: str, server: MariaDb
) -> None:
    refused: list[str] = []

    async def refuse(_tp: TopicPartition, key: bytes, _row: bytes, reason: str) -> None:
        refused.append(f"{key.decode()} {reason}")

    server.execute("SET GLOBAL sql_mode = ''")
    sink = ReplicaSink.open(own_url, refuse)
    await sink.positions(TPS)
    rows = {id_of(n): class_row(1, "n" * 201 if n == 5 else "fits") for n in range(20)}
    await sink.apply([slice_of(CLASSES, rows, 20)])
    assert names_in(own_url) == {"fits"}
    assert [text.split()[0] for text in refused] == [id_of(5)]
    assert "length <= 200" in refused[0]
    await sink.close()
