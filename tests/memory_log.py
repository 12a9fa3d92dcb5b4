"""Changelogs in memory, as far as a follower looks at the brokers' own: tests/integration compares the two."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from emis_streams.engine.fetch import Fetched


class Written(NamedTuple):
    """A record of a changelog."""

    offset: int
    key: bytes
    value: bytes | None

    @property
    def timestamp(self) -> int:
        """So that every record has a time of its own."""
        return 1_000_000 + self.offset


class Log:
    """A changelog partition as brokers keep it."""

    def __init__(self, topic_id: str) -> None:
        self.topic_id = topic_id
        self.start = self.end = 0
        self.records: list[Written] = []

    def append(self, key: bytes, value: bytes | None) -> None:
        self.records.append(Written(self.end, key, value))
        self.end += 1

    def compact(self, before: int) -> None:
        """Of the records before that offset only the last of each key is left; offsets and ends stay."""
        last = {record.key: record.offset for record in self.records if record.offset < before}
        self.records = [r for r in self.records if r.offset >= before or last[r.key] == r.offset]

    def truncate(self, start: int) -> None:
        self.start = max(self.start, min(start, self.end))
        self.records = [record for record in self.records if record.offset >= self.start]

    def fetch(self, tp: TopicPartition, at: int, n: int) -> Fetched:
        found = [record for record in self.records if record.offset >= at][:n]
        is_last = not found or found[-1] is self.records[-1]
        return Fetched(tp, at, self.end if is_last else found[-1].offset + 1, list(found))


class Brokers:
    """What a follower asks of its consumer before it fetches."""

    def __init__(self, logs: dict[TopicPartition, Log]) -> None:
        self.logs = logs
        self._client = self

    def get_random_node(self) -> int:
        return 0

    async def send(self, _node: int, _request: Any) -> Any:
        found = {tp.topic: bytes.fromhex(log.topic_id) for tp, log in self.logs.items()}
        partitions = {
            name: [(0, tp.partition, 0, 0, [0], [0], [], {}) for tp in self.logs if tp.topic == name] for name in found
        }
        topics = [(0, name, at, False, partitions[name]) for name, at in found.items()]
        return SimpleNamespace(cluster_id="in memory", topics=topics)

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.logs[tp].start for tp in tps}

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.logs[tp].end for tp in tps}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        assert self.logs[tp].start <= offset <= self.logs[tp].end
