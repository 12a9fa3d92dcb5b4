"""The rows of the fault matrix, in the order in which they are run."""

from tests.faults.rows import (
    brokers,
    clocks,
    database,
    events,
    hostile,
    late_created,
    outbox,
    random_faults,
    state,
    topics,
    upgrade,
    workers,
)

_EVERYTHING = ("28", "28a", "28c", "40")
"""Of these all that was ever sent is sent or read again, so they come while that is little."""

_BY_SUBJECT = [
    *workers.ROWS,
    *brokers.ROWS,
    *database.ROWS,
    *state.ROWS,
    *events.ROWS,
    *clocks.ROWS,
    *late_created.ROWS,
    *topics.ROWS,
    *upgrade.ROWS,
    *outbox.ROWS,
    *hostile.ROWS,
    *random_faults.ROWS,
]
ALL = sorted(_BY_SUBJECT, key=lambda row: row.id not in _EVERYTHING)
