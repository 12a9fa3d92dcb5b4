"""Batches of records by hand, for what no client library lets through: wrong header names, codecs and checksums."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NotLeaderForPartitionError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from tests.services import until

NO_CODEC, GZIP, SNAPPY, LZ4, ZSTD, UNKNOWN_CODEC = 0, 1, 2, 3, 4, 7
LAST_BYTE_OF_CRC = _DefaultRecordBatchBuilderPy.CRC_OFFSET + 3
_ACKS_ALL = -1
_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class RawRecord:
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[bytes, bytes | None]] = ()


class _Name(str):
    """A header name of any bytes: the builder encodes names."""

    def __new__(cls, raw: bytes) -> "_Name":
        name = super().__new__(cls, raw.decode("latin-1"))
        name.raw = raw
        return name

    raw: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


class _Builder(_DefaultRecordBatchBuilderPy):
    """Can name a codec that there is not."""

    claimed_codec: int | None = None

    def _get_attributes(self, include_compression_type: bool = True) -> int:
        attributes: int = super()._get_attributes(include_compression_type)
        return attributes if self.claimed_codec is None else attributes & ~self.CODEC_MASK | self.claimed_codec


def batch_of(records: Sequence[RawRecord], codec: int = NO_CODEC, claimed_codec: int | None = None) -> bytes:
    """One batch. With `claimed_codec` it says that it is packed by that, and is not."""
    builder = _Builder(2, codec, False, -1, -1, -1, 1 << 30)
    builder.claimed_codec = claimed_codec
    now_ms = int(time.time() * 1000)
    for n, record in enumerate(records):
        builder.append(n, now_ms, record.key, record.value, [(_Name(name), value) for name, value in record.headers])
    return bytes(builder.build())


def with_wrong_crc(batch: bytes) -> bytes:
    wrong = bytearray(batch)
    wrong[LAST_BYTE_OF_CRC] ^= 0xFF
    return bytes(wrong)


async def send(broker: str, topic: str, partition: int, batch: bytes) -> str:
    """What the broker answers: the name of the error, NoError if it has taken the batch."""
    (answer,) = await send_all(broker, [(topic, partition, batch)])
    return answer


async def send_all(broker: str, batches: Sequence[tuple[str, int, bytes]]) -> list[str]:
    """The answers to batches that are sent one after the other, each to its topic and partition."""
    client = AIOKafkaClient(bootstrap_servers=broker)
    await client.bootstrap()
    try:
        await client.set_topics({topic for topic, _, _ in batches})
        return [await _answer(client, *batch) for batch in batches]
    finally:
        await client.close()


async def _answer(client: AIOKafkaClient, topic: str, partition: int, batch: bytes) -> str:
    """A topic that was just made may have no leader yet."""
    answers: list[str] = []

    async def answered() -> bool:
        answers.append(await _ask(client, topic, partition, batch))
        return answers[-1] != NotLeaderForPartitionError.__name__

    await until(answered)
    return answers[-1]


async def _ask(client: AIOKafkaClient, topic: str, partition: int, batch: bytes) -> str:
    leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
    request = ProduceRequest(None, _ACKS_ALL, _TIMEOUT_MS, [(topic, [(partition, batch)])])
    response = await client.send(leader, request)
    ((_, ((_, error_code, *_),)),) = response.topics
    return str(for_code(error_code).__name__)
