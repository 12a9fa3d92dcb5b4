"""A lesson service whose replies come late, twice, or get lost: as the beginning of the idempotency key says.

`late-…`: the first reply after the caller's time-out; `twice-…`: each reply two times; `lost-…`: the first one never.
"""

import asyncio
from collections import Counter
from typing import Any

from emis_streams.services.kafka_carrier import Sender
from emis_streams.services.lessons import LessonService

LATE_SECONDS = 5.5
"""The caller gives up an attempt after 5."""


class MisbehavingSender(Sender):
    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self._seen: Counter[bytes] = Counter()

    async def send_and_wait(
        self, topic: str, key: bytes, value: bytes | None, headers: list[Any], partition: int | None = None
    ) -> None:
        how = key.partition(b"-")[0]
        self._seen[key] += 1
        is_first = self._seen[key] == 1
        if how == b"lost" and is_first:
            return
        if how == b"late" and is_first:
            await asyncio.sleep(LATE_SECONDS)
        await super().send_and_wait(topic, key, value, headers, partition)
        if how == b"twice":
            await super().send_and_wait(topic, key, value, headers, partition)


class MisbehavingLessons(LessonService):
    async def initialise_clients(self) -> None:
        self.requests._sender = MisbehavingSender(self.config.kafka_client())
        await self.requests._sender.start()
        await super().initialise_clients()
