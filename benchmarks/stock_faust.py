"""Stock Faust at the same work: its own transport, table, changelog and RocksDB store, as well tuned as it goes.

Started by the harness: `python -m benchmarks.stock_faust worker …` with KAFKA_BROKERS, DATA_DIR, GROUP.
Tuned: producer linger and batch size, a large producer buffer, uvloop, quiet logs, bytes keys and values,
msgspec, no CRC checks, no web server, no standbys, block cache shared out over the partitions.
"""

import logging
import os
from collections.abc import Callable
from datetime import datetime
from struct import Struct

import faust
import msgspec

from benchmarks.data import PARTITIONS, SOURCES

_RANKS = {topic: rank for rank, topic in enumerate(SOURCES)}
_VERSION_BYTES = 25

logging.getLogger("aiokafka").setLevel(logging.WARNING)
logging.getLogger("asyncio").setLevel(logging.WARNING)


class ClassEvent(msgspec.Struct, rename="camel", gc=False):
    event_id: str
    event_type: str
    timestamp: datetime
    class_id: str
    class_name: str | None = None
    grade: str | None = None
    academic_year: str | None = None
    total_students: int | None = None
    school_id: str | None = None
    homeroom_teacher_id: str | None = None


app = faust.App(
    os.environ["GROUP"],
    broker=[f"kafka://{broker}" for broker in os.environ["KAFKA_BROKERS"].split(",")],
    store="rocksdb://",
    datadir=os.environ["DATA_DIR"],
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    table_standby_replicas=0,
    consumer_auto_offset_reset="earliest",
    broker_commit_interval=float(os.environ["COMMIT_SECONDS"]),
    broker_check_crcs=False,
    producer_linger=0.02,
    producer_max_batch_size=512 * 1024,
    stream_wait_empty=False,
    web_enabled=False,
    topic_disable_leader=True,
)
topic = app.topic(*SOURCES, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
table = app.Table(
    "classes",
    key_type=bytes,
    value_type=bytes,
    schema=faust.Schema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"),
    partitions=PARTITIONS,
    options={
        "driver": "rocksdict",
        "block_cache_size": 32 * 1024**2,
        "write_buffer_size": 16 * 1024**2,
        "bloom_filter_size": 10,
    },
)

_decode: Callable[[bytes], ClassEvent] = msgspec.json.Decoder(ClassEvent).decode
_pack = Struct(">QB16s").pack
_encode = msgspec.msgpack.Encoder().encode


def row_of(topic_name: str, key: bytes, value: bytes) -> bytes:
    """The row that an event makes; raises ValueError if the contract's essentials do not hold."""
    event = _decode(value)
    if event.event_type != topic_name or event.class_id.encode() != key or len(event.event_id) != 36:
        raise ValueError(f"not as agreed: {value!r}")
    raw_id = bytes.fromhex(event.event_id.replace("-", ""))
    bytes.fromhex(event.class_id.replace("-", ""))
    version = _pack(round(event.timestamp.timestamp() * 1_000_000), _RANKS[topic_name], raw_id)
    if topic_name == SOURCES[2]:
        return version
    return version + _encode(
        (
            event.class_name,
            event.grade,
            event.academic_year,
            event.total_students,
            event.school_id,
            event.homeroom_teacher_id,
        )
    )


@app.agent(topic)  # type: ignore[untyped-decorator]
async def keep(stream: faust.Stream[bytes]) -> None:
    async for event in stream.events():
        key = event.key
        row = row_of(event.message.topic, key, event.value)
        stored = table.get(key)
        if stored is None or row[:_VERSION_BYTES] >= stored[:_VERSION_BYTES]:
            table[key] = row


@app.task  # type: ignore[untyped-decorator]
async def widen_producer_buffer() -> None:
    """Its default of 100 pending messages makes the worker wait again and again."""
    app.producer.buffer.max_messages = 20_000


if __name__ == "__main__":
    app.main()
