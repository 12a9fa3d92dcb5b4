"""The rows of the fault matrix, in the order in which they are run."""

from tests.faults.rows import brokers, database, events, random_faults, state, topics, upgrade, workers

ALL = [
    *workers.ROWS,
    *brokers.ROWS,
    *database.ROWS,
    *state.ROWS,
    *events.ROWS,
    *topics.ROWS,
    *upgrade.ROWS,
    *random_faults.ROWS,
]
