"""Records that aiokafka's parser raises at are read again, by a parser that bears them.

Header names that are not UTF-8: the parser escapes what it cannot decode.
librdkafka sends such names and brokers take them, but aiokafka's parser raises at them, and would at every start:
one record would stop its partition for ever. Of such a name the wrong bytes come out as text (`\\xff`), since
aiokafka sends header names as text only.

Batches that are too large when decompressed (`decompression.py`) are left out, counted and logged.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import KafkaError, LeaderNotAvailableError, NoError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

from emis_streams.engine.decompression import BatchTooLarge
from emis_streams.engine.throttled_log import ThrottledLog

logger = logging.getLogger(__name__)

_FIRST_MAGIC_WITH_HEADERS = 2
_FIRST_VERSION_WITH_PREFERRED_REPLICA = 11

left_out: Counter[str] = Counter()
"""By topic, since this process started: records of batches that were too large."""
_left_out_log = ThrottledLog(logger)
_escaped_log = ThrottledLog(logger)


@dataclass
class Unread:
    """Stands in a fetch result for records that are to be read again, from this offset on."""

    next_fetch_offset: int
    is_name: bool
    """Because of a header name; else because of a batch."""


class _EscapingBytes(bytearray):
    """aiokafka's parser decodes slices of its buffer, header names and nothing else."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _EscapingBytes(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "backslashreplace")


class _Batch(_DefaultRecordBatchPy):
    _buffer: bytearray

    def __init__(self, raw: Any, tp: TopicPartition) -> None:
        super().__init__(raw)
        self._tp = tp

    def __iter__(self) -> Iterator[Any]:
        try:
            super().__iter__()  # Decompresses the records.
        except BatchTooLarge as reason:
            self._leave_out(reason)
            return iter(())
        self._buffer = _EscapingBytes(self._buffer)
        return self

    def _leave_out(self, reason: BatchTooLarge) -> None:
        first, after = self.base_offset, self.next_offset
        left_out[self._tp.topic] += after - first
        _left_out_log.warning(
            f"{self._tp.topic}:{self._tp.partition}: the batch of the offsets {first} to {after - 1} is left out: "
            f"{reason}; its producer has to send its records again in smaller batches"
        )


class _Records(_MemoryRecordsPy):
    def __init__(self, raw: Any, tp: TopicPartition) -> None:
        super().__init__(raw)
        self._tp = tp

    def next_batch(self) -> Any:
        raw = self._next_slice
        batch = super().next_batch()
        has_headers = raw is not None and raw[self.MAGIC_OFFSET] >= _FIRST_MAGIC_WITH_HEADERS
        return _Batch(raw, self._tp) if has_headers else batch


def unread(fetcher: Fetcher, tps: Collection[TopicPartition]) -> list[tuple[TopicPartition, FetchResult]]:
    """Fetch results of these partitions that wait to be read again."""
    return [
        (tp, result)
        for tp, result in fetcher._records.items()
        if tp in tps and isinstance(result, FetchResult) and isinstance(result._partition_records, Unread)
    ]


async def read_again(fetcher: Fetcher, tp: TopicPartition, result: FetchResult) -> bool:
    """Fetches again what is unread and puts it into the result; False if the brokers do not give it now."""
    offset = result._partition_records.next_fetch_offset
    try:
        records, aborted = await _fetch(fetcher, tp, offset)
    except KafkaError as error:
        logger.info("%s: offset %d not read again yet: %r", tp, offset, error)
        return False
    if not records.has_next():
        return False
    if result._partition_records.is_name:
        _escaped_log.warning(f"{tp}: header names at offset {offset} are not UTF-8: their bytes are escaped")
    result._partition_records = PartitionRecords(
        tp, records, aborted, offset, None, None, fetcher._check_crcs, fetcher._isolation_level
    )
    return True


async def _fetch(fetcher: Fetcher, tp: TopicPartition, offset: int) -> tuple[_Records, Any]:
    """Batches of the partition, and its aborted transactions (aiokafka keeps neither once it has made records)."""
    client = fetcher._client
    leader = client.cluster.leader_for_partition(tp)
    if leader is None or leader < 0:
        raise LeaderNotAvailableError(tp)
    wanted = [(tp.topic, [(tp.partition, offset, fetcher._max_partition_fetch_bytes)])]
    response = await client.send(leader, FetchRequest(0, 1, fetcher._fetch_max_bytes, fetcher._isolation_level, wanted))
    _, error_code, _, *rest = response.topics[0][1][0]
    if for_code(error_code) is not NoError:
        raise for_code(error_code)(tp)
    has_replica = response.API_VERSION >= _FIRST_VERSION_WITH_PREFERRED_REPLICA
    return _Records(rest[-1], tp), rest[-3 if has_replica else -2]
