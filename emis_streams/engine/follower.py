"""One follower of changelogs: for taking over partitions, for the read model, for the replica."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiokafka import TopicPartition


@dataclass(frozen=True, slots=True)
class Position:
    """How far a sink has followed one partition."""

    next_offset: int
    topic_id: str
    """Id of the topic that the offset belongs to (a topic made anew has another one)."""


@dataclass(frozen=True, slots=True)
class ChangelogSlice:
    """Some consecutive records of one changelog partition, the highest version of each key."""

    tp: TopicPartition
    topic_id: str
    rows: dict[bytes, tuple[bytes, int]]
    """Row and record time (ms since 1970) by key; lower versions within the slice are left out."""
    next_offset: int
    n_records: int

    @property
    def position(self) -> Position:
        return Position(self.next_offset, self.topic_id)


class Sink(Protocol):
    """Where a follower writes. Rows and positions go together, or not at all."""

    async def positions(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        """Positions that are kept; partitions never followed are left out."""

    async def apply(self, slices: Sequence[ChangelogSlice]) -> None:
        """Keep the rows that win over what is kept, and the positions, in one batch."""

    async def reset(self, tp: TopicPartition) -> None:
        """The kept position is outside the log, or of another topic: forget it (and what hangs on it)."""
