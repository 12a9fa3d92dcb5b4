"""Who takes part: how each is started, and where its offsets and its changelog are found."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import peers
from emis_streams import topics
from emis_streams.local.ports import free_port

HERE = Path(__file__).parent
COMMIT_SECONDS = 1.0
"""How often a peer commits: the same for all, so that the same amount would be repeated after a crash."""


def _same(key: bytes) -> bytes:
    return key


@dataclass(frozen=True)
class Contender:
    """One way to do the work."""

    name: str
    label: str
    group: str
    changelog: str
    """The topic's name, or how it begins."""
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    class_id_of: Callable[[bytes], bytes] = _same
    is_slow: bool = False
    """It gets less time than the whole backlog would need."""
    is_beside: bool = False
    """Shown beside the others: it takes part in the first round only."""
    rounds_with_rebuild: int = 1_000
    """In that many rounds its lost table is built again."""

    def process_environment(self, bootstrap: str, state: Path) -> dict[str, str]:
        return {
            "DATABASE_URL": f"sqlite:///{state / 'replica.db'}",
            "KAFKA_BROKERS": bootstrap,
            "DATA_DIR": str(state),
            "GROUP": self.group,
            "COMMIT_SECONDS": str(COMMIT_SECONDS),
            **self.environment,
        }


def ours(name: str, label: str, roles: str, processes: int = 1, is_beside: bool = False) -> Contender:
    """This project's worker with the given roles."""
    return Contender(
        name,
        label,
        topics.APP_ID,
        topics.CLASSES.changelog,
        (str(Path(sys.executable).with_name("emis-streams")), "worker", "--processes", str(processes)),
        {
            "ROLES": roles,
            "PORT": str(free_port()),
            "REPLICATION_FACTOR": "1",
            "MIN_INSYNC_REPLICAS": "1",
            "LOG_LEVEL": "warning",
        },
        is_beside=is_beside,
        rounds_with_rebuild=0 if is_beside else 1_000,
    )


def kafka_streams(threads: int) -> Contender:
    group = f"bench-kafka-streams-{threads}"
    return Contender(
        f"kafka-streams-{threads}",
        f"Kafka Streams 4.1.1, {threads} thread{'s' if threads > 1 else ''}",
        group,
        f"{group}-classes-changelog",
        peers.kafka_streams_command(),
        {"THREADS": str(threads)},
        is_beside=threads == 1,
        rounds_with_rebuild=0 if threads == 1 else 1_000,
    )


def all_contenders() -> list[Contender]:
    """In the order in which they run."""
    return [
        ours("ours", "emis-streams, ROLES=ingest", "ingest"),
        ours("ours-2", "emis-streams, ROLES=ingest, 2 processes", "ingest", processes=2),
        Contender(
            "faust",
            "stock Faust 0.15.3, tuned",
            "bench-faust",
            "bench-faust-classes-changelog",
            (
                *(sys.executable, "-m", "benchmarks.stock_faust", "-L", "uvloop"),
                *("worker", "--loglevel=warn", "--without-web"),
            ),
            is_slow=True,
        ),
        kafka_streams(2),
        Contender(
            "quix",
            "Quix Streams 3.28.1",
            "bench-quix",
            "changelog__bench-quix--",
            (str(peers.PYTHON), str(HERE / "quix_streams.py")),
            {"QUIX_TIME_ALIGNMENT": "0"},
            class_id_of=lambda key: key[:36],
            rounds_with_rebuild=1,
        ),
        kafka_streams(1),
        ours("ours-all", "emis-streams, all roles in one process", "ingest,replicate,serve", is_beside=True),
    ]
