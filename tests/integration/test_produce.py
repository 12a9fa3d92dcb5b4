"""Events get to the right topic and partition, and nothing that the contract forbids does."""

import asyncio
import json
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emis_streams import generate, topics
from emis_streams.errors import InvalidEvent, Unavailable
from emis_streams.events import CONTRACTS
from emis_streams.partitioner import partition_of
from emis_streams.producer import EventProducer, records_of
from emis_streams.read_topic import fetched_to_end, records_to_end
from emis_streams.settings import Settings
from tests.integration.command_line import emis_streams


def a_class(**changes: Any) -> dict[str, Any]:
    event = {
        "eventId": str(uuid.uuid4()),
        "eventType": "emis.class.created",
        "timestamp": datetime.now(UTC).isoformat(),
        "classId": str(uuid.uuid4()),
        "className": "Lớp 10A1",
    }
    return {**event, **changes}


def class_ids(records: list[Any]) -> set[str]:
    return {record.key.decode() for record in records}


async def read(settings: Settings, topic: str) -> list[Any]:
    return [record async for group in records_to_end(settings, topic) for record in group]


async def read_with_partitions(settings: Settings, topic: str) -> list[tuple[int, Any]]:
    fetches = fetched_to_end(settings, topic)
    return [(fetched.tp.partition, record) async for fetched in fetches for record in fetched.records]


async def test_a_sent_event_lies_in_its_topic_under_its_key_where_java_would_put_it(no_worker: Settings) -> None:
    event = a_class()
    async with EventProducer(no_worker) as producer:
        delivery = await (await producer.send(event))
    found = await read_with_partitions(no_worker, "emis.class.created")
    ((partition, record),) = [(p, r) for p, r in found if r.key == event["classId"].encode()]
    assert json.loads(record.value) == event
    assert partition == delivery.partition == partition_of(event["classId"].encode(), topics.PARTITIONS)
    assert record.offset == delivery.offset


async def test_many_events_arrive_each_once_where_java_would_put_them(no_worker: Settings) -> None:
    country = generate.Country(seed=77, n_classes=80)
    events = list(generate.all_events(country, n_rounds=1, n_updates=20))
    async with EventProducer(no_worker) as producer:
        await producer.send_many(events)
    ids = {event.event_id for event in events}
    keys = {record.key for record in records_of(events)}
    arrived: Counter[str] = Counter()
    for topic in CONTRACTS:
        for partition, record in await read_with_partitions(no_worker, topic):
            event_id = msgspec.json.decode(record.value)["eventId"] if record.key in keys else None
            if event_id in ids:
                arrived[event_id] += 1
                assert partition == partition_of(record.key, topics.PARTITIONS)
    assert arrived == Counter(ids)
    assert generate.n_events(country, 1, 20) == len(events)


async def test_events_of_one_key_keep_their_order_however_they_are_sent(no_worker: Settings) -> None:
    class_id = str(uuid.uuid4())
    async with EventProducer(no_worker) as producer:
        await producer.send(a_class(classId=class_id, className="1"))
        await producer.send_many([a_class(classId=class_id, className=str(n)) for n in range(2, 1000)])
        await producer.send(a_class(classId=class_id, className="1000"))
    own = [r for r in await read(no_worker, "emis.class.created") if r.key == class_id.encode()]
    assert [json.loads(r.value)["className"] for r in own] == [str(n) for n in range(1, 1001)]


async def test_one_bad_event_among_many_and_none_is_sent(no_worker: Settings) -> None:
    good = a_class()
    async with EventProducer(no_worker) as producer:
        with pytest.raises(InvalidEvent, match=r"event 2 of 2: value: .*className"):
            await producer.send_many([good, {**a_class(), "className": ""}])
    assert good["classId"] not in class_ids(await read(no_worker, "emis.class.created"))


async def test_a_topic_that_is_not_there_is_told_with_the_way_out(no_worker: Settings) -> None:
    async with EventProducer(no_worker) as producer:
        with pytest.raises(Unavailable, match=r"no topic emis\.nowhere .*emis-streams topics"):
            await producer.send_record("emis.nowhere", b"key", b"value")


async def test_a_delivery_that_fails_is_raised_by_flush(no_worker: Settings) -> None:
    too_big = b"x" * (topics.MAX_MESSAGE_BYTES - 1_000)
    async with EventProducer(no_worker) as producer:
        await producer.send_record("emis.class.created", b"key", too_big, [("pad", b"y" * 900)])
        await producer.flush()  # as big as allowed
        with pytest.raises(Exception, match=r"larger|too large|MessageSizeTooLarge"):
            await producer.send_record("emis.class.created", b"key", too_big * 2)


