"""The outbox of a service's database, on SQLite and on MariaDB, with one publisher and with several.

Nothing is lost, events of a key keep their order, and what comes twice comes after its first occurrence.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import ProducerFenced
from sqlalchemy import insert, text

from emis_streams.local import KafkaCluster
from emis_streams.services import outbox as outbox_module
from emis_streams.services import outbox_store
from emis_streams.services.database import Database, Event
from emis_streams.services.errors import NotSent
from emis_streams.services.health import outbox as outbox_check
from emis_streams.services.outbox_producer import OutboxProducer
from emis_streams.services.outbox_store import LEASE_SECONDS, MOST_COUNTED
from emis_streams.services.outbox_store import outbox as outbox_table
from emis_streams.topics import outbox_transactional_id
from tests.integration.engine_rig import admin
from tests.integration.outbox_rig import TABLES, Instance, Outbox, first_occurrences
from tests.services import unique, until


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'notes.db'}" if request.param == "sqlite" else request.getfixturevalue("mariadb_url")


@pytest.fixture
async def outbox(url: str, kafka: KafkaCluster) -> AsyncIterator[Outbox]:
    own = Outbox(url, kafka.bootstrap)
    async with admin(kafka.bootstrap) as client:
        await client.create_topics([NewTopic(own.topic, 1, 1)])
    yield own
    await own.close()


@pytest.fixture
async def one(outbox: Outbox) -> Instance:
    return await outbox.instance()


async def keep_all(instance: Instance, texts: list[str]) -> None:
    for one_text in texts:
        await instance.keep(one_text)


# -- one instance ---------------------------------------------------------------------------------


async def test_events_are_sent_in_order_and_then_deleted(outbox: Outbox, one: Instance) -> None:
    texts = [f"{key}{n:03}" for n in range(60) for key in "ab"]
    await keep_all(one, texts[:100])
    async with one.publishing():
        await keep_all(one, texts[100:])
        await until(lambda: one.publisher.counts.sent == len(texts))
    assert await outbox.published() == texts
    assert await outbox.is_empty()


async def test_an_event_is_there_until_it_was_sent_however_often_the_publisher_dies(
    outbox: Outbox, one: Instance
) -> None:
    texts = [f"a{n:03}" for n in range(200)]
    await keep_all(one, texts)
    for _ in range(8):
        async with one.publishing():
            await asyncio.sleep(0.02)
    async with one.publishing():
        await until(outbox.is_empty)
    assert first_occurrences(await outbox.published()) == texts


async def test_a_batch_that_the_brokers_do_not_take_is_sent_again_in_smaller_ones(
    outbox: Outbox, one: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    send = OutboxProducer.send

    async def send_few(self: OutboxProducer, events: list[Event]) -> None:
        sizes.append(len(events))
        if len(events) > 30:
            raise NotSent("too slow")
        await send(self, events)

    monkeypatch.setattr(OutboxProducer, "send", send_few)
    texts = [f"a{n:03}" for n in range(100)]
    await keep_all(one, texts)
    async with one.publishing():
        await until(outbox.is_empty)
    assert await outbox.published() == texts
    assert sizes[0] == 100


# -- a number is never used for another event ----------------------------------------------------------


async def test_an_event_is_not_deleted_by_a_publisher_that_sent_another_one_with_its_number(one: Instance) -> None:
    """As with the rows of e687981's table on SQLite: 25 of 1,252 accepted lessons lost their events."""
    await one.keep("a1")
    seen_by_both = await one.database.outbox.events(10)
    await one.database.outbox.delete(seen_by_both)
    await one.keep("b1")
    async with one.database.transaction("as a server does that forgets its counter") as connection:
        await connection.execute(text(f"UPDATE Outbox SET Id = {seen_by_both[0].id}"))
    await one.database.outbox.delete(seen_by_both)
    assert [pending.event.key for pending in await one.database.outbox.events(10)] == ["b"]


async def test_numbers_are_not_used_again_once_the_outbox_was_empty(one: Instance) -> None:
    numbers = []
    for n in range(3):
        await one.keep(f"a{n}")
        pending = await one.database.outbox.events(10)
        numbers += [row.id for row in pending]
        await one.database.outbox.delete(pending)
    assert numbers == sorted(set(numbers))


