"""Reading what was there before a process started is no incident, for a bounded time. Pure rules."""

from emis_streams.lag_report import GroupLag

CATCH_UP_SECONDS = 300.0
"""After the start; what takes longer is told as a delay, whatever its cause."""


def is_from_before(age_seconds: float | None, uptime_seconds: float) -> bool:
    """Whether a record that waits was written before the start, and the start is not long ago."""
    return age_seconds is not None and uptime_seconds <= min(age_seconds, CATCH_UP_SECONDS)


def is_catching_up(group: GroupLag, uptime_seconds: float) -> bool:
    """Whether a group reads what was there before the start, and its lag shrinks or was not watched for long enough.

    False for a partition that stands still, was lost or grows: the state of a group is that of its worst partition.
    """
    moves = group.state == "CATCHING_UP" or group.reason_key == "trend_unknown"
    return moves and is_from_before(group.max_lag_seconds, uptime_seconds)
