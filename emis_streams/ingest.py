"""What the agents count, and what of a slice is refused: the parts of ingestion that all subjects share."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from emis_streams import invalid_records, topics
from emis_streams.app import App
from emis_streams.dead_letter_headers import as_dead_letter, headers_for
from emis_streams.engine.slices import Slice
from emis_streams.engine.writer import Writer
from emis_streams.events import CONTRACTS, Decoded, decode
from emis_streams.fold import Folded
from emis_streams.node import IngestStatus
from emis_streams.partitioner import ID_BYTES, partitions_of

_SAMPLED_RECORDS = 16


@dataclass
class Counters:
    events_total: int = 0
    superseded_total: int = 0
    clock_skew_total: int = 0
    refused_total: int = 0
    misplaced_total: int = 0
    unknown_fields_total: int = 0

    def count(self, batch: Slice, events: Decoded, folded: Folded) -> None:
        self.events_total += len(batch)
        self.superseded_total += folded.superseded
        self.clock_skew_total += folded.clock_skew
        self.refused_total += len(events.refused)
        self.unknown_fields_total += events.unknown_fields
        self.misplaced_total += misplaced(batch)


def misplaced(batch: Slice) -> int:
    """How many records are not in the partition of murmur2(key): their producer partitions otherwise.

    Some records of the slice are looked at, and all of them if one of those is misplaced: hashing every
    key would cost a twentieth of the throughput, to find nothing nearly always. Keys that are no ids are not looked at:
    their records are refused, and hashing a key of 1 MB takes a quarter of a second.
    """
    step = max(1, len(batch.records) // _SAMPLED_RECORDS)
    return _misplaced(batch, step) and _misplaced(batch, 1)


def _misplaced(batch: Slice, step: int) -> int:
    keys = [record.key for record in batch.records[::step] if record.key and len(record.key) == ID_BYTES]
    places = partitions_of(keys, topics.PARTITIONS) if keys else []
    return len(places) - places.count(batch.partition)


@dataclass
class Ingest:
    """The ingesting side of a worker, as its pages see it."""

    app: App
    max_event_ahead_seconds: int
    counters: Counters = field(default_factory=Counters)

    def decode(self, batch: Slice) -> Decoded:
        """What the slice says, by the contract of its topic."""
        return decode(
            CONTRACTS[batch.topic],
            batch.keys,
            batch.values,
            batch.timestamps_ms,
            self.max_event_ahead_seconds,
            offsets=batch.offsets,
        )

    def dead_letters(self, batch: Slice, events: Decoded) -> list["asyncio.Task[None]"]:
        """Sends the refused records to the dead-letter topic, as they came; one task for each."""
        return [self.dead_letter(batch, batch.records[place], str(reason)) for place, reason in events.refused]

    def dead_letter(self, batch: Slice, record: Any, reason: str) -> "asyncio.Task[None]":
        """Sends one record of the slice to the dead-letter topic; done when the brokers have it."""
        now_ms = time.time_ns() // 1_000_000
        ours = headers_for(batch.topic, batch.partition, record.offset, record.timestamp, reason, now_ms)
        writer: Writer = self.app.tables.writer
        return writer.send_record(topics.DEAD_LETTER, *as_dead_letter(record.key, record.value, record.headers, ours))

    def status(self) -> IngestStatus:
        consumer = self.app.slice_consumer
        assigned = frozenset((tp.topic, tp.partition) for tp in consumer.assignment())
        return IngestStatus(
            assigned=assigned,
            caught_up=self.app.tables.recovery.completed.is_set(),
            rebalancing=self.app.rebalancing,
            waits_for=self.app.tables.recovery.waits_for,
            events_total=self.counters.events_total,
            superseded_total=self.counters.superseded_total,
            clock_skew_total=self.counters.clock_skew_total,
            refused_total=self.counters.refused_total,
            misplaced_total=self.counters.misplaced_total,
            unknown_fields_total=self.counters.unknown_fields_total,
            set_by_others_total=consumer.set_by_others_total,
            lost_to_retention={(tp.topic, tp.partition): n for tp, n in consumer.lost_to_retention.items()},
            invalid_records=invalid_records.of_filter(self.app.tables.row_filter),
        )