OLD_TABLE = {
    "sqlite": """CREATE TABLE "Outbox" ("Id" INTEGER NOT NULL, "Topic" VARCHAR(249) NOT NULL,
        "EventKey" VARCHAR(255) NOT NULL, "Event" TEXT NOT NULL, "Traceparent" VARCHAR(55), PRIMARY KEY ("Id"))""",
    "mysql": """CREATE TABLE `Outbox` (`Id` BIGINT NOT NULL AUTO_INCREMENT, `Topic` VARCHAR(249) NOT NULL,
        `EventKey` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, `Event` MEDIUMTEXT NOT NULL,
        `Traceparent` VARCHAR(55), PRIMARY KEY (`Id`)) ENGINE=InnoDB CHARSET=utf8mb4""",
}
OLD_INSERT = "INSERT INTO Outbox (Topic, EventKey, Event) VALUES (:topic, :key, :event)"
"""As an instance of e687981 does, also while it runs beside new ones."""


async def old_insert(database: Database, topic: str, *texts: str) -> None:
    async with database.transaction("as an old instance") as connection:
        for one_text in texts:
            await connection.execute(text(OLD_INSERT), {"topic": topic, "key": one_text[0], "event": one_text})


async def test_an_outbox_of_an_earlier_version_keeps_its_events_and_their_order(url: str, outbox: Outbox) -> None:
    old = Database.open(url, TABLES)
    async with old.transaction("making the table as e687981 does") as connection:
        await connection.execute(text(OLD_TABLE[connection.dialect.name]))
    await old_insert(old, outbox.topic, "a1", "b1", "a2")
    one, two = await asyncio.gather(outbox.instance(), outbox.instance())  # Two that migrate at once.
    await old_insert(old, outbox.topic, "a3")
    await one.keep("a4")
    async with one.publishing(), two.publishing():
        await until(outbox.is_empty)
        await old_insert(old, outbox.topic, "a5")
        await until(outbox.is_empty)
    assert await outbox.published() == ["a1", "b1", "a2", "a3", "a4", "a5"]
    await two.database.prepare()
    await old.close()


async def test_a_migrated_table_does_not_use_numbers_again(url: str, outbox: Outbox) -> None:
    old = Database.open(url, TABLES)
    async with old.transaction("making the table as e687981 does") as connection:
        await connection.execute(text(OLD_TABLE[connection.dialect.name]))
    await old_insert(old, outbox.topic, "a1")
    await old.close()
    one = await outbox.instance()
    before = await one.database.outbox.events(10)
    await one.database.outbox.delete(before)
    await one.keep("a2")
    assert (await one.database.outbox.events(10))[0].id > before[0].id


# -- several instances ------------------------------------------------------------------------------


async def test_nothing_is_lost_and_order_is_kept_with_three_instances(outbox: Outbox) -> None:
    instances = [await outbox.instance() for _ in range(3)]
    texts = [f"{key}{n:02}" for n in range(40) for key in "abc"]

    async def keep_key(key: str) -> None:
        for n, one_text in enumerate(t for t in texts if t[0] == key):
            await instances[n % 3].keep(one_text)

    async with instances[0].publishing(), instances[1].publishing(), instances[2].publishing():
        await asyncio.gather(*(keep_key(key) for key in "abc"))
        await until(outbox.is_empty)
    published = await outbox.published()
    assert {key: [t for t in published if t[0] == key] for key in "abc"} == {
        key: [t for t in texts if t[0] == key] for key in "abc"
    }
    assert [instance.publisher.counts.sent for instance in instances].count(0) == 2, "one of them leads"


async def test_an_instance_that_stops_hands_over_at_once(outbox: Outbox) -> None:
    first, second = await outbox.instance(), await outbox.instance()
    async with first.publishing():
        await until(lambda: first.publisher.is_leader)
    async with second.publishing():
        await until(lambda: second.publisher.is_leader, LEASE_SECONDS / 2)


async def test_an_instance_that_is_killed_is_succeeded_when_its_lease_runs_out(outbox: Outbox) -> None:
    killed, second = await outbox.instance(), await outbox.instance()
    assert await killed.database.outbox.take_lease() is not None
    await killed.keep("a1")
    async with second.publishing():
        await asyncio.sleep(1)
        assert not second.publisher.is_leader
        await until(outbox.is_empty, 2 * LEASE_SECONDS)
    assert await outbox.published() == ["a1"]


