"""The table of bad events (tests/bad_events.py) on a real broker: each kind about its own class, among good events.

Kinds that only a broker can show have their records here: packed batches, headers of all kinds, an aborted transaction.
"""

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from confluent_kafka import Producer

from emis_streams.dead_letter_headers import CUT_BYTES
from emis_streams.topics import MAX_MESSAGE_BYTES
from tests.bad_events import CLASS_ID, CREATED, REACHING_US, Applied, DeadLetter, Event, Record, a_class, json_of
from tests.integration.independent import records
from tests.integration.raw_batches import (
    GZIP,
    NO_CODEC,
    UNKNOWN_CODEC,
    ZSTD,
    RawRecord,
    batch_of,
    with_wrong_crc,
)
from tests.integration.worker_rig import Worker, new_id
from tests.integration.worker_rig import a_class as a_good_class

Headers = Sequence[tuple[bytes, bytes | None]]

KIND = b"kind"
"""The header that says which kind a record is of, in the dead letter as well."""
TRACED: Headers = [(b"trace", b"\x00\xff"), (b"trace", b"again"), (b"reply-to", b"emis.teacher.created")]
BOMB_BYTES = 30 * 2**20
"""30 KB once packed."""
_TOO_MANY_FIELDS = 29
"""14 MB, of which gzip leaves twice the limit: the brokers refuse it to its producer."""
_ALONE_IN_A_BATCH = MAX_MESSAGE_BYTES - 1_000


@dataclasses.dataclass(frozen=True)
class Sent:
    """A kind as it is sent."""

    id: str
    class_id: str
    outcome: Applied | DeadLetter
    records: tuple[Record, ...]
    headers: Headers = tuple(TRACED)
    codec: int = NO_CODEC

    @property
    def n_refused(self) -> int:
        """Records that must become dead letters."""
        return 1 if isinstance(self.outcome, DeadLetter) or self.outcome.refused else 0

    @property
    def reason(self) -> str:
        return self.outcome.reason if isinstance(self.outcome, DeadLetter) else self.outcome.refused

    @property
    def says(self) -> Event | None:
        """What is kept of the class; None if it is deleted."""
        assert isinstance(self.outcome, Applied)
        return self.outcome.rows[self.class_id]

    @property
    def all_headers(self) -> Headers:
        return [(KIND, self.id.encode()), *self.headers]

    def among(self, neighbours: "Sequence[Neighbour]", partition: int) -> list[tuple[str, int, bytes]]:
        """Topic, partition and batch of each record, between good events; what is too large is packed."""
        before, after = [(CREATED, batch_of([RawRecord(*neighbour.record)])) for neighbour in neighbours]
        own = [
            (record.topic, batch_of([RawRecord(record.key, record.value, self.all_headers)], self._codec_of(record)))
            for record in self.records
        ]
        return [(topic, partition, batch) for topic, batch in (before, *own, after)]

    def _codec_of(self, record: Record) -> int:
        is_large = len(record.value or b"") > _ALONE_IN_A_BATCH
        return GZIP if is_large and self.codec == NO_CODEC else self.codec


class Neighbour(NamedTuple):
    """A good event beside a bad one."""

    class_id: str
    name: str
    record: tuple[bytes, bytes]


def a_neighbour(name: str) -> Neighbour:
    event = a_good_class(new_id(), name)
    return Neighbour(event["classId"], name, (event["classId"].encode(), json.dumps(event).encode()))


def produced() -> list[Sent]:
    """All kinds that brokers take: no times but theirs in the records, and batches within the limit when packed."""
    reaching = [
        kind
        for kind in REACHING_US
        if kind.number != _TOO_MANY_FIELDS and all(record.timestamp_ms is None for record in kind.records)
    ]
    of_table = [(kind.id, kind.outcome, kind.records, {}) for kind in reaching]
    every = [*of_table, *_of_brokers()]
    return [_own(n, *kind) for n, kind in enumerate(every)]


def _of_brokers() -> list[tuple[str, Any, tuple[Record, ...], dict[str, Any]]]:
    """Kinds that the decoder never sees as such; each once with an event that is good, once with one that is not."""
    good, bad = json_of(a_class()), b"no event"
    kinds: dict[str, dict[str, Any]] = {
        "51 reply-to naming another topic": {"headers": [(b"reply-to", b"emis.class.deleted")]},
        "52 correlation id twice": {"headers": [(b"correlation-id", b"1"), (b"correlation-id", b"2")]},
        "53 10,000 headers": {"headers": [(b"h%d" % n, b"\x00") for n in range(10_000)]},
        "53 header of 1 MB": {"headers": [(b"h", b"x" * 1_000_000)]},
        "53 header of 2 MB, packed": {"headers": [(b"h", b"x" * 2_000_000)], "codec": GZIP},
        "54 header that is not UTF-8": {"headers": [(b"h", b"\xff\xfe")]},
        "54 header name that is not UTF-8": {"headers": [(b"h\xff\xfe", b"x")]},
        "54 header without a value": {"headers": [(b"h", None)]},
    }
    of_headers = [
        (f"{name}, {what}", outcome, (Record(CLASS_ID.encode(), value),), how)
        for name, how in kinds.items()
        for what, value, outcome in (("good", good, _applied()), ("bad", bad, DeadLetter("malformed")))
    ]
    large_good, large_bad = json_of(a_class(x="x" * BOMB_BYTES)), json_of(a_class(className="x" * BOMB_BYTES))
    bombs = [
        (f"32 {name} bomb, {what}", outcome, (Record(CLASS_ID.encode(), value),), {"codec": codec})
        for name, codec in (("gzip", GZIP), ("zstd", ZSTD))
        for what, value, outcome in (("good", large_good, _applied()), ("bad", large_bad, DeadLetter("<= 200")))
    ]
    return [*of_headers, *bombs]


