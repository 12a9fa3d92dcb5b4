"""What processes wrote into their logs since a row began."""

from collections.abc import Iterable, Sequence

from tests.faults.stage import FaultWorker


class NewLines:
    """Of these workers, from now on."""

    def __init__(self, workers: Iterable[FaultWorker]) -> None:
        self._from = [(worker, len(worker.log())) for worker in workers]

    def with_any(self, texts: Sequence[str]) -> list[str]:
        """The lines that contain one of the texts."""
        return [
            line
            for worker, begin in self._from
            for line in worker.log()[begin:].splitlines()
            if any(text in line for text in texts)
        ]
