"""Compaction at once, of a topic that would be compacted in a day."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

from tests.faults.rows import told
from tests.faults.stage import Stage, until
from tests.integration.independent import records

_SOON = {"min.compaction.lag.ms": "0", "segment.ms": "500", "min.cleanable.dirty.ratio": "0.001"}
_SECONDS = 60.0
_SELDOM_SECONDS = 25.0
"""Only what is written next closes a segment: a partition to which nothing came for so long is left as it is."""


async def compacted(stage: Stage, topic: str) -> int:
    """Has what is in the topic now compacted, while it is written to; how many records went. Raises NotInTime."""
    was = await told.config_of(stage, topic)
    before = await asyncio.to_thread(_offsets, stage.brokers, topic)
    ends = {partition: max(offsets) for partition, offsets in before.items()}
    await told.configure(stage, [topic], _SOON)
    began = time.monotonic()

    async def is_compact() -> bool:
        twice, written = await asyncio.to_thread(_partitions, stage.brokers, topic, ends)
        return not (twice if time.monotonic() - began < _SELDOM_SECONDS else twice & written)

    try:
        await until(is_compact, _SECONDS, f"{topic} is compacted", 0.5)
    finally:
        await told.configure(stage, [topic], {name: was.get(name) for name in _SOON})
    after = await asyncio.to_thread(_offsets, stage.brokers, topic)
    return sum(len(offsets - after.get(partition, set())) for partition, offsets in before.items())


def _partitions(brokers: str, topic: str, ends: Mapping[int, int]) -> tuple[set[int], set[int]]:
    """Those in which a key is there twice up to `ends`, and those with records after."""
    n_of_key: Counter[tuple[int, bytes | None]] = Counter()
    written: set[int] = set()
    for message in records(brokers, [topic]):
        partition = message.partition()
        if message.offset() <= ends.get(partition, -1):
            n_of_key[partition, message.key()] += 1
        else:
            written.add(partition)
    return {partition for (partition, _), n in n_of_key.items() if n > 1}, written


def _offsets(brokers: str, topic: str) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for message in records(brokers, [topic]):
        found.setdefault(message.partition(), set()).add(message.offset())
    return found