def _applied() -> Applied:
    return Applied({CLASS_ID: {"className": "10A1", "totalStudents": 41}})


def _own(n: int, name: str, outcome: Any, records: tuple[Record, ...], how: dict[str, Any]) -> Sent:
    """The kind, about a class that no other one is about."""
    class_id = f"0ba{n:05x}-0000-4000-8000-0000000000ef"
    if isinstance(outcome, Applied):
        outcome = dataclasses.replace(outcome, rows={class_id: outcome.rows[CLASS_ID]})
    own = tuple(
        dataclasses.replace(record, key=_about(record.key, class_id), value=_about(record.value, class_id))
        for record in records
    )
    return Sent(name, class_id, outcome, own, **how)


def _about(raw: bytes | None, class_id: str) -> bytes | None:
    if raw is None:
        return None
    lower, upper = CLASS_ID.encode(), CLASS_ID.upper().encode()
    return raw.replace(lower, class_id.encode()).replace(upper, class_id.upper().encode())


def abort(broker: str, class_id: str) -> None:
    """A good event in a transaction that is aborted."""
    producer = Producer({"bootstrap.servers": broker, "transactional.id": class_id})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(CREATED, json_of(a_class(classId=class_id)), class_id.encode(), partition=0)
    producer.flush(10)
    producer.abort_transaction(10)


# -- what must come of it -----------------------------------------------------------------------


def check_letters(sent: Sent, letters: Sequence[Any]) -> None:
    """The dead letters of a kind: the refused record as it came, or cut if it was too large once unpacked."""
    assert len(letters) == sent.n_refused, sent.id
    for letter in letters:
        headers = letter.headers()
        said = {name: value.decode() for name, value in headers if name.startswith("dlq.")}
        own = [(name, value) for name, value in headers if name not in said]
        came = [record for record in sent.records if _fits(letter, record)]
        assert came, (sent.id, letter.key(), (letter.value() or b"")[:100])
        if "dlq.cut" in said:
            assert int(re.findall(r"\d+", said["dlq.cut"])[1]) == len(came[0].value or b"")
            del said["dlq.cut"]
        else:
            assert own == [(_escaped(name), value) for name, value in sent.all_headers], sent.id
        _check_said(sent, came[0], said)


def _fits(letter: Any, record: Record) -> bool:
    cut = dict(letter.headers()).get("dlq.cut")
    value = record.value if cut is None or record.value is None else record.value[:CUT_BYTES]
    return (letter.key(), letter.value()) == (record.key, value)


def _escaped(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _check_said(sent: Sent, record: Record, said: dict[str, str]) -> None:
    assert said.keys() == {
        f"dlq.{name}" for name in ("topic", "partition", "offset", "timestamp", "reason", "time", "headers")
    }
    assert said["dlq.topic"] == record.topic
    assert sent.reason in said["dlq.reason"], (sent.id, said["dlq.reason"])
    for name in ("dlq.timestamp", "dlq.time"):
        assert abs(datetime.now(UTC) - datetime.fromisoformat(said[name])) < timedelta(minutes=5)


def is_answered(sent: Sent, worker: Worker) -> bool:
    """Whether the page of the kind's class says what it must."""
    status, body = worker.get(f"/api/classes/{sent.class_id}")
    if isinstance(sent.outcome, DeadLetter):
        return status == 404
    if sent.says is None:
        return status == 410
    return status == 200 and {name: body[name] for name in sent.says} == sent.says


def letters(broker: str) -> defaultdict[str, list[Any]]:
    """Dead letters of the kinds, by the kind that their header says, or by their key where headers were left out."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    by_key = {record.key: sent.id for sent in produced() for record in sent.records}
    for letter in records(broker, ["emis.dead-letter"]):
        headers = dict(letter.headers() or ())
        if KIND.decode() in headers:
            found[headers[KIND.decode()].decode()].append(letter)
        elif "dlq.cut" in headers:
            found[by_key[letter.key()]].append(letter)
    return found


# -- what comes to no worker --------------------------------------------------------------------


class Refused(NamedTuple):
    """A batch that the brokers do not take, and the error that they answer."""

    id: str
    batch: bytes
    error: str


def _of_one(value: bytes, **how: Any) -> bytes:
    return batch_of([RawRecord(CLASS_ID.encode(), value)], **how)


REFUSED_BY_BROKERS = [
    Refused("31 over the brokers' limit", _of_one(b"x" * MAX_MESSAGE_BYTES), "MessageSizeTooLargeError"),
    Refused("33 unknown codec", _of_one(b"{}", claimed_codec=UNKNOWN_CODEC), "UnknownError"),
    Refused("33 said to be gzip", _of_one(b"{}", claimed_codec=GZIP), "UnknownError"),
    Refused("33 said to be zstd", _of_one(b"{}", claimed_codec=ZSTD), "UnknownError"),
    Refused("34 CRC error", with_wrong_crc(_of_one(b"{}")), "CorruptRecordException"),
]
