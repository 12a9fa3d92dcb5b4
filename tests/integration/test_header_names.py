"""Header names that are not UTF-8, on a real broker: one record does not stop its partition."""

from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from emis_streams.brokers import Brokers
from emis_streams.engine import fatal
from emis_streams.engine.header_names import left_out
from tests.integration.engine_rig import Rig, producer, row
from tests.integration.raw_batches import GZIP, NO_CODEC, ZSTD, RawRecord, batch_of, send
from tests.services import until

NAME = b"tr\xc3\xa1ce \xff\xfe"
ESCAPED = "tráce \\xff\\xfe"


@pytest.fixture
async def rig(broker: str, tmp_path: Path) -> Rig:
    rig = Rig(broker, tmp_path / "one")
    await rig.make_topics()
    return rig


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    reasons: list[str] = []

    def end_process(_app: Any, reason: str, error: BaseException | None = None, code: int = 70) -> None:
        reasons.append(f"{reason}: {error!r}")

    monkeypatch.setattr(fatal, "end_process", end_process)
    return reasons


def records(place: str, n: int, *wrong: int) -> list[RawRecord]:
    """So many records, those at the places named with a header name that is not UTF-8."""
    headers: list[tuple[bytes, bytes | None]] = [(b"before", b"\xff"), (NAME, b"\xfe\x00"), (NAME, None)]
    return [RawRecord(b"%s-%d" % (place.encode(), k), row(1), headers if k in wrong else ()) for k in range(n)]


def rows_of(*sent: list[RawRecord]) -> dict[str, bytes]:
    return {record.key.decode(): record.value for batch in sent for record in batch if record.key and record.value}


def headers_seen(rig: Rig) -> dict[bytes, list[tuple[str, bytes | None]]]:
    return {record.key: list(record.headers) for batch in rig.slices for record in batch.records if record.headers}


@pytest.mark.parametrize("codec", [NO_CODEC, GZIP], ids=["unpacked", "packed"])
async def test_records_with_such_names_come_with_the_bytes_escaped_and_those_around_them_come_once(
    rig: Rig, ends: list[str], codec: int
) -> None:
    sent = [records("first", 3, 0), records("many", 130, 60, 61, 129), records("none", 70), records("last", 2, 1)]
    for batch in sent:
        assert await send(rig.broker, rig.topic, 0, batch_of(batch, codec)) == "NoError"
    async with rig.running():
        await until(rig.all_committed)
        assert rig.kept_in_table() == rows_of(*sent)
        keys = [record.key for handed in rig.slices for record in handed.records]
        assert keys == [record.key for batch in sent for record in batch]
        escaped = [("before", b"\xff"), (ESCAPED, b"\xfe\x00"), (ESCAPED, None)]
        assert headers_seen(rig) == dict.fromkeys([b"first-0", b"many-60", b"many-61", b"many-129", b"last-1"], escaped)
    assert ends == []


async def test_they_hold_up_neither_their_own_partition_nor_another_one_while_the_worker_runs(
    rig: Rig, ends: list[str]
) -> None:
    async with rig.running():
        for n in range(5):
            assert await send(rig.broker, rig.topic, 0, batch_of(records(f"wrong-{n}", 3, n % 3))) == "NoError"
            assert await send(rig.broker, rig.topic, 1, batch_of(records(f"right-{n}", 3))) == "NoError"
            await until(rig.all_committed)
        assert len(rig.kept_in_table()) == 30
    assert ends == []


async def test_what_was_aborted_behind_one_is_not_read(rig: Rig, ends: list[str]) -> None:
    """The records are fetched again, and with them which transactions were aborted."""
    assert await send(rig.broker, rig.topic, 0, batch_of(records("wrong", 1, 0))) == "NoError"
    async with producer(rig.broker, transactional_id=rig.name) as client:
        await client.begin_transaction()
        await client.send_and_wait(rig.topic, row(9, "aborted"), b"key", partition=0)
        await client.abort_transaction()
        await client.begin_transaction()
        await client.send_and_wait(rig.topic, row(1), b"key", partition=0)
        await client.commit_transaction()
    async with rig.running():
        await until(rig.all_committed)
        assert rig.kept_in_table() == {"wrong-0": row(1), "key": row(1)}
    assert ends == []


async def test_lag_is_told_with_the_time_of_such_a_record(rig: Rig) -> None:
    for n, wrong in enumerate([(0,), ()]):
        assert await send(rig.broker, rig.topic, n, batch_of(records("key", 1, *wrong))) == "NoError"
    brokers = Brokers({"bootstrap_servers": rig.broker})
    await brokers.start()
    try:
        tps = [TopicPartition(rig.topic, n) for n in range(2)]
        for _ in range(2):
            assert list(await brokers.timestamps(dict.fromkeys(tps, 0))) == tps
    finally:
        await brokers.close()


@pytest.mark.parametrize("codec", [GZIP, ZSTD], ids=["gzip", "zstd"])
async def test_a_batch_that_is_too_large_when_decompressed_is_left_out_and_those_around_it_come_once(
    rig: Rig, ends: list[str], codec: int
) -> None:
    before, after = records("before", 3), records("after", 130, 60)
    bomb = [RawRecord(b"bomb-%d" % n, row(1) + bytes(20_000_000)) for n in range(2)]
    for batch in (before, bomb, after, bomb):
        assert await send(rig.broker, rig.topic, 0, batch_of(batch, codec)) == "NoError"
    async with rig.running():
        await until(rig.all_committed)
        assert rig.kept_in_table() == rows_of(before, after)
        keys = [record.key for handed in rig.slices for record in handed.records]
        assert keys == [record.key for record in (*before, *after)]
    assert left_out[rig.topic] == 4
    assert ends == []
