"""Whether a producer goes on trying: then its records wait for the brokers, else it stands still."""

import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition

_LONG_SECONDS = 1.0
"""An attempt that takes as long waits for a broker that does not answer."""
_GRACE_SECONDS = 5.0


class Attempts:
    """Of one producer that has started; looks at each produce request from outside."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        sender = producer._sender
        send = sender._send_produce_req
        self._producer = producer
        self._answer_seconds = producer.client._request_timeout_ms / 1000 + _GRACE_SECONDS
        self._begun: dict[int, float] = {}
        """Monotonic, by broker: of attempts that are not over."""
        self._refused: tuple[float, str] | None = None
        """When records were last to be sent again, and for which partition."""

        async def observed_send(node_id: int, batches: Mapping[TopicPartition, Any]) -> None:
            self._begun[node_id] = time.monotonic()
            try:
                await send(node_id, batches)
            finally:
                del self._begun[node_id]
            again = next((tp for tp, batch in batches.items() if not batch.future.done()), None)
            if again is not None:
                self._refused = time.monotonic(), f"{again.topic}-{again.partition}"

        sender._send_produce_req = observed_send

    def waits_for(self, within_seconds: float) -> str | None:
        """What records wait for, by what happened within the last so many seconds; None: for nothing that is known."""
        now = time.monotonic()
        if self._refused is not None and now - self._refused[0] <= within_seconds:
            return f"the brokers do not take records of {self._refused[1]}; they are sent again"
        oldest = min(list(self._begun.values()), default=now)
        if _LONG_SECONDS < now - oldest <= self._answer_seconds:
            return "a broker does not answer yet to records that were sent"
        leaderless = self._leaderless()
        return None if leaderless is None else f"{leaderless} has no leader"

    def _leaderless(self) -> str | None:
        cluster = self._producer.client.cluster
        for tp in list(self._producer._message_accumulator._batches):
            if cluster.leader_for_partition(tp) in (None, -1):
                return f"{tp.topic}-{tp.partition}"
        return None
