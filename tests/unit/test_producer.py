"""What a service gives to the producer is checked, keyed and placed before anything is sent."""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.errors import InvalidEvent
from emis_streams.events import CONTRACTS, ClassCreated
from emis_streams.pace import Pace
from emis_streams.partitioner import partition_of, partitions_of
from emis_streams.producer import check, records_of

CLASS_ID = "b3da0b3b-a560-4ce7-9069-7a1f72aadbb2"


def a_class(**changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "eventId": str(uuid.uuid4()),
        "eventType": "emis.class.created",
        "timestamp": datetime.now(UTC),
        "classId": CLASS_ID,
        "className": "Lớp 10A1",
    }
    return {**event, **changes}


def an_assignment() -> dict[str, Any]:
    return {
        "eventId": str(uuid.uuid4()),
        "eventType": "emis.assignment.created",
        "timestamp": datetime.now(UTC),
        "assignmentId": str(uuid.uuid4()),
        "teacherId": str(uuid.uuid4()),
        "classId": CLASS_ID,
        "role": "subject-teacher",
    }


def test_topic_and_key_follow_from_the_event() -> None:
    assignment = an_assignment()
    of_class, of_assignment = records_of([a_class(), assignment])
    assert (of_class.contract.topic, of_class.key) == ("emis.class.created", CLASS_ID.encode())
    assert of_assignment.contract.topic == "emis.assignment.created"
    assert of_assignment.key == assignment["teacherId"].encode()


@pytest.mark.parametrize("topic", CONTRACTS)
def test_events_of_every_topic_can_be_sent_as_mappings(topic: str) -> None:
    schema = [field for field in msgspec.structs.fields(CONTRACTS[topic].event) if field.required]
    event = {field.encode_name: str(uuid.uuid4()) for field in schema}
    event |= {"eventType": topic, "timestamp": datetime.now(UTC).isoformat()}
    (record,) = check([event]).records
    assert record.contract is CONTRACTS[topic]


def test_a_mapping_a_struct_and_json_give_the_same_record() -> None:
    event = a_class(timestamp=datetime(2026, 9, 5, tzinfo=UTC))
    struct = msgspec.convert(event, ClassCreated)
    (mapped,), (structured,) = records_of([event]), records_of([struct])
    (raw,) = records_of([mapped.value])
    assert mapped == raw
    assert (structured.contract, structured.key) == (mapped.contract, mapped.key)
    assert msgspec.json.decode(structured.value, type=ClassCreated) == struct


def test_uuid_objects_and_aware_times_are_fine() -> None:
    (record,) = records_of([a_class(classId=uuid.UUID(CLASS_ID))])
    assert record.key == CLASS_ID.encode()


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({}, "eventType: None is none of emis.class.created, "),
        (a_class(eventType="emis.class.renamed"), "eventType: 'emis.class.renamed' is none of"),
        (a_class(eventType=["emis.class.created"]), "is none of"),
        (a_class(classId=7), "Expected `str`, got `int` - at `$.classId`"),
        (a_class(classId="10A1"), "classId"),
        (a_class(className=""), "className"),
        (a_class(className="\ud800"), "value: "),
        (a_class(className=object()), "value: "),
        (a_class(timestamp=datetime(2026, 9, 5)), "timezone"),
        (a_class(timestamp=datetime(9999, 1, 1, tzinfo=UTC)), "ahead of the broker's"),
        (b"{nope", "value: "),
        (b"[]", "value: Expected `object`"),
        (b"\xff", "value: "),
    ],
)
def test_what_breaks_the_contract_is_refused_with_the_reason(event: Any, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        records_of([event])
    assert reason in str(refused.value)


def test_an_event_that_no_topic_takes_is_refused_by_its_size() -> None:
    deleted = {name: a_class()[name] for name in ("eventId", "timestamp", "classId")} | {
        "eventType": "emis.class.deleted"
    }
    assert records_of([{**deleted, "note": "x" * 1_000_000}]), "fields that are not known are ignored"
    with pytest.raises(InvalidEvent, match=r"event 2 of 3: 1,1\d\d,\d\d\d bytes, 1,047,564 at most"):
        records_of([deleted, {**deleted, "note": "x" * 1_100_000}, deleted])


def test_of_many_the_bad_one_is_named_by_its_place() -> None:
    with pytest.raises(InvalidEvent, match=r"^event 2 of 3: value: .*className"):
        records_of([a_class(), a_class(className=""), a_class()])


def test_check_keeps_the_good_ones_in_order_and_tells_the_others() -> None:
    names = [str(n) for n in range(10)]
    given = [a_class(className=name) for name in names]
    given[3]["classId"] = "nobody"
    given[7] = {}
    records, refused = check(given)
    assert [msgspec.json.decode(r.value)["className"] for r in records] == [n for n in names if n not in "37"]
    assert [place for place, _reason in refused] == [3, 7]


# From Kafka's own UtilsTest.testMurmur2 (org.apache.kafka.common.utils).
JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "java_hash"), JAVA_MURMUR2.items())
def test_a_key_lies_where_java_puts_it(key: bytes, java_hash: int) -> None:
    assert partition_of(key, 10) == (java_hash & 0x7FFF_FFFF) % 10


@given(st.lists(st.uuids().map(lambda u: str(u).encode()), max_size=40), st.integers(1, 64))
def test_many_ids_lie_where_each_would_lie(keys: list[bytes], n_partitions: int) -> None:
    assert partitions_of(keys, n_partitions) == [partition_of(key, n_partitions) for key in keys]


@given(st.lists(st.binary(min_size=35, max_size=37), max_size=10))
def test_many_keys_of_any_bytes_lie_where_each_would_lie(keys: list[bytes]) -> None:
    assert partitions_of(keys, 10) == [(murmur2(key) & 0x7FFF_FFFF) % 10 for key in keys]


async def test_a_pace_lets_through_its_rate() -> None:
    pace = Pace(200)
    started = time.monotonic()
    for _ in range(5):
        await pace.wait(10)
    assert 50 / 200 <= time.monotonic() - started < 5


async def test_no_rate_is_no_waiting() -> None:
    pace = Pace(0)
    async with asyncio.timeout(5):
        for _ in range(1_000):
            await pace.wait(1_000_000)


@pytest.mark.parametrize(("rate", "chunk"), [(0, 5_000), (1, 1), (1_000, 50), (1_000_000, 5_000)])
def test_slow_paces_send_small_chunks(rate: float, chunk: int) -> None:
    assert Pace(rate).chunk == chunk
