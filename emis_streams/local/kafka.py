"""A Kafka cluster of one or three nodes in KRaft mode, as plain Java processes (each broker and controller)."""

import asyncio
import base64
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from emis_streams.local import kafka_config, kafka_jars
from emis_streams.local.errors import LocalStackError
from emis_streams.local.kafka_config import Endpoint, Listener
from emis_streams.local.ports import free_port, is_answering, is_free, reserve
from emis_streams.local.process import Child, end_leftover

_START_TIMEOUT_SECONDS = 90.0
_STOP_TIMEOUT_SECONDS = 15.0
_POLL_SECONDS = 0.1

QUICK_TO_START = ("-XX:TieredStopAtLevel=1",)
"""JVM options of brokers that do not run for long: code is compiled once and not well, for two thirds of the work."""


class KafkaNode:
    """One broker-and-controller; its data and logs are in a folder of its own."""

    def __init__(
        self,
        endpoint: Endpoint,
        cluster: Sequence[Endpoint],
        folder: Path,
        jvm_options: Sequence[str],
        changes: Mapping[str, str],
    ) -> None:
        self.endpoint = endpoint
        self.folder = folder
        self._changes = changes
        self._properties = folder / "server.properties"
        self._cluster = cluster
        self._jvm_options = jvm_options
        self.process = Child(f"kafka-{endpoint.node_id}", self._command(), folder)

    def check_port(self) -> None:
        """Raises LocalStackError when something else listens there (a left-over of this node is ended)."""
        end_leftover(self.process.pid_path)
        if not is_free(self.endpoint.broker_port):
            raise LocalStackError(
                f"port {self.endpoint.broker_port} is in use by another program: Kafka needs it (KAFKA_BROKERS)"
            )

    def begin_format(self, cluster_id: str) -> "subprocess.Popen[bytes] | None":
        """Start formatting the storage, unless that was done; `end_format` waits for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kafka_config.write(self._properties, self.endpoint, self._cluster, self.folder, self._changes)
        if (self.folder / "formatted").exists():
            return None
        shutil.rmtree(self.folder / "data", ignore_errors=True)  # what an interrupted formatting left
        java = ["java", "-Xmx128m", *QUICK_TO_START, "-cp", kafka_jars.classpath()]
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._properties)]
        return subprocess.Popen([*java, *tool], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def end_format(self, formatting: "subprocess.Popen[bytes] | None") -> None:
        """Raises LocalStackError with what the tool said."""
        if formatting is None:
            return
        output = formatting.communicate(timeout=_START_TIMEOUT_SECONDS)[0].decode(errors="replace")
        if formatting.returncode != 0:
            raise LocalStackError(f"Kafka's storage in {self.folder} could not be formatted:\n{output[-2000:]}")
        (self.folder / "formatted").touch()

    def _command(self) -> list[str]:
        return [
            "java",
            *self._jvm_options,
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dkafka.logs.dir={self.folder}",
            f"-Dlog4j2.configurationFile={kafka_config.LOGGING}",
            "-cp",
            kafka_jars.classpath(),
            "kafka.Kafka",
            str(self._properties),
        ]


class KafkaCluster:
    """One node (replication 1) or three (replication 3, min ISR 2). Data in the folder is kept between runs.

    `ports`: the brokers' ports, one per node; free ones by default. Controllers get free ports of their own.
    `listeners`: further ones, a sequence per node. `changes`: broker settings, over those of `kafka_config`.
    `jvm_options`: beside the heap's size.
    """

    def __init__(
        self,
        folder: Path,
        *,
        n_nodes: int = 1,
        ports: Sequence[int] | None = None,
        heap_mb: int = 512,
        listeners: Sequence[Sequence[Listener]] | None = None,
        changes: Mapping[str, str] | None = None,
        jvm_options: Sequence[str] = (),
    ) -> None:
        if ports is not None and len(ports) != n_nodes:
            raise ValueError(f"{n_nodes} nodes need {n_nodes} ports, not {len(ports)}")
        self.folder = folder.absolute()
        reserve(*ports or ())
        broker_ports = ports or [free_port() for _ in range(n_nodes)]
        more = listeners or [()] * n_nodes
        endpoints = [
            Endpoint(i + 1, port, free_port(), listeners=tuple(own))
            for i, (port, own) in enumerate(zip(broker_ports, more, strict=True))
        ]
        java = [f"-Xmx{heap_mb}m", *jvm_options]
        self.nodes = [
            KafkaNode(e, endpoints, self.folder / f"kafka-{e.node_id}", java, changes or {}) for e in endpoints
        ]

    @property
    def bootstrap(self) -> str:
        """What clients are given."""
        return ",".join(f"{node.endpoint.host}:{node.endpoint.broker_port}" for node in self.nodes)

    @property
    def replication_factor(self) -> int:
        return len(self.nodes)

    @property
    def min_insync_replicas(self) -> int:
        return 2 if len(self.nodes) >= 3 else 1

    def start(self) -> None:
        """Format if new, start, and wait until every broker answers; raises LocalStackError with the log's end."""
        self.spawn()
        self.wait_until_ready()

    def spawn(self) -> None:
        """Start the processes that do not run, without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cluster_id = self._cluster_id()
        stopped = [node for node in self.nodes if not node.process.running]
        for node in stopped:
            node.check_port()
        formatting = [(node, node.begin_format(cluster_id)) for node in stopped]
        for node, process in formatting:
            node.end_format(process)
            node.process.start()

    def wait_until_ready(self, timeout_seconds: float = _START_TIMEOUT_SECONDS) -> None:
        """Until all brokers are in the cluster; raises LocalStackError. Blocks, also a running event loop."""
        deadline = time.monotonic() + timeout_seconds
        for node in self.nodes:
            while not is_answering(node.endpoint.broker_port):
                self._check_alive(deadline)
                time.sleep(_POLL_SECONDS)
        with ThreadPoolExecutor(1) as thread:  # the caller's thread may have a running loop
            while thread.submit(asyncio.run, self._n_brokers()).result() < len(self.nodes):
                self._check_alive(deadline)
                time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """All nodes together; SIGKILL for what has not ended in time. Acknowledged records stay."""
        for node in self.nodes:
            if node.process.running:
                node.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        for node in self.nodes:
            node.process.wait(max(0.0, deadline - time.monotonic()))
            node.process.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _check_alive(self, deadline: float) -> None:
        for node in self.nodes:
            if not node.process.running:
                code, tail = node.process.returncode, node.process.log_tail()
                raise LocalStackError(f"Kafka node {node.endpoint.node_id} ended with {code}; its log ends:\n{tail}")
        if time.monotonic() > deadline:
            raise LocalStackError(f"Kafka does not answer on {self.bootstrap}; see the logs in {self.folder}")

    async def _n_brokers(self) -> int:
        """How many brokers are in the cluster now; 0 while it does not answer."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=2_000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
        except KafkaError:
            return 0
        finally:
            await admin.close()
        if cluster["cluster_id"] != self._cluster_id():
            raise LocalStackError(f"another Kafka cluster answers on {self.bootstrap}")
        return len(cluster["brokers"])

    def _cluster_id(self) -> str:
        """Made once per folder, so that all nodes have the same."""
        path = self.folder / "cluster-id"
        if not path.exists():
            fresh = path.with_suffix(".new")
            # Kafka's tools take an id that begins with "-" for an option.
            fresh.write_text("E" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:])
            fresh.replace(path)
        return path.read_text()
