"""Quix Streams at the same work: its RocksDB state and changelog, as well tuned as it goes.

Started by the harness with the peers' own virtualenv and KAFKA_BROKERS, DATA_DIR, GROUP, COMMIT_SECONDS.
One dataframe over the three topics (`concat`), bytes in and out of the state, msgspec, WAL and fsync as they come.
"""

import os
from datetime import datetime
from functools import partial
from struct import Struct
from typing import Any

import msgspec
from quixstreams import Application, State  # type: ignore[import-not-found]
from quixstreams.state.rocksdb import RocksDBOptions  # type: ignore[import-not-found]

SOURCES = ("emis.class.created", "emis.class.updated", "emis.class.deleted")
_RANKS = {topic: rank for rank, topic in enumerate(SOURCES)}
_VERSION_BYTES = 25
_STATE_KEY = b"c"


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


_decode = msgspec.json.Decoder(ClassEvent).decode
_pack = Struct(">QB16s").pack
_encode = msgspec.msgpack.Encoder().encode


def row_of(topic_name: str, value: bytes, key: bytes, _timestamp: int, _headers: Any) -> bytes:
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


def keep(row: bytes, state: State) -> None:
    stored = state.get_bytes(_STATE_KEY)
    if stored is None or row[:_VERSION_BYTES] >= stored[:_VERSION_BYTES]:
        state.set_bytes(_STATE_KEY, row)


def application() -> Application:
    return Application(
        broker_address=os.environ["KAFKA_BROKERS"],
        consumer_group=os.environ["GROUP"],
        auto_offset_reset="earliest",
        commit_interval=float(os.environ["COMMIT_SECONDS"]),
        state_dir=os.environ["DATA_DIR"],
        consumer_extra_config={"check.crcs": False, "fetch.min.bytes": 1, "queued.min.messages": 50_000},
        producer_extra_config={"linger.ms": 20, "batch.size": 512 * 1024, "queue.buffering.max.messages": 1_000_000},
        rocksdb_options=RocksDBOptions(block_cache_size=320 * 1024**2),
        loglevel="WARNING",
        auto_create_topics=True,
    )


def main() -> None:
    app = application()
    first, *others = [
        app.dataframe(app.topic(name, key_deserializer="bytes", value_deserializer="bytes")).apply(
            partial(row_of, name), metadata=True
        )
        for name in SOURCES
    ]
    events = first
    for other in others:
        events = events.concat(other)
    events.update(keep, stateful=True)
    if os.environ.get("QUIX_TIME_ALIGNMENT") == "0":
        # Versions decide here, so the peer need not pay for reading its topics in the order of time.
        app._dataframe_registry._requires_time_alignment = False
    app.run()


if __name__ == "__main__":
    main()
