"""A service's database, on SQLite and on MariaDB: a request is carried out once, an event is sent if it was kept."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, event, func, insert, select
from sqlalchemy.exc import IntegrityError

from emis_streams import topics
from emis_streams.broker_clock import BrokerClock
from emis_streams.errors import Unavailable
from emis_streams.services.database import Database, Event, Transaction, executed_requests
from emis_streams.services.errors import Refused
from emis_streams.services.messages import Request
from tests.services import until

TABLES = MetaData()
notes = Table("Notes", TABLES, Column("Text", String(100), primary_key=True))


def asked(key: str = "k", value: bytes = b'{"text": "a"}') -> Request:
    return Request("note", key, value)


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'notes.db'}" if request.param == "sqlite" else request.getfixturevalue("mariadb_url")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    own = Database.open(url, TABLES)
    await own.prepare()
    yield own
    await own.close()


async def note(transaction: Transaction, text: str = "a") -> dict[str, str]:
    await transaction.execute(insert(notes).values(Text=text))
    return {"noted": text}


async def noted(database: Database) -> list[str]:
    async with database.transaction("reading") as connection:
        return list((await connection.execute(select(notes.c.Text).order_by(notes.c.Text))).scalars())


async def test_what_came_before_is_answered_as_before_and_not_done_again(database: Database) -> None:
    first = await database.once(asked(), note)
    again = await database.once(asked(), lambda _: pytest.fail("it was carried out again"))
    assert first == again == {"noted": "a"}
    assert await noted(database) == ["a"]


async def test_after_a_restart_too(url: str, database: Database) -> None:
    await database.once(asked(), note)
    restarted = Database.open(url, TABLES)
    await restarted.prepare()
    assert await restarted.once(asked(), lambda _: pytest.fail("it was carried out again")) == {"noted": "a"}
    await restarted.close()


@pytest.mark.parametrize("value", [b'{ "text" : "\\u0061" }', b'{"more": null, "text": "a"}'])
async def test_a_retry_that_is_spelled_otherwise_is_the_same_request(database: Database, value: bytes) -> None:
    await database.once(asked(value=b'{"text": "a"}'), note)
    again = await database.once(asked(value=value), lambda _: pytest.fail("it was carried out again"))
    assert again == {"noted": "a"}


async def test_the_same_key_with_another_content_is_refused(database: Database) -> None:
    await database.once(asked(), note)
    with pytest.raises(Refused) as told:
        await database.once(asked(value=b'{"text": "b"}'), note)
    assert told.value.kind == "key-reused"
    assert await noted(database) == ["a"]


async def test_keys_that_differ_in_case_or_accent_are_two_keys(database: Database) -> None:
    for number, key in enumerate(("lớp", "lop", "LOP")):
        await database.once(asked(key), lambda t, n=number: note(t, str(n)))
    assert await noted(database) == ["0", "1", "2"]


async def test_what_fails_leaves_nothing_and_may_come_again(database: Database) -> None:
    async def fails(transaction: Transaction) -> Any:
        await note(transaction)
        await transaction.emit(Event("emis.noted", "a", b"{}"))
        raise Refused("not-now", "no")

    with pytest.raises(Refused, match="no"):
        await database.once(asked(), fails)
    assert await noted(database) == []
    assert await database.outbox.events(10) == []
    assert await database.once(asked(), note) == {"noted": "a"}


async def test_two_instances_at_once_carry_it_out_once(url: str, database: Database) -> None:
    other = Database.open(url, TABLES)
    both = asyncio.Barrier(2)

    async def note_when_both_have_begun(transaction: Transaction) -> dict[str, str]:
        with suppress(TimeoutError, asyncio.BrokenBarrierError):  # On SQLite the second one does not begin before.
            await asyncio.wait_for(both.wait(), 0.5)
        return await note(transaction)

    answers = await asyncio.gather(*(d.once(asked(), note_when_both_have_begun) for d in (database, other) * 5))
    await other.close()
    assert answers == [{"noted": "a"}] * 10
    assert await noted(database) == ["a"]


async def test_a_request_that_is_old_enough_is_forgotten(database: Database) -> None:
    await database.once(asked("old"), note)
    await database.forget_requests(timedelta(hours=1))
    await database.once(asked("old"), lambda _: pytest.fail("it was carried out again"))
    await database.forget_requests(timedelta(0))
    assert await database.once(asked("old"), lambda t: note(t, "b")) == {"noted": "b"}


async def keep_old_requests(database: Database, n_rows: int) -> None:
    """Their keys, as if each had been carried out in January."""
    row = {"Pattern": "note", "Fingerprint": "f", "Result": "null", "ExecutedAt": datetime(2026, 1, 1)}
    async with database.transaction("keeping") as connection:
        await connection.execute(
            insert(executed_requests), [{**row, "IdempotencyKey": f"old-{n}"} for n in range(n_rows)]
        )


async def n_requests(database: Database) -> int:
    async with database.reading("counting") as connection:
        return (await connection.execute(select(func.count()).select_from(executed_requests))).scalar_one()


async def test_others_write_while_many_old_requests_are_forgotten(database: Database) -> None:
    n_old = 4_000
    await keep_old_requests(database, n_old)
    forgetting = asyncio.create_task(database.forget_requests(timedelta(hours=1), batch_rows=50))

    async def has_begun() -> bool:
        return await n_requests(database) < n_old

    await until(has_begun)
    await database.once(asked("new"), note)
    assert await n_requests(database) > 1, "it was all forgotten before anybody else could write"
    assert await forgetting == n_old
    assert await n_requests(database) == 1


@pytest.mark.parametrize("n_old", [1, 99, 100, 101])
async def test_all_old_requests_are_forgotten_however_they_fill_the_batches(database: Database, n_old: int) -> None:
    await keep_old_requests(database, n_old)
    await database.once(asked("new"), note)
    assert await database.forget_requests(timedelta(hours=1), batch_rows=100) == n_old
    assert await n_requests(database) == 1


async def test_forgetting_finds_old_requests_by_an_index(url: str, database: Database) -> None:
    await keep_old_requests(database, 2_000)
    await database.once(asked("new"), note)
    statements: list[tuple[str, Any]] = []
    event.listen(
        database._engine.sync_engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, parameters, *_: statements.append((statement, parameters)),
    )
    await database.forget_requests(timedelta(days=36_500))
    (deletion, parameters), explain = statements[-1], "EXPLAIN QUERY PLAN" if url.startswith("sqlite") else "EXPLAIN"
    async with database.transaction("explaining") as connection:
        plan = str((await connection.exec_driver_sql(f"{explain} {deletion}", parameters)).all())
    assert "ix_ExecutedRequests_ExecutedAt" in plan, plan


@pytest.mark.parametrize("days", [8, -8])
async def test_a_request_is_not_forgotten_early_whatever_the_instances_own_clock_shows(
    url: str, database: Database, days: int
) -> None:
    """Two instances on one database: what counts is the clock that they share."""
    await database.once(asked("kept"), note)
    brokers = BrokerClock(wall=lambda: time.time() + days * 86_400)
    brokers.note(int(time.time() * 1000), time.monotonic(), time.monotonic())
    other = Database.open(url, TABLES, brokers.now)
    await other.forget_requests(timedelta(days=7))
    await other.once(asked("kept"), lambda _: pytest.fail("it was carried out again"))
    await other.close()


@pytest.mark.parametrize(
    ("key", "value"), [("a", b"x" * topics.MAX_RECORD_BYTES), ("𠀀" * (topics.MAX_RECORD_BYTES // 4 + 1), b"")]
)
async def test_an_event_that_no_topic_takes_is_refused_before_anything_is_kept(
    database: Database, key: str, value: bytes
) -> None:
    async def emit_too_much(transaction: Transaction) -> None:
        await note(transaction)
        await transaction.emit(Event("emis.noted", key, value))

    with pytest.raises(Refused) as told:
        await database.once(asked(), emit_too_much)
    assert told.value.kind == "too-large"
    assert await noted(database) == []


async def test_what_the_database_refuses_is_a_mistake_and_not_an_outage(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await database.once(asked(), lambda t: note(t, None))  # type: ignore[arg-type]


async def test_a_database_that_is_away_is_unavailable() -> None:
    away = Database.open("mysql://nobody@127.0.0.1:1/none", TABLES)
    with pytest.raises(Unavailable, match=r"^note: "):
        await away.once(asked(), note)
    await away.close()
