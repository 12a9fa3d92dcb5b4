"""The rows of the fault matrix, in the order in which they are run."""

from tests.faults.rows import brokers, database, events, workers

ALL = [*workers.ROWS, *brokers.ROWS, *database.ROWS, *events.ROWS]
