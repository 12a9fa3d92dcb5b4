"""What must be in every store, worked out from the source topics by a client and a fold that know nothing of ours.

Nothing of `emis_streams` is imported here: events are JSON, rows are the bytes that `rows.py` documents, read by
librdkafka, RocksDB and PyMySQL. Both formats of rows begin with time 8, rank 1, what decides between equal ones 16,
CRC-32 4, created 8, and end with MessagePack; decision 0017 says what differs.
"""

import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import wait
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from zlib import crc32

import msgspec
import pymysql
import stamina
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from rocksdict import AccessType, Options, Rdict

SOURCES = {
    "emis.class.created": ("classes", 0),
    "emis.class.updated": ("classes", 1),
    "emis.class.deleted": ("classes", 2),
    "emis.teacher.created": ("teachers", 0),
    "emis.teacher.updated": ("teachers", 1),
    "emis.teacher.deleted": ("teachers", 2),
    "emis.assignment.created": ("assignments", 0),
    "emis.assignment.deleted": ("assignments", 1),
}
KINDS = ("classes", "teachers", "assignments")
GROUP = "emis-teacher-service"

_FIELDS = {
    "classes": ("className", "grade", "academicYear", "totalStudents", "schoolId", "homeroomTeacherId"),
    "teachers": ("fullName", "email", "schoolId"),
    "assignments": ("classId", "role", "subject"),
}
_COLUMNS = {
    "classes": (
        "ClassInfos",
        "ClassId",
        "ClassId",
        "ClassName, Grade, AcademicYear, TotalStudents, SchoolId, HomeroomTeacherId",
    ),
    "teachers": ("Teachers", "TeacherId", "TeacherId", "FullName, Email, SchoolId"),
    "assignments": (
        "TeacherAssignments",
        "TeacherId",
        "CONCAT(TeacherId, '|', AssignmentId)",
        "ClassId, Role, Subject",
    ),
}
_READ_MODEL_PREFIX = {b"c": "classes", b"t": "teachers", b"a": "assignments"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Key = tuple[str, str]
"""Kind, and key of the row."""


class Kept(NamedTuple):
    """What is to be kept of a key: where it comes from, and its fields (None: deleted)."""

    time_us: int
    rank: int
    order: int
    """Offset on the event's topic, which decides between equal times; NO_ORDER: the event id decides."""
    event_id: str
    created_us: int
    fields: tuple[Any, ...] | None


NO_ORDER = -1
"""Of deletes, and of rows of format 1. It is below every offset, as the bytes of the versions are."""
_FORMAT_2 = b"\xff" * 8
_TRAILER = b"\xc4\x11\x02"


# -- the sources, folded ------------------------------------------------------------------------


def fold_of_sources(broker: str, own_ids: Collection[str]) -> dict[Key, Kept]:
    """The winning event of each key, of the events whose record key is one of ours."""
    wanted = {own.encode() for own in own_ids}
    kept: dict[Key, Kept] = {}
    for message in records(broker, list(SOURCES)):
        if message.key() not in wanted:
            continue
        kind, rank = SOURCES[message.topic()]
        event = json.loads(message.value())
        time_us = _us(datetime.fromisoformat(event["timestamp"]))
        is_deleted = message.topic().endswith(".deleted")
        fields = None if is_deleted else tuple(event.get(name) for name in _FIELDS[kind])
        key = (kind, _row_key(kind, event))
        order = NO_ORDER if is_deleted else message.offset()
        new = Kept(time_us, rank, order, event["eventId"], time_us, fields)
        kept[key] = later(kept.get(key, new), new)
    return kept


def later(one: Kept, other: Kept) -> Kept:
    """The rule of decision 0017: time, rank, place in the log; created is the earlier of the two."""
    return max(one, other, key=lambda k: k[:4])._replace(created_us=min(one.created_us, other.created_us))


def _row_key(kind: str, event: Mapping[str, Any]) -> str:
    if kind == "assignments":
        return f"{event['teacherId']}|{event['assignmentId']}"
    return str(event["classId" if kind == "classes" else "teacherId"])


def _us(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


# -- the stores ---------------------------------------------------------------------------------


def kept_in(row: bytes) -> Kept:
    fields = tuple(msgspec.msgpack.decode(row[37:])) if len(row) > 37 else None
    order, raw_id = NO_ORDER, row[9:25]
    if fields is not None and row[-19:-16] == _TRAILER:
        order, raw_id, fields = int.from_bytes(row[17:25], "big"), row[-16:], fields[:-1]
    time_us, created_us = int.from_bytes(row[:8], "big"), int.from_bytes(row[29:37], "big")
    return Kept(time_us, row[8], order, str(uuid.UUID(bytes=raw_id)), created_us, fields)


def is_sound(row: bytes) -> bool:
    """Whether the version holds the CRC-32 of the fields, and fits the format of the body."""
    fields = kept_in(row).fields
    content = b"" if fields is None else msgspec.msgpack.encode(fields)
    is_format_2 = fields is not None and row[-19:-16] == _TRAILER
    return row[25:29] == crc32(content).to_bytes(4, "big") and (not is_format_2 or row[9:17] == _FORMAT_2)


def order_in(version: bytes, event_id: str) -> int:
    """The place in the log that a live thing's version tells; the event id beside it says which format that is of."""
    is_format_2 = version[9:17] == _FORMAT_2 and event_id != str(uuid.UUID(bytes=version[9:25]))
    return int.from_bytes(version[17:25], "big") if is_format_2 else NO_ORDER


def rows_in_changelogs(broker: str) -> dict[Key, bytes]:
    """The last record of each key."""
    changelogs = {f"{GROUP}-{kind}-changelog": kind for kind in KINDS}
    return {(changelogs[m.topic()], m.key().decode()): m.value() for m in records(broker, list(changelogs))}


def rows_in_tables(data_dir: Path) -> dict[Key, bytes]:
    """Of a worker that was stopped."""
    found: dict[Key, bytes] = {}
    for kind in KINDS:
        for path in data_dir.glob(f"**/tables/{kind}/*"):
            found.update({(kind, key.decode()): row for key, row in items(path) if not key.startswith(b"\x00")})
    return found


def rows_in_read_model(data_dir: Path) -> dict[Key, bytes]:
    """Of a worker that was stopped."""
    kinds = _READ_MODEL_PREFIX
    return {(kinds[k[:1]], k[1:].decode()): v[8:] for k, v in items(data_dir / "read-model") if k[:1] in kinds}


def items(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """All of a RocksDB that nobody has open. Raises if a block cannot be read, which else looks like the end."""
    database = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
    try:
        at = database.iter()
        at.seek_to_first()
        while at.valid():
            yield at.key(), at.value()
            at.next()
        at.status()
    finally:
        database.close()


def kept_in_mysql(url: str, own_ids: Collection[str] | None = None) -> dict[Key, Kept]:
    """Of these classes and teachers (None: of all)."""
    at = urlsplit(url)
    connection = pymysql.connect(
        host=at.hostname, port=at.port, user=at.username, password=at.password or "", database=at.path[1:]
    )
    found: dict[Key, Kept] = {}
    with connection, connection.cursor() as cursor:
        for kind, (table, owner, key, columns) in _COLUMNS.items():
            of_own = "" if own_ids is None else f" WHERE {owner} IN %s"
            arguments = None if own_ids is None else (list(own_ids),)
            wanted = f"{key}, Version, SourceEventId, CreatedAt, DeletedAt, {columns}"
            cursor.execute(f"SELECT {wanted} FROM {table}{of_own}", arguments)
            for row_key, version, event_id, created_at, deleted_at, *fields in cursor.fetchall():
                raw = bytes.fromhex(version)
                found[kind, row_key] = Kept(
                    int.from_bytes(raw[:8], "big"),
                    raw[8],
                    order_in(raw, event_id),
                    event_id,
                    _us(created_at.replace(tzinfo=UTC)),
                    tuple(fields) if deleted_at is None else None,
                )
    return found


def differences(found: Mapping[Key, Kept], expected: Mapping[Key, Kept]) -> dict[Key, tuple[Kept | None, Kept]]:
    """What was found and what was expected of each key where it is not the same."""
    return {key: (found.get(key), row) for key, row in expected.items() if found.get(key) != row}


# -- the brokers --------------------------------------------------------------------------------


def records(broker: str, names: list[str]) -> Iterator[Any]:
    """All records (confluent_kafka.Message) of topics, up to the ends at the start."""
    settings = {"bootstrap.servers": broker, "group.id": "independent", "enable.auto.commit": False}
    consumer = Consumer({**settings, "enable.partition.eof": True})  # A log may end with marks of transactions.
    try:
        ends = watermarks(consumer, names)
        missing = {at: end for at, (begin, end) in ends.items() if end > begin}
        consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for topic, n in missing])
        while missing:
            for message in consumer.consume(1000, timeout=0.1):
                at = str(message.topic()), message.partition() or 0
                if (error := message.error()) is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    missing.pop(at, None)
                    continue
                yield message
                if at in missing and (message.offset() or 0) + 1 >= missing[at]:
                    del missing[at]
    finally:
        consumer.close()


asks_again = stamina.retry(on=KafkaException, attempts=None, timeout=30.0, wait_max=1.0)
"""While a coordinator, leader or controller is new, or there is none."""


@asks_again
def watermarks(consumer: Consumer, names: list[str]) -> dict[tuple[str, int], tuple[int, int]]:
    """First offset and end of each partition; a leader that is new does not know it at once."""
    known = consumer.list_topics(timeout=10).topics
    return {
        (topic, n): consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)
        for topic in names
        for n in known[topic].partitions
    }


class Progress(NamedTuple):
    """Of the ingesting group, all source partitions together."""

    committed: int
    end: int


@asks_again
def progress(broker: str) -> Progress:
    """A coordinator or leader that is new does not know it at once."""
    client = AdminClient({"bootstrap.servers": broker, "log_level": 3})
    known = client.list_topics(timeout=10).topics
    partitions = [TopicPartition(topic, n) for topic in SOURCES for n in known[topic].partitions]
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    ends = client.list_offsets(dict.fromkeys(partitions, latest), request_timeout=10)
    wait(ends.values())
    return Progress(_committed(broker, partitions), sum(end.result().offset for end in ends.values()))


def _committed(broker: str, partitions: list[TopicPartition]) -> int:
    """Asked by a consumer, which never joins: an AdminClient crashes when the group's coordinator has just moved.

    (librdkafka issue 5040: it follows the null pointer of the group that it is not in.)
    """
    consumer = Consumer({"bootstrap.servers": broker, "group.id": GROUP, "log_level": 3})
    try:
        return sum(max(0, tp.offset) for tp in consumer.committed(partitions, timeout=10))
    finally:
        consumer.close()