async def test_what_a_frozen_leader_had_under_way_never_comes_after_newer_events(outbox: Outbox, one: Instance) -> None:
    """The zombie of every outbox: it read and began to send, was stopped, and goes on when another one has sent all."""
    outbox_id = await until(one.database.outbox.take_lease)
    frozen = await OutboxProducer.open(
        {"bootstrap_servers": outbox.broker}, outbox_transactional_id(outbox.topic, outbox_id)
    )
    await keep_all(one, ["a1", "a2"])
    read_before = [pending.event for pending in await one.database.outbox.events(10)]
    await frozen._producer.begin_transaction()
    await (await frozen._producer.send(outbox.topic, b"a1", b"a"))
    async with one.publishing():
        await until(outbox.is_empty)
        await one.keep("a3")
        await until(outbox.is_empty)
        for late in (frozen._producer.commit_transaction(), frozen.send(read_before)):
            with pytest.raises((NotSent, ProducerFenced)):
                await asyncio.wait_for(late, 10)
    await frozen.close()
    assert await outbox.published() == ["a1", "a2", "a3"]
    assert first_occurrences(await outbox.published("read_uncommitted")) == ["a1", "a2", "a3"]


async def test_a_leader_that_lost_its_lease_unnoticed_is_fenced_and_steps_back(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await outbox.instance(), await outbox.instance()
    monkeypatch.setattr(outbox_module, "_RENEW_SECONDS", 1_000.0)  # Neither looks at its lease again.
    async with first.publishing():
        await first.keep("a1")
        await until(outbox.is_empty)
        async with first.database.transaction("as if it had expired") as connection:
            await connection.execute(text("UPDATE OutboxLease SET ExpiresAt = 0"))
        async with second.publishing():
            await second.keep("a2")
            await until(outbox.is_empty)
    assert await outbox.published() == ["a1", "a2"]


async def test_a_lease_that_expires_after_the_clock_of_the_database_went_back_is_taken_all_the_same(
    one: Instance,
) -> None:
    await until(one.database.outbox.take_lease)
    async with one.database.transaction("as if the clock had gone back by an hour") as connection:
        await connection.execute(text("UPDATE OutboxLease SET Owner = 'another', ExpiresAt = ExpiresAt + 3600"))
    assert await one.database.outbox.take_lease() is not None


# -- what it tells ----------------------------------------------------------------------------------


async def test_health_says_how_many_events_wait_for_how_long_and_who_sends_them(outbox: Outbox, one: Instance) -> None:
    check = outbox_check(one.database.outbox, one.publisher)
    await keep_all(one, ["a1", "a2"])
    waiting = await check()
    assert (waiting.status, waiting.value) == ("pass", 2)
    assert "no instance sends them now" in waiting.text
    two = await outbox.instance()
    async with two.publishing():
        await until(outbox.is_empty)
        assert "(pid " in (await check()).text
        assert (await outbox_check(two.database.outbox, two.publisher)()).text.endswith("this instance sends them.")


async def test_a_long_outbox_is_counted_up_to_a_bound(one: Instance) -> None:
    values = {"Topic": "t", "EventKey": "k", "Event": "{}", "Token": "x"}
    async with one.database.transaction("filling") as connection:
        await connection.execute(insert(outbox_table), [values] * (MOST_COUNTED + 1))
    backlog = await one.database.outbox.backlog()
    assert backlog.n_events == MOST_COUNTED
    assert (await outbox_check(one.database.outbox, one.publisher)()).text.startswith("10,000 or more events")


async def test_health_says_why_events_wait(url: str) -> None:
    """Brokers that are away: nothing listens there."""
    away = Outbox(url, "127.0.0.1:1", unique("noted"))
    one = await away.instance()
    await one.keep("a1")
    async with one.publishing():
        await until(lambda: one.publisher.waiting_for)
        found = await outbox_check(one.database.outbox, one.publisher)()
        assert "1 event is still to be sent" in found.text
        assert "waits: " in found.text
        async with one.database.transaction("as if it were old") as connection:
            await connection.execute(text("UPDATE Outbox SET AddedAt = '2020-01-01 00:00:00'"))
        assert (await outbox_check(one.database.outbox, one.publisher)()).status == "warn"
    await away.close()


def test_two_databases_of_one_service_have_two_transactional_ids() -> None:
    assert outbox_transactional_id("lessons", "1") != outbox_transactional_id("lessons", "2")
    assert outbox_store.lease.c.OutboxId.nullable is False
