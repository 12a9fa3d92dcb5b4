"""Transactions that do not end, and hold every reader of committed records at the last stable offset."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

NAMED_AFTER_SECONDS = 10.0
"""Every transaction holds its readers for a moment: only one that lasts is named."""


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A partition whose last stable offset stays behind its end."""

    tp: TopicPartition
    stable_offset: int
    end_offset: int
    """The high watermark."""
    seconds: float
    """For how long it has been seen so, at least."""

    def in_words(self) -> str:
        return (
            f"an open transaction has held the last stable offset of {self.tp.topic}-{self.tp.partition} at "
            f"{self.stable_offset} (high watermark {self.end_offset}) for at least {self.seconds:.0f} s: "
            "no reader gets past it until its producer commits or aborts"
        )


class OpenTransactions:
    """Since when partitions have been seen with an open transaction."""

    def __init__(self) -> None:
        self._held: dict[TopicPartition, tuple[int, int, float]] = {}

    def note(self, offsets: Mapping[TopicPartition, tuple[int, int]], now: float) -> None:
        """Last stable offset and high watermark, at a monotonic time. Partitions that are left out are forgotten."""
        self._held = {
            tp: (stable, end, self._since(tp, stable, now)) for tp, (stable, end) in offsets.items() if stable < end
        }

    def _since(self, tp: TopicPartition, stable: int, now: float) -> float:
        before = self._held.get(tp)
        return before[2] if before is not None and before[0] == stable else now

    def all(self, now: float) -> list[OpenTransaction]:
        """Also those of a moment; the longest first."""
        found = [OpenTransaction(tp, stable, end, now - since) for tp, (stable, end, since) in self._held.items()]
        return sorted(found, key=lambda one: -one.seconds)

    def longest(self, now: float) -> OpenTransaction | None:
        """The one that has lasted longest, if it has lasted long enough to be named."""
        return next((one for one in self.all(now) if one.seconds >= NAMED_AFTER_SECONDS), None)


def holding(
    consumer: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]
) -> dict[TopicPartition, tuple[int, int]]:
    """Last stable offset and high watermark where the reader has read all that is stable, by its fetches' answers.

    Partitions of which no fetch was answered yet are left out.
    """
    found = {}
    for tp, position in positions.items():
        stable, end = consumer.last_stable_offset(tp), consumer.highwater(tp)
        if stable is not None and end is not None and position >= stable:
            found[tp] = (stable, end)
    return found
