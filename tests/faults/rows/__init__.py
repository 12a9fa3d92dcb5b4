"""The rows of the fault matrix, in the order in which they are run."""

from tests.faults.rows import database, workers

ALL = [*workers.ROWS, *database.ROWS]
