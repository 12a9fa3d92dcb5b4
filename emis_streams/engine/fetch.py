"""Records of a partition, several hundred at a time, without one Python object each.

aiokafka builds a frozen dataclass of eleven fields for every record, which costs more than all of
our own work on it. Its `PartitionRecords` makes that object in one overridable place; taking the
record that the C parser made instead leaves everything else as it is: aborted transactions, control
records, positions (measured in docs/decisions/0002-records-in-columns.md).
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import ConsumerStoppedError

from emis_streams.engine.decompression import BatchTooLarge, bound_decompression
from emis_streams.engine.header_names import Unread, read_again, unread

bound_decompression()

_CHUNK_RECORDS = 50
"""The bytes taken so far are looked at after so many records."""


_GATHERED_BYTES = 1 << 18
"""A fetch that finds as much is answered at once: a backlog waits for nothing."""
_UNGATHERED_WAIT_SECONDS = 0.05
"""A fetch that waits longer holds up the partitions that were drained after it was sent."""


def gathering(linger_seconds: float) -> dict[str, int]:
    """Arguments of an aiokafka consumer: the brokers hold a fetch back for so long when few records come."""
    if linger_seconds == 0:
        return {"fetch_min_bytes": 1, "fetch_max_wait_ms": round(1000 * _UNGATHERED_WAIT_SECONDS)}
    return {"fetch_min_bytes": _GATHERED_BYTES, "fetch_max_wait_ms": max(1, round(1000 * linger_seconds))}


@dataclass(frozen=True, slots=True)
class Fetched:
    """Consecutive records of one partition.

    `base` is the fetch position before them and `end` the one after; both may lie beyond the offsets
    of the records, since compaction leaves gaps and control records are not handed out.
    """

    tp: TopicPartition
    base: int
    end: int
    records: list[Any]
    """Each with `offset`, `timestamp` (ms since 1970), `key`, `value` and `headers`."""


async def fetch(
    fetcher: Fetcher,
    tps: Collection[TopicPartition],
    timeout_seconds: float,
    max_records: int,
    max_bytes: int,
    is_wanted: Callable[[], bool] = lambda: True,
) -> list[Fetched]:
    """At most one run of records of each of `tps`, waiting up to the time-out for the first.

    What was taken is not fetched again: once nobody wants it any more (`is_wanted`), as partitions were shared out
    anew meanwhile, nothing is.

    Raises what the brokers answered (aiokafka.errors.KafkaError), as `getmany` does.
    """
    while True:
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        await _read_again(fetcher, tps)
        if not is_wanted():
            return []
        taken = _take_ready(fetcher, tps, max_records, max_bytes)
        if taken or timeout_seconds <= 0:
            return taken
        if unread(fetcher, tps):
            continue
        waiter = fetcher._create_fetch_waiter()
        done, pending = await asyncio.wait([waiter], timeout=timeout_seconds)
        if fetcher._closed:
            raise ConsumerStoppedError
        if not done:
            for future in pending:
                future.cancel()
            return []
        for future in done:
            future.result()


async def _read_again(fetcher: Fetcher, tps: Collection[TopicPartition]) -> None:
    for tp, result in unread(fetcher, tps):
        if not await read_again(fetcher, tp, result):
            _forget(fetcher, tp)


def _take_ready(fetcher: Fetcher, tps: Collection[TopicPartition], max_records: int, max_bytes: int) -> list[Fetched]:
    taken: list[Fetched] = []
    for tp in list(fetcher._records):
        if tp not in tps:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if not isinstance(result, FetchResult):
            if taken:
                return taken
            _forget(fetcher, tp)
            result.check_raise()
            continue
        fetched = _take(result, tp, max_records, max_bytes)
        if not result.has_more():
            _forget(fetcher, tp)
        if fetched is not None:
            taken.append(fetched)
    return taken


def _forget(fetcher: Fetcher, tp: TopicPartition) -> None:
    """Lets the background routine fetch the partition's next records."""
    fetcher._records.pop(tp, None)
    fetcher._notify(fetcher._wait_consume_future)


def _take(result: FetchResult, tp: TopicPartition, max_records: int, max_bytes: int) -> Fetched | None:
    if not result.check_assignment(tp) or not result.has_more():
        return None
    source = result._partition_records
    source._consumer_record = _as_parsed
    base = source.next_fetch_offset
    records: list[Any] = []
    try:
        _take_records(source, records, max_records, max_bytes)
    except (UnicodeDecodeError, BatchTooLarge) as reason:  # The records before it are taken.
        result._partition_records = Unread(source.next_fetch_offset, isinstance(reason, UnicodeDecodeError))
    result._update_position()
    if source._records_iterator is None:
        result._partition_records = None
    end = source.next_fetch_offset
    return Fetched(tp, base, end, records) if end > base else None


def _take_records(source: PartitionRecords, records: list[Any], max_records: int, max_bytes: int) -> None:
    """Adds records to the list; those before one that cannot be parsed are in it when that raises."""
    n_bytes = 0
    while len(records) < max_records and n_bytes < max_bytes and source._records_iterator is not None:
        n_before = len(records)
        records.extend(islice(source, min(_CHUNK_RECORDS, max_records - n_before)))
        n_bytes += sum([len(record.value or b"") for record in records[n_before:]])


def _as_parsed(_tp: TopicPartition, record: Any) -> Any:
    return record
