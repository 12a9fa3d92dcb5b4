"""Which cluster a folder of databases belongs to: rows of one must not get into the changelogs of another."""

from pathlib import Path

from emis_streams.engine.database_errors import OtherCluster, told
from emis_streams.engine.hints import Hint, hint


class Home:
    """A worker's folder. It belongs to the cluster that it is first filled from (decision 0014)."""

    def __init__(self, folder: Path) -> None:
        self._note = folder / "cluster-id"
        self._known: str | None = None

    def check(self, cluster_id: str) -> None:
        """Raises OtherCluster if what is here is of another one, Unusable if the folder cannot be read or written."""
        try:
            self._known = self._known or self._noted() or self._note_down(cluster_id)
        except OSError as error:
            raise told(self._note, error) from error
        if self._known != cluster_id:
            raise OtherCluster(
                f"{self._note.parent} belongs to the Kafka cluster {self._known}, and the brokers to {cluster_id}: "
                f"{hint(Hint.OTHER_CLUSTER)}, or delete {self._note} to bring its rows into this cluster"
            )

    def _noted(self) -> str | None:
        return self._note.read_text() if self._note.exists() else None

    def _note_down(self, cluster_id: str) -> str:
        self._note.parent.mkdir(parents=True, exist_ok=True)
        begun = self._note.with_suffix(".begun")
        begun.write_text(cluster_id)
        begun.replace(self._note)
        return cluster_id
