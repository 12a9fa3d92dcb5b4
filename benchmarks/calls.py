"""Round trips of calls over Kafka between two processes, ours beside NestJS's transport and bare aiokafka.

The same in each: one broker, 10 partitions for requests, so many calls at once from one process to another, JSON with a
number in it, its square back. They take turns; each turn has processes of its own.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.pages import percentile
from benchmarks.watching import median
from emis_streams.local import KafkaCluster, free_port
from emis_streams.local.readiness import is_ready
from emis_streams.topics import DEAD_LETTER, REGISTRY, call_topics, reply_topic

ROOT = Path(__file__).parents[1]
NESTJS = ROOT / "build" / "nestjs"
_READY_SECONDS = 60.0
N_PARTITIONS = 10

Say = Callable[[str], None]


@dataclass(frozen=True)
class Peer:
    name: str
    server: Sequence[str]
    """Command, to which the broker's address is added."""
    client: Sequence[str]
    topics: Sequence[str]
    environment: dict[str, str]
    prints_ready: bool = True
    """Else it is ready when /readyz says so."""


@dataclass(frozen=True)
class Turn:
    """What one turn of a peer showed."""

    peer: str
    calls_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    server_us: float
    """Processor time of each call."""
    broker_us: float


def peers() -> list[Peer]:
    python = [sys.executable, "-P", "-m"]
    port = str(free_port())
    ours = {"PORT": port, "REPLICATION_FACTOR": "1", "MIN_INSYNC_REPLICAS": "1", "SESSION_TIMEOUT_SECONDS": "10"}
    return [
        Peer(
            "EMIS Streams",
            [*python, "emis_streams", "run", "benchmarks.calls_ours:SquareService"],
            [*python, "benchmarks.calls_ours"],
            (*(topic.name for topic in call_topics("squares")), reply_topic("asker"), REGISTRY, DEAD_LETTER),
            {**ours, "PYTHONPATH": str(ROOT)},
            prints_ready=False,
        ),
        Peer(
            "NestJS",
            ["node", "server.js"],
            ["node", "client.js"],
            ("nestjs.square", "nestjs.square.reply"),
            {},
        ),
        Peer(
            "bare aiokafka",
            [*python, "benchmarks.calls_bare", "serve"],
            [*python, "benchmarks.calls_bare", "ask"],
            ("bare.requests", "bare.replies"),
            {"PYTHONPATH": str(ROOT)},
        ),
    ]


def install_nestjs(say: Say) -> None:
    """Into build/, as package-lock.json has it."""
    NESTJS.mkdir(parents=True, exist_ok=True)
    for file in (ROOT / "benchmarks" / "nestjs").iterdir():
        (NESTJS / file.name).write_bytes(file.read_bytes())
    lock, installed = NESTJS / "package-lock.json", NESTJS / "node_modules" / ".installed"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        say("NestJS by npm, once")
        command = ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=NESTJS, check=True)
        installed.write_bytes(lock.read_bytes())


def run(seconds: float, repeats: int, concurrency: int, say: Say) -> list[Turn]:
    """All peers, in turns, on one broker; the first turns do not count. All traffic stays on loopback."""
    install_nestjs(say)
    with TemporaryDirectory(prefix="emis-calls-") as folder, KafkaCluster(Path(folder) / "kafka", n_nodes=1) as kafka:
        everyone = peers()
        _make_topics(kafka.bootstrap, [name for peer in everyone for name in peer.topics])
        turns = []
        for n in range(repeats + 1):
            for peer in everyone:
                turn = _turn(peer, kafka, Path(folder) / f"{peer.name}-{n}", concurrency, seconds)
                say(f"{_in_short(turn)}{'' if n else ' (not counted: the broker has just started)'}")
                turns.append(turn)
        return turns[len(everyone) :]


def _turn(peer: Peer, kafka: KafkaCluster, folder: Path, concurrency: int, seconds: float) -> Turn:
    folder.mkdir()
    environment = {**os.environ, "KAFKA_BROKERS": kafka.bootstrap, "DATA_DIR": str(folder / "data"), **peer.environment}
    cwd = NESTJS if peer.server[0] == "node" else ROOT
    broker_pid = kafka.nodes[0].process.pid
    assert broker_pid is not None
    with _serving(peer, kafka.bootstrap, environment, cwd, folder) as server_pid:
        before = [_cpu_seconds(pid) for pid in (server_pid, broker_pid)]
        command = [*peer.client, kafka.bootstrap, str(concurrency), str(seconds / 3), str(seconds)]
        done = subprocess.run(
            command, cwd=cwd, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60 + 3 * seconds
        )
        server, broker = (_cpu_seconds(pid) - b for pid, b in zip((server_pid, broker_pid), before, strict=True))
    # NestJS's own messages stand around it.
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return _told(peer.name, told, server, broker)


def _in_short(turn: Turn) -> str:
    return f"{turn.peer}: {turn.calls_per_second:,.0f} calls/s, p50 {turn.p50_ms:.1f}, p99 {turn.p99_ms:.1f} ms"


def _told(name: str, told: dict[str, Any], server: float, broker: float) -> Turn:
    took = told["took"]
    n_all = len(took) * 4 / 3  # With those of the warm-up, which processor times have too.
    return Turn(
        name,
        len(took) / told["seconds"],
        percentile(took, 0.5),
        percentile(took, 0.99),
        told["errors"],
        1e6 * server / n_all,
        1e6 * broker / n_all,
    )


@contextmanager
def _serving(peer: Peer, broker: str, environment: dict[str, str], cwd: Path, folder: Path) -> Iterator[int]:
    command = list(peer.server) if not peer.prints_ready else [*peer.server, broker]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        _wait_until_ready(peer, server, environment, folder)
        yield server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(peer: Peer, server: "subprocess.Popen[str]", environment: dict[str, str], folder: Path) -> None:
    if peer.prints_ready:
        assert server.stdout is not None
        if server.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{peer.name} did not start: {(folder / 'server.log').read_text()[-500:]}")
        return
    deadline = time.monotonic() + _READY_SECONDS
    while not is_ready("127.0.0.1", int(environment["PORT"])):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{peer.name} did not start: {(folder / 'server.log').read_text()[-500:]}")
        time.sleep(0.1)


def _make_topics(broker: str, names: Sequence[str]) -> None:
    async def make() -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=broker)
        await client.start()
        try:
            await client.create_topics([NewTopic(name, N_PARTITIONS, 1) for name in names])
        finally:
            await client.close()

    asyncio.run(make())


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def table(turns: Sequence[Turn]) -> str:
    """Markdown: for each peer the middle of its turns, and its rate as a ratio to NestJS's."""
    lines = [
        "| | calls/s | × NestJS | p50 ms | p99 ms | server µs/call | broker µs/call | errors |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rates = {name: median([t.calls_per_second for t in turns if t.peer == name]) for name in _names(turns)}
    for name in rates:
        own = [t for t in turns if t.peer == name]
        cells = [
            f"{rates[name]:,.0f}",
            f"{rates[name] / rates['NestJS']:.1f}",
            *(f"{median([getattr(t, field) for t in own]):.1f}" for field in ("p50_ms", "p99_ms")),
            *(f"{median([getattr(t, field) for t in own]):.0f}" for field in ("server_us", "broker_us")),
            str(sum(t.errors for t in own)),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _names(turns: Sequence[Turn]) -> list[str]:
    return list(dict.fromkeys(turn.peer for turn in turns))
