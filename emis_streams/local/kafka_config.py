"""`server.properties` of a local Kafka node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emis_streams.local.ports import HOST

LOGGING = Path(__file__).with_name("kafka-log4j2.properties")


@dataclass(frozen=True)
class Listener:
    """Where clients reach a broker as well: by another protocol, or through a proxy that is advertised in its place."""

    name: str
    port: int
    protocol: str = "PLAINTEXT"
    advertised_port: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where a node listens."""

    node_id: int
    broker_port: int
    controller_port: int
    host: str = HOST
    listeners: tuple[Listener, ...] = ()


def properties(
    own: Endpoint, cluster: Sequence[Endpoint], folder: Path, changes: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Settings of one node (names: Kafka's documentation, broker configs); `changes` come last."""
    replicas = str(len(cluster))
    min_in_sync = "2" if len(cluster) >= 3 else "1"
    broker, controller = f"{own.host}:{own.broker_port}", f"{own.host}:{own.controller_port}"
    more = own.listeners
    at = "".join(f",{o.name}://{own.host}:{o.port}" for o in more)
    advertised = "".join(f",{o.name}://{own.host}:{o.advertised_port or o.port}" for o in more)
    protocols = "".join(f",{o.name}:{o.protocol}" for o in more)
    return {
        "process.roles": "broker,controller",
        "node.id": str(own.node_id),
        "controller.quorum.voters": ",".join(f"{e.node_id}@{e.host}:{e.controller_port}" for e in cluster),
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}{at}",
        "advertised.listeners": f"PLAINTEXT://{broker}{advertised}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": min_in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": min_in_sync,
        # What follows is for one machine: few, small, quick to start and to rebalance.
        "num.partitions": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # A killed broker may come back only when its old session is over (9 s by default).
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
        "log.cleaner.dedupe.buffer.size": str(64 * 1024 * 1024),
        **(changes or {}),
    }


def write(
    path: Path,
    own: Endpoint,
    cluster: Sequence[Endpoint],
    folder: Path,
    changes: Mapping[str, str] | None = None,
) -> None:
    """Write the file that the node is started with."""
    settings = properties(own, cluster, folder, changes)
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
