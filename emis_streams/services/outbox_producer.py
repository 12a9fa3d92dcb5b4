"""The Kafka producer of an outbox: each batch of events is a transaction, and a new producer fences the one before.

`open_producer` gives the transactional id a new epoch. From then on the brokers refuse everything that an earlier
producer of the id sends, however late, and its open transaction is aborted: events of one key never go back.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from emis_streams import tracing
from emis_streams.engine.client_tasks import forget
from emis_streams.engine.denied import denied
from emis_streams.engine.patience import in_words
from emis_streams.engine.starting import start
from emis_streams.services.errors import Denied, NotSent
from emis_streams.services.outbox_store import Event

_OPEN_SECONDS = 20.0
_SEND_SECONDS = 20.0
_TRANSACTION_TIMEOUT_MS = 25_000
"""The brokers abort a transaction that nobody ends: until then consumers wait at its first event."""
_CLOSE_SECONDS = 5.0


class OutboxProducer:
    """Use `open`, not the constructor. Every method but `close` raises NotSent; after that only `close` is of use."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    @classmethod
    async def open(cls, client: Mapping[str, Any], transactional_id: str) -> Self:
        """Connects and fences earlier producers of the id. `client`: arguments of every Kafka client."""
        own = cls(
            AIOKafkaProducer(
                **client,
                acks="all",
                transactional_id=transactional_id,
                transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            )
        )
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await start(own._producer)
                forget(own._producer)  # Its sender ends when another producer fences it: `_send` looks.
        except BaseException as error:
            await own.close()
            if (reason := _reason(error, _OPEN_SECONDS)) is None:
                raise
            raise reason from error
        return own

    async def send(self, events: Sequence[Event]) -> None:
        """Returns once the brokers have committed all of these events; before that no reader sees any of them."""
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self._send(events)
        except Exception as error:
            if (reason := _reason(error, _SEND_SECONDS)) is None:
                raise
            raise reason from error

    async def _send(self, events: Sequence[Event]) -> None:
        if self._producer._sender.sender_task.done():
            raise NotSent("the producer's connection has failed")
        await self._producer.begin_transaction()
        ended = self._producer._txn_manager.wait_for_transaction_end()
        ended.add_done_callback(lambda done: done.cancelled() or done.exception())  # Else asyncio logs it.
        deliveries = [
            await self._producer.send(e.topic, e.value, e.key.encode(), headers=tracing.headers_of(e.traceparent))
            for e in events
        ]
        await asyncio.gather(*deliveries)
        await self._producer.commit_transaction()

    async def close(self) -> None:
        """Sends nothing more. An open transaction is left to the next producer, which aborts it.

        aiokafka's own `stop` waits for what cannot be sent, for as long as the brokers are away.
        """
        producer = self._producer
        sending = producer._sender.sender_task
        while sending is not None and not sending.done():
            sending.cancel()  # The first time the routine ends; each further time one of its requests does.
            await asyncio.wait([sending], timeout=0.1)
        producer._message_accumulator.fail_all(NotSent("the producer was closed"))
        with suppress(KafkaError, OSError):
            await asyncio.wait_for(producer.stop(), _CLOSE_SECONDS)


def _reason(error: BaseException, seconds: float) -> NotSent | None:
    """Why nothing was sent, by what the brokers answered or did not answer; None for any other error."""
    if isinstance(error, ProducerFenced):
        return NotSent("another instance has begun to send the outbox's events")
    if isinstance(error, TimeoutError):
        return NotSent(f"the brokers have taken no events for {seconds:g} s")
    if not isinstance(error, KafkaError | IllegalOperation | OSError):
        return None
    if (reason := denied(error)) is not None:
        return Denied(reason)
    return NotSent(in_words(error))
