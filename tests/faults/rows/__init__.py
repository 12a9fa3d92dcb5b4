"""The rows of the fault matrix, in the order in which they are run."""

from tests.faults.rows import workers

ALL = [*workers.ROWS]
