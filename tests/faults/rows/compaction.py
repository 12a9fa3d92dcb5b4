"""Compaction at once, of a topic that would be compacted in a day."""

import asyncio
from collections import Counter
from collections.abc import Mapping

from tests.faults.rows import told
from tests.faults.stage import Stage, until
from tests.integration.independent import records

_SOON = {"min.compaction.lag.ms": "0", "segment.ms": "500", "min.cleanable.dirty.ratio": "0.001"}
_SECONDS = 40.0


async def compacted(stage: Stage, topic: str) -> int:
    """Has what is in the topic now compacted, while it is written to; how many records went. Raises NotInTime."""
    was = await told.config_of(stage, topic)
    before = await asyncio.to_thread(_offsets, stage.brokers, topic)
    ends = {partition: max(offsets) for partition, offsets in before.items()}
    await told.configure(stage, [topic], _SOON)
    try:
        await until(lambda: _is_compact(stage.brokers, topic, ends), _SECONDS, f"{topic} is compacted", 0.5)
    finally:
        await told.configure(stage, [topic], {name: was.get(name) for name in _SOON})
    after = await asyncio.to_thread(_offsets, stage.brokers, topic)
    return sum(len(offsets - after.get(partition, set())) for partition, offsets in before.items())


async def _is_compact(brokers: str, topic: str, ends: Mapping[int, int]) -> bool:
    """Whether no key is there twice, of the records up to `ends`."""
    return await asyncio.to_thread(_most_of_a_key, brokers, topic, ends) <= 1


def _most_of_a_key(brokers: str, topic: str, ends: Mapping[int, int]) -> int:
    keys = Counter(m.key() for m in records(brokers, [topic]) if m.offset() <= ends.get(m.partition(), -1))
    return max(keys.values(), default=0)


def _offsets(brokers: str, topic: str) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for message in records(brokers, [topic]):
        found.setdefault(message.partition(), set()).add(message.offset())
    return found
