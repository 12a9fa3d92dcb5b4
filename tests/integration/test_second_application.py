"""The second application (tests/second_application): its counts are exact while its workers are killed under load."""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from emis_streams.engine import MOST_ROW_BYTES
from emis_streams.local import Child
from tests.integration.engine_rig import admin, producer, reader
from tests.services import unique, until

N_USERS, N_ROUNDS, PER_ROUND = 150, 6, 2_500
ROOT = Path(__file__).parents[2]


def worker(name: str, broker: str, folder: Path, number: int) -> Child:
    environment = {
        **os.environ,
        "VISITS_NAME": name,
        "VISITS_BROKERS": broker,
        "VISITS_DATADIR": str(folder / str(number)),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "faust", "-A", "tests.second_application.visits", "worker", "--without-web"]
    return Child(f"visits-{number}", [*command, "-l", "info"], folder, env=environment)


@pytest.fixture
async def visits(broker: str) -> str:
    """Name of an application whose topics are made."""
    name = unique("visits")
    compacted = {"cleanup.policy": "compact"}
    async with admin(broker) as client:
        await client.create_topics(
            [
                NewTopic(f"{name}-pages", 4, 1),
                NewTopic(f"{name}-logins", 4, 1),
                NewTopic(f"{name}-visits-changelog", 4, 1, topic_configs=compacted),
            ]
        )
    return name


@pytest.mark.slow
async def test_counts_are_exact_though_workers_are_killed_again_and_again(
    visits: str, broker: str, tmp_path: Path
) -> None:
    workers = [worker(visits, broker, tmp_path, number) for number in (1, 2)]
    dice = random.Random(17)
    sent: Counter[str] = Counter()
    try:
        for at_work in workers:
            at_work.start()
        await until(lambda: all("ready:" in at_work.log_path.read_text() for at_work in workers), 60)
        for round_ in range(N_ROUNDS):
            victim = workers[round_ % 2]
            producing = asyncio.create_task(produce(broker, visits, dice, sent))
            await until(lambda: has_written(broker, visits), 60)
            await asyncio.sleep(dice.random())  # Anywhere: the point is that it may be at any moment.
            assert victim.running, victim.log_tail()
            victim.kill()
            victim.start()
            await producing
        await until(lambda: all_committed(broker, visits), 120)
        counted = await counts(broker, visits)
        log = "".join(at_work.log_path.read_text() for at_work in workers)
    finally:
        for at_work in workers:
            at_work.stop()
    assert sum(sent.values()) == N_ROUNDS * PER_ROUND
    assert counted == dict(sent)
    assert "Traceback" not in log


async def test_records_of_any_size_end_no_worker_and_the_others_are_counted(
    visits: str, broker: str, tmp_path: Path
) -> None:
    """A batch of the producer is packed: what was in it is larger than any topic takes."""
    at_work = worker(visits, broker, tmp_path, 1)
    sizes = (900_000, MOST_ROW_BYTES, 3_000_000)
    hostile = [(bytes([65 + n]) * size, b"seen") for n, size in enumerate(sizes)]
    hostile += [(b"user-1", b"x" * size) for size in sizes]
    try:
        at_work.start()
        async with producer(broker, compression_type="gzip", max_request_size=8_000_000) as client:
            for key, value in [*hostile, (b"user-2", b"seen")]:
                await client.send_and_wait(f"{visits}-pages", value, key)
        await until(lambda: all_committed(broker, visits), 60)
        assert at_work.running, at_work.log_tail()
        counted = await counts(broker, visits)
    finally:
        at_work.stop()
    assert counted == {"A" * 900_000: 1, "user-1": len(sizes), "user-2": 1}


async def produce(broker: str, name: str, dice: random.Random, sent: Counter[str]) -> None:
    async with producer(broker) as client:
        for n in range(PER_ROUND):
            user = f"user-{dice.randrange(N_USERS)}"
            await client.send(f"{name}-{dice.choice(('pages', 'logins'))}", b"seen", user.encode())
            sent[user] += 1
            if n % 100 == 0:
                await client.flush()
                await asyncio.sleep(0.02)


async def has_written(broker: str, name: str) -> bool:
    async with reader(broker) as client:
        ends = await client.end_offsets([TopicPartition(f"{name}-visits-changelog", n) for n in range(4)])
    return any(ends.values())


async def all_committed(broker: str, name: str) -> bool:
    tps = [TopicPartition(f"{name}-{topic}", n) for topic in ("pages", "logins") for n in range(4)]
    async with reader(broker) as client:
        ends = await client.end_offsets(tps)
    async with admin(broker) as client:
        committed = await client.list_consumer_group_offsets(name)
    return all(tp in committed and committed[tp].offset == end for tp, end in ends.items() if end)


async def counts(broker: str, name: str) -> dict[str, int]:
    """By user, from the last row of each in the changelog, read as somebody would who knows nothing of the engine."""
    tps = [TopicPartition(f"{name}-visits-changelog", n) for n in range(4)]
    rows: dict[str, bytes] = {}
    async with reader(broker) as client:
        client.assign(tps)
        await client.seek_to_beginning()
        ends = await client.end_offsets(tps)
        while any([await client.position(tp) < end for tp, end in ends.items()]):
            for records in (await client.getmany(timeout_ms=200)).values():
                rows |= {record.key.decode(): record.value for record in records}
    return {user: sum(n for _, n in json.loads(row).values()) for user, row in rows.items()}
