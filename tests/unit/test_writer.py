"""What is sent waits for its acknowledgement for as long as brokers are away."""

import pytest
from aiokafka import TopicPartition

from emis_streams.engine.writer import Writer


async def test_rows_wait_for_a_partition_without_a_leader_for_as_long_as_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = Writer({"bootstrap_servers": "127.0.0.1:1"})._new_producer(is_idempotent=True)
    tp = TopicPartition("changelog", 0)
    monkeypatch.setattr(producer._metadata, "leader_for_partition", lambda _tp: -1)
    builder = producer.create_batch()
    builder.append(key=b"key", value=b"row", timestamp=None)
    builder.close()
    sent = await producer._message_accumulator.add_batch(builder, tp, 1)
    batch = producer._message_accumulator._batches[tp][0]
    batch._ctime -= 24 * 3600
    _, is_missing_leaders = producer._message_accumulator.drain_by_nodes(ignore_nodes=())
    assert is_missing_leaders
    assert not sent.done()
    producer._closed = True  # It was never started.
