"""How far a follower of changelogs is behind: its position lies with its data, not with the brokers."""

from collections.abc import Callable

from aiokafka import TopicPartition

from emis_streams import lag_rules
from emis_streams.lag_measurement import Measurement, Watched
from emis_streams.lag_report import FollowerLag, FollowerPartition
from emis_streams.lag_watch import Watch
from emis_streams.node import FollowerStatus

RecordAge = Callable[[TopicPartition, int], float | None]
"""Seconds since the record at an offset was written; None if not known."""


def changelog_partitions(m: Measurement, watched: Watched) -> list[TopicPartition]:
    return sorted(tp for tp in m.ends if tp.topic in watched.changelogs)


def position_of(status: FollowerStatus, tp: TopicPartition, m: Measurement) -> int:
    """The next offset that it will follow; what left the log cannot be waited for."""
    return max(status.positions.get((tp.topic, tp.partition), 0), m.earliest[tp])


def follower_lag(
    status: FollowerStatus, m: Measurement, watched: Watched, watch: Watch, record_age: RecordAge
) -> FollowerLag:
    """Of all partitions of the changelogs, whether it has a position there or not."""
    held = status.open_transaction
    partitions = tuple(_partition(status, tp, m, watch, record_age) for tp in changelog_partitions(m, watched))
    return FollowerLag(
        name=status.name,
        caught_up=status.caught_up,
        records_total=status.records_total,
        waiting_for=status.waiting_for,
        open_transaction=None if held is None else lag_rules.open_transaction(held),
        total_lag=sum(p.lag for p in partitions),
        delay_seconds=lag_rules.total_delay(p.delay_seconds for p in partitions) if partitions else None,
        partitions=partitions,
    )


def _partition(
    status: FollowerStatus, tp: TopicPartition, m: Measurement, watch: Watch, record_age: RecordAge
) -> FollowerPartition:
    end, start = m.ends[tp], position_of(status, tp, m)
    delay = 0.0 if start >= end else watch.delay(tp, start, m.at)
    return FollowerPartition(
        topic=tp.topic,
        partition=tp.partition,
        position=status.positions.get((tp.topic, tp.partition)),
        end_offset=end,
        lag=max(0, end - start),
        delay_seconds=delay if delay is not None else record_age(tp, start),
    )
