"""The replies to one process: it reads one partition of its reply topic, without a group, from where that ends now.

Who asks first waits until that end is known (`positioned`), so that no reply comes before anybody looks. A correlation
id is the process's own prefix and a number: so a reply that nobody waits for can be told apart.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from emis_streams.engine.patience import Waiting
from emis_streams.engine.progress import Progress
from emis_streams.engine.throttled_log import ThrottledLog
from emis_streams.services import messages, one_partition
from emis_streams.services.errors import NotSent
from emis_streams.services.messages import RawHeader, ReplyTo

logger = logging.getLogger(__name__)

Reply = tuple[Sequence[RawHeader], bytes | None]

_PREFIX_BYTES = 8
_NUMBER_BYTES = 8
_ID_BYTES = _PREFIX_BYTES + _NUMBER_BYTES
_MOST_PENDING = 10_000
_REMEMBERED = 10_000
"""Requests that nobody waits for any more, whose replies are known as late ones."""


@dataclass
class Counts:
    """Of replies, since the start."""

    in_time: int = 0
    late: int = 0
    """The one who asked had stopped waiting."""
    duplicate: int = 0
    """There was one before."""
    unknown: int = 0
    """Not to a request of this process: of the one that had the partition before, or of nobody's."""


@dataclass(frozen=True)
class Pending:
    """A request whose reply is waited for."""

    service: str
    pattern: str
    since: float
    """Monotonic, in seconds."""
    reply: "asyncio.Future[Reply]" = field(repr=False)


class Replies:
    """`run` reads them until cancelled; `expecting` is around one request."""

    def __init__(self, client: Mapping[str, Any], reply_to: ReplyTo) -> None:
        """`client`: arguments of every Kafka client."""
        self.reply_to = reply_to
        self.counts = Counts()
        self.positioned = asyncio.Event()
        self._client = client
        self._prefix = os.urandom(_PREFIX_BYTES)
        self._next_number = 0
        self._pending: dict[int, Pending] = {}
        self._given_up: set[int] = set()
        self._given_up_in_order: deque[int] = deque()
        self._waiting = Waiting(lambda text: logger.warning("replies: %s", text))
        self._left_out = ThrottledLog(logger)
        self.progress = Progress("reading replies")

    def standstill(self, now: float, limit_seconds: float) -> str | None:
        """Why nothing is read for longer than the limit, by a monotonic time; None: it is, or is waited for."""
        return None if self._waiting.reason is not None else self.progress.standstill(now, limit_seconds)

    @property
    def waiting_for(self) -> str | None:
        """What cannot be reached now; None if nothing is waited for."""
        return self._waiting.reason

    def pending(self) -> list[Pending]:
        """The oldest first."""
        return list(self._pending.values())

    async def run(self) -> None:
        """Raises only what no waiting mends."""
        await one_partition.read(
            self._client,
            TopicPartition(self.reply_to.topic, self.reply_to.partition),
            lambda record: self.take(record.headers, record.value),
            self._waiting,
            self.positioned.set,
            self.progress,
            from_start=False,
            way_out=(
                ": set REPLY_PARTITION to a lower number, from 0, that no other instance has, or widen the topic "
                f"(kafka-topics.sh --alter --topic {self.reply_to.topic} --partitions {self.reply_to.partition + 1})"
            ),
        )

    @contextmanager
    def expecting(self, service: str, pattern: str) -> Iterator[tuple[bytes, "asyncio.Future[Reply]"]]:
        """The correlation id of a request, and its reply to come; at the end of the block nobody waits any more.

        Raises NotSent while too many are waited for.
        """
        if len(self._pending) >= _MOST_PENDING:
            raise NotSent(f"{_MOST_PENDING} requests wait for their replies already")
        number = self._next_number
        self._next_number += 1
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[number] = Pending(service, pattern, time.monotonic(), reply)
        try:
            yield self._prefix + number.to_bytes(_NUMBER_BYTES, "big"), reply
        finally:
            if self._pending.pop(number, None) is not None:
                reply.cancel()
                self._give_up(number)

    def take(self, headers: Sequence[RawHeader], value: bytes | None) -> None:
        """A record of the partition, which is a reply only if it says so: anybody may write there."""
        number = self._number_of(messages.correlation_id_of(headers))
        if number is None:
            self.counts.unknown += 1
            self._left_out.warning("replies: left out one that answers no request of this process")
        elif (pending := self._pending.get(number)) is not None and not pending.reply.done():
            del self._pending[number]
            self.counts.in_time += 1
            pending.reply.set_result((headers, value))
        elif number in self._given_up:
            self._given_up.discard(number)
            self.counts.late += 1
        else:
            self.counts.duplicate += 1

    def _number_of(self, correlation_id: bytes | None) -> int | None:
        """None unless this process has given it to a request."""
        if correlation_id is None or not correlation_id.startswith(self._prefix) or len(correlation_id) != _ID_BYTES:
            return None
        number = int.from_bytes(correlation_id[_PREFIX_BYTES:], "big")
        return number if number < self._next_number else None

    def _give_up(self, number: int) -> None:
        self._given_up.add(number)
        self._given_up_in_order.append(number)
        if len(self._given_up_in_order) > _REMEMBERED:
            self._given_up.discard(self._given_up_in_order.popleft())
