"""Everything that the engine sends: what is not acknowledged by the brokers does not count.

Rows: one queue per changelog partition, one batch of it under way. While a batch waits for its
acknowledgement the next rows gather, so batches grow by themselves when the brokers are slow, and
no partition waits for another one.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from emis_streams.engine.any_key import partition_of_any
from emis_streams.engine.attempts import Attempts
from emis_streams.engine.patience import Waiting
from emis_streams.engine.row_size import MOST_BATCH_BYTES
from emis_streams.engine.send_any import send_any
from emis_streams.engine.starting import start

logger = logging.getLogger(__name__)

_FOREVER_MS = 1_000_000_000


async def _certain() -> None:
    return


async def _started(producer: AIOKafkaProducer) -> tuple[AIOKafkaProducer, Attempts]:
    try:
        await start(producer)
    except (KafkaError, asyncio.CancelledError):
        await producer.stop()
        raise
    return producer, Attempts(producer)


@dataclass(eq=False)
class _Queue:
    """Rows of one changelog partition that are not sent yet, and who waits for them."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    waiters: list["asyncio.Future[None]"] = field(default_factory=list)
    sender: "asyncio.Task[None] | None" = None


class Writer:
    """Producers (acks=all): an idempotent one for changelogs, and one for single records such as dead letters.

    Records that the topic is too small for are sent again until it is not, which aiokafka's idempotent producer cannot:
    it goes on counting, and the brokers refuse all that comes after. Twice the same dead letter harms nobody.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        on_acknowledged: Callable[[TopicPartition, int, int], None] = lambda _tp, _base, _n: None,
        still_ours: Callable[[], Awaitable[None]] = _certain,
        on_failure: Callable[[BaseException], None] = lambda _error: None,
        compression: str | None = None,
    ) -> None:
        """`on_acknowledged` gets partition, offset of the first row (-1: not known) and number of rows;
        `still_ours` waits while this worker may have lost its partitions without noticing, and raises when it has;
        `on_failure` is told when rows cannot be sent (records tell it by their task).
        """
        self._client = client
        self._on_acknowledged = on_acknowledged
        self._still_ours = still_ours
        self._on_failure = on_failure
        self._compression = compression
        self._producer: AIOKafkaProducer | None = None
        self._producer_of_records: AIOKafkaProducer | None = None
        self._waiting = Waiting(lambda text: logger.warning("sending records: %s", text))
        self._attempts: list[Attempts] = []
        self._queues: dict[TopicPartition, _Queue] = {}
        self.waiting_since: dict[TopicPartition, float] = {}
        """Monotonic time since when a batch of the partition waits for its acknowledgement."""

    async def start(self) -> None:
        if self._producer is None:  # Else only the other one could not be started the last time.
            self._producer, attempts = await _started(self._new_producer(is_idempotent=True))
            self._attempts.append(attempts)
        self._producer_of_records, attempts = await _started(self._new_producer(is_idempotent=False))
        self._attempts.append(attempts)

    def _new_producer(self, *, is_idempotent: bool) -> AIOKafkaProducer:
        """One that never gives up: aiokafka's expires what waits for a partition to get a leader, and for room."""
        producer = AIOKafkaProducer(
            **self._client,
            enable_idempotence=is_idempotent,
            acks="all",
            compression_type=self._compression,
            max_batch_size=MOST_BATCH_BYTES,
            max_request_size=2 * MOST_BATCH_BYTES,
            metadata_max_age_ms=60_000,
            partitioner=partition_of_any,
        )
        producer._message_accumulator._batch_ttl = math.inf
        producer._request_timeout_ms = _FOREVER_MS
        return producer

    async def stop(self) -> None:
        for producer in (self._producer, self._producer_of_records):
            if producer is not None:
                await producer.stop()
        self._producer = self._producer_of_records = None
        self._attempts.clear()

    def waits_for(self, within_seconds: float) -> str | None:
        """What rows or records wait for, deliberately: see `Attempts.waits_for`."""
        found = (attempts.waits_for(within_seconds) for attempts in self._attempts)
        return self._waiting.reason or next((reason for reason in found if reason is not None), None)

    @property
    def is_started(self) -> bool:
        return self._producer_of_records is not None

    def send_rows(self, tp: TopicPartition, rows: Mapping[bytes, bytes]) -> "asyncio.Future[None]":
        """Queues the rows; the future resolves when the brokers have acknowledged all of them.

        A row that waits for the same key is replaced: only what would be superseded is left out.
        """
        acknowledged = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(tp, _Queue())
        queue.rows.update(rows)
        queue.waiters.append(acknowledged)
        if queue.sender is None:
            queue.sender = asyncio.create_task(self._send_all(tp, queue), name=f"changelog {tp}")
            queue.sender.add_done_callback(self._sender_ended)
        return acknowledged

    def send_record(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> "asyncio.Task[None]":
        """Sends one record; the task succeeds when it is acknowledged, however long its topic is too small for it."""
        return asyncio.create_task(self._send_record(topic, key, value, headers), name=f"record for {topic}")

    async def _send_record(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> None:
        producer = self._producer_of_records
        assert producer is not None

        async def send() -> None:
            await (await send_any(producer, topic, key, value, headers))

        await self._waiting.for_(send, MessageSizeTooLargeError)

    def is_idle(self, tp: TopicPartition) -> bool:
        queue = self._queues.get(tp)
        return queue is None or queue.sender is None

    async def _send_all(self, tp: TopicPartition, queue: _Queue) -> None:
        try:
            while queue.waiters:
                rows, queue.rows = queue.rows, {}
                waiters, queue.waiters = queue.waiters, []
                self.waiting_since[tp] = time.monotonic()
                await self._send_rows(tp, rows)
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)
        finally:
            self.waiting_since.pop(tp, None)
            queue.sender = None

    async def _send_rows(self, tp: TopicPartition, rows: Mapping[bytes, bytes]) -> None:
        assert self._producer is not None
        pending = list(rows.items())
        at = 0
        while at < len(pending):
            await self._still_ours()
            now_ms = time.time_ns() // 1_000_000
            batch = self._producer.create_batch()
            append = batch.append
            first = at
            while at < len(pending) and append(key=pending[at][0], value=pending[at][1], timestamp=now_ms) is not None:
                at += 1
            if at == first:
                raise KafkaError(f"a row of {len(pending[at][1])} bytes does not fit into a batch for {tp}")
            sent = await self._producer.send_batch(batch, tp.topic, partition=tp.partition)
            metadata = await sent
            self._on_acknowledged(tp, metadata.offset, at - first)

    def _sender_ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            self._on_failure(asyncio.CancelledError(task.get_name()))
        elif (error := task.exception()) is not None:
            self._on_failure(error)
