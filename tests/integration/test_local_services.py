"""The local Kafka and MariaDB: started, found again, ended with their parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import aiomysql
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from sqlalchemy.engine import make_url

from emis_streams.local import KafkaCluster, LocalStackError, MariaDb
from emis_streams.local.process import Child, end_leftover, find
from tests.services import unique


async def _make_topic(bootstrap: str, name: str, replication: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, replication)])
    finally:
        await admin.close()


async def _send(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, value, partition=0)


async def _first_value(bootstrap: str, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    async with consumer:
        value: bytes = (await consumer.getone()).value
        return value


async def test_records_are_kept_over_a_kill_of_the_broker(tmp_path: Path) -> None:
    with KafkaCluster(tmp_path) as first:
        await _make_topic(first.bootstrap, "kept", replication=1)
        await _send(first.bootstrap, "kept", b"a record")
        first.nodes[0].process.kill()
    with KafkaCluster(tmp_path) as second:
        assert await _first_value(second.bootstrap, "kept") == b"a record"


async def test_three_brokers_take_records_of_replication_three(three_brokers: KafkaCluster) -> None:
    topic = unique("replicated")
    await _make_topic(three_brokers.bootstrap, topic, replication=3)
    await _send(three_brokers.bootstrap, topic, b"a record")
    assert await _first_value(three_brokers.bootstrap, topic) == b"a record"


def test_a_taken_port_is_named(tmp_path: Path, kafka: KafkaCluster) -> None:
    taken = kafka.nodes[0].endpoint.broker_port
    with pytest.raises(LocalStackError, match=f"port {taken} .* in use"):
        KafkaCluster(tmp_path, ports=[taken]).start()


def test_a_broker_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    cluster = KafkaCluster(tmp_path)
    (tmp_path / "kafka-1" / "data").mkdir(parents=True)
    (tmp_path / "kafka-1" / "formatted").touch()
    with pytest.raises(LocalStackError, match=r"(?s)node 1 ended with .*No readable meta.properties"):
        cluster.start()


async def test_a_user_of_the_made_database_can_log_in_over_tcp(mariadb_url: str) -> None:
    url = make_url(mariadb_url)
    connection = await aiomysql.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, db=url.database
    )
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT DATABASE()")
        assert await cursor.fetchone() == (url.database,)
    connection.close()


def test_mariadb_keeps_its_data_between_runs(tmp_path: Path) -> None:
    with MariaDb(tmp_path) as first:
        first.create("kept")
    with MariaDb(tmp_path) as second:
        assert "kept" in second.execute("SHOW DATABASES").split()


def test_mariadb_servers_start_and_stop_beside_each_other(tmp_path: Path) -> None:
    """A server that starts deletes the temporary tables in its temporary folder, also those of another server."""
    with MariaDb(tmp_path / "a") as first, MariaDb(tmp_path / "b") as second:
        folders = {server.execute("SELECT @@tmpdir").split()[-1] for server in (first, second)}
    assert folders == {str(tmp_path / "a" / "tmp"), str(tmp_path / "b" / "tmp")}


def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    child.wait(timeout=10)


_PARENT = """
import sys, time
from pathlib import Path
from emis_streams.local import Child
child = Child("sleeper", ["sleep", "60"], Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_leftover_is_found_by_pid_and_start_time_and_ended(tmp_path: Path) -> None:
    left = Child("sleeper", ["sleep", "60"], tmp_path)
    left.start()
    assert end_leftover(left.pid_path) == f"sleeper (pid {left.pid})"
    assert not left.running
    assert end_leftover(left.pid_path) is None


def test_another_process_with_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    pid_path = tmp_path / "sleeper.pid"
    pid_path.write_text(f'{{"pid": {os.getpid()}, "started": 1000.0}}')
    assert find(pid_path) is None
    assert end_leftover(pid_path) is None


def test_a_child_that_ignores_sigterm_is_killed_after_the_time_out(tmp_path: Path) -> None:
    deaf = Child("deaf", [sys.executable, "-c", _DEAF], tmp_path)
    deaf.start()
    while "ready" not in deaf.log_tail():
        assert deaf.running
    assert deaf.stop(timeout_seconds=0.2) is False
    assert deaf.returncode == -signal.SIGKILL


_DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
