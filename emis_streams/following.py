"""The followers of a worker: what they write to, what is measured of them, how pages see them."""

import time
from collections.abc import Iterable, Sequence

from aiokafka import TopicPartition

from emis_streams import invalid_records, rows, topics
from emis_streams.broker_clock import BrokerClock
from emis_streams.changelog_rows import row_filter
from emis_streams.dead_letter_headers import as_dead_letter, headers_for
from emis_streams.engine.follower import ChangelogSlice, Follower, Position, Sink
from emis_streams.engine.home import Home
from emis_streams.engine.writer import Writer
from emis_streams.errors import Unavailable
from emis_streams.node import FollowerStatus
from emis_streams.read_model.local_copy import LocalCopy
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.replica import writer as replica_writer
from emis_streams.replica.writer import ReplicaSink
from emis_streams.settings import Settings
from emis_streams.sync_latency import SyncLatency
from emis_streams.topics import Subject

_SCHEMA_SECONDS = 3_600.0
"""Of a sink that changes its schema or makes indexes before it tells its positions."""
_SLOW_SINK_SECONDS = 10.0
"""A sink that has not answered for so long is shown as one that is waited for."""

READ_MODEL = "read-model"
REPLICA = "replica"

CHANGELOGS = [subject.changelog for subject in topics.SUBJECTS]


class Observed:
    """A sink that measures how long events took until they were visible in it."""

    def __init__(self, sink: Sink, latency: SyncLatency, clock: BrokerClock) -> None:
        self._sink = sink
        self._latency = latency
        self._clock = clock

    async def positions(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        return await self._sink.positions(tps)

    async def reset(self, tp: TopicPartition) -> None:
        await self._sink.reset(tp)

    async def apply(self, slices: Sequence[ChangelogSlice]) -> None:
        await self._sink.apply(slices)
        times_us = [int.from_bytes(row[:8], "big") for part in slices for row, _ in part.rows.values()]
        self._latency.observe(times_us, self._clock.unix_seconds(), time.monotonic())


def read_model_follower(
    config: Settings,
    model: LocalCopy,
    latency: SyncLatency,
    clock: BrokerClock,
    subjects: Sequence[Subject] = topics.SUBJECTS,
) -> Follower:
    """Follows every partition of the subjects' changelogs into the local copy."""
    return Follower(
        name=f"{topics.app_id(subjects[0].service)}-{READ_MODEL}",
        client=config.kafka_client(),
        sink=Observed(ReadModelSink(model), latency, clock),
        merge=rows.merged,
        row_filter=row_filter(),
        partitions=[TopicPartition(s.changelog, n) for s in subjects for n in range(topics.PARTITIONS)],
        check_cluster=Home(config.data_path).check,
        on_level=model.note_caught_up,
        sink_positions_seconds=_SCHEMA_SECONDS,
        linger_seconds=config.linger_seconds,
    )


def replica_follower(config: Settings, sink: ReplicaSink, latency: SyncLatency, clock: BrokerClock) -> Follower:
    """Follows this worker's share of the changelogs into the database."""
    return Follower(
        name=topics.REPLICA_GROUP,
        client={"client_id": config.instance, **config.kafka_client()},
        sink=Observed(sink, latency, clock),
        merge=rows.merged,
        row_filter=row_filter(),
        topics=CHANGELOGS,
        group=topics.REPLICA_GROUP,
        wait_for=(Unavailable,),
        check_cluster=Home(config.data_path).check,
        sink_apply_seconds=replica_writer.TIMEOUT_SECONDS,
        sink_positions_seconds=_SCHEMA_SECONDS,
        slice_records=config.replica_batch_rows,
        linger_seconds=config.linger_seconds,
    )


class RefusedRows:
    """Rows that the database refuses for good: to the dead letters, with the changelog as their origin."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def __call__(self, tp: TopicPartition, key: bytes, row: bytes, reason: str) -> None:
        if not self._writer.is_started:
            await self._writer.start()
        now_ms = time.time_ns() // 1_000_000
        # The offset within the changelog is not known: it was read as one of a slice.
        ours = headers_for(tp.topic, tp.partition, -1, now_ms, f"replica: {reason}", now_ms)
        await self._writer.send_record(topics.DEAD_LETTER, *as_dead_letter(key, row, [], ours))


class FollowerView:
    """A follower as the pages see it."""

    def __init__(self, name: str, follower: Follower, watchdog_timeout_seconds: float) -> None:
        self._name = name
        self._follower = follower
        self._slow_seconds = min(_SLOW_SINK_SECONDS, watchdog_timeout_seconds / 2)

    def _waiting_for(self) -> str | None:
        if self._follower.waiting_for is not None:
            return self._follower.waiting_for
        seconds = self._follower.sink_unanswered_seconds(time.monotonic())
        return f"it has not answered for {seconds:.0f} s" if seconds > self._slow_seconds else None

    def status(self) -> FollowerStatus:
        return FollowerStatus(
            name=self._name,
            caught_up=self._follower.caught_up,
            positions={(tp.topic, tp.partition): at for tp, at in self._follower.next_offsets.items()},
            records_total=self._follower.records_total,
            waiting_for=self._waiting_for(),
            invalid_records=invalid_records.of_filter(self._follower.row_filter),
            open_transaction=self._follower.open_transaction,
            idle_seconds=time.monotonic() - self._follower.last_progress,
        )