async def test_without_a_broker_it_says_which_was_asked(no_worker: Settings) -> None:
    with pytest.raises(Unavailable, match=r"KAFKA_BROKERS='127\.0\.0\.1:1'"):
        async with EventProducer(no_worker, brokers="127.0.0.1:1"):
            pass


def test_good_lines_are_sent_bad_ones_reported_with_number_and_reason(no_worker: Settings) -> None:
    first, second = a_class(), a_class()
    lines = [json.dumps(first), "{nope", "", json.dumps({**a_class(), "classId": "10A1"}), json.dumps(second)]
    done = emis_streams(no_worker, "produce", "-", stdin="\n".join(lines).encode())
    assert done.returncode == 1
    assert done.stdout == b"2 sent, 2 refused\n"
    told = done.stderr.decode().splitlines()
    assert [line.split(":")[0] for line in told] == ["line 2", "line 4"]
    assert "classId" in told[1]
    sent = class_ids(asyncio.run(read(no_worker, "emis.class.created")))
    assert {first["classId"], second["classId"]} <= sent


def test_a_line_is_sent_byte_for_byte_with_fields_that_nobody_knows(no_worker: Settings, tmp_path: Path) -> None:
    event = a_class(ghiChú="để lại")
    file = tmp_path / "one.ndjson"
    file.write_text(json.dumps(event, ensure_ascii=False, indent=None), encoding="utf-8")
    done = emis_streams(no_worker, "produce", str(file))
    assert done.returncode == 0, done.stderr
    records = asyncio.run(read(no_worker, "emis.class.created"))
    (value,) = [r.value for r in records if r.key == event["classId"].encode()]
    assert value == file.read_bytes()


def test_a_raw_line_that_no_topic_takes_is_named_and_the_others_are_sent(no_worker: Settings) -> None:
    lines = b"one\n" + b"x" * 2_000_000 + b"\nthree\n"
    done = emis_streams(no_worker, "produce", "-", "--raw", "--topic", "emis.class.deleted", stdin=lines)
    assert (done.returncode, done.stdout) == (1, b"2 sent, 1 refused\n"), done.stderr
    assert b"line 2: 2,000,000 bytes, larger than a record may be" in done.stderr


def test_raw_lines_are_sent_as_they_are(no_worker: Settings) -> None:
    key = str(uuid.uuid4())
    done = emis_streams(
        no_worker, "produce", "-", "--raw", "--topic", "emis.class.deleted", "--key", key, stdin=b"\xff\xfe nope\n"
    )
    assert done.returncode == 0, done.stderr
    records = asyncio.run(read(no_worker, "emis.class.deleted"))
    assert [r.value for r in records if r.key == key.encode()] == [b"\xff\xfe nope"]


def test_the_rate_is_kept(no_worker: Settings) -> None:
    lines = b"\n".join(json.dumps(a_class()).encode() for _ in range(30))
    started = time.monotonic()
    done = emis_streams(no_worker, "produce", "-", "--rate", "20", stdin=lines)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started >= 30 / 20


def test_generate_fills_the_topics_and_says_how_many(no_worker: Settings) -> None:
    done = emis_streams(no_worker, "generate", "--classes", "50", "--seed", "5", "--updates", "7")
    assert done.returncode == 0, done.stderr
    expected = generate.n_events(generate.Country(5, 50), 0, 7)
    assert done.stdout.decode().startswith(f"{expected:,} events of 2 schools and 50 classes, seed 5")
    first = generate.sample_teacher_ids(5, 50, 1)[0]
    assignments = asyncio.run(read(no_worker, "emis.assignment.created"))
    of_first = [json.loads(r.value)["classId"] for r in assignments if r.key == first.encode()]
    assert len(of_first) == 10
    assert set(of_first) <= class_ids(asyncio.run(read(no_worker, "emis.class.created")))


def test_generated_ndjson_is_what_produce_takes(no_worker: Settings) -> None:
    made = emis_streams(no_worker, "generate", "--classes", "45", "--seed", "6", "--to-file", "-")
    done = emis_streams(no_worker, "produce", "-", stdin=made.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{generate.n_events(generate.Country(6, 45), 0, 0):,} sent, 0 refused\n"


def test_without_a_broker_generate_says_so_in_one_line(no_worker: Settings) -> None:
    elsewhere = msgspec.structs.replace(no_worker, kafka_brokers="127.0.0.1:1")
    done = emis_streams(elsewhere, "generate", "--classes", "1")
    assert done.returncode == 1
    assert done.stderr.decode().startswith("emis-streams: no broker answers at KAFKA_BROKERS='127.0.0.1:1'")
