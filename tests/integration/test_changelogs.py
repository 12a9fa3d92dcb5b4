"""What anybody writes to a changelog: left out by every reader, mended by the owner or by a command."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

from emis_streams.settings import Settings
from emis_streams.topics import CLASSES
from tests.integration.command_line import emis_streams
from tests.integration.worker_rig import producing
from tests.services import unique

EVERYTHING_IS_A_ROW = b"Every record that changelogs keep is a row.\n"


@contextmanager
def transaction(broker: str) -> Iterator[Producer]:
    """One that is begun, and aborted at the end."""
    producer = Producer({"bootstrap.servers": broker, "transactional.id": unique("stranger")})
    producer.init_transactions(30)
    producer.begin_transaction()
    yield producer
    producer.abort_transaction(30)


def test_a_key_that_no_topic_takes_unpacked_is_mended_as_well(no_worker: Settings) -> None:
    with producing(no_worker.kafka_brokers, {"compression.type": "gzip", "message.max.bytes": 8_000_000}) as client:
        client.produce(CLASSES.changelog, b"hello", b"A" * 3_000_000)
    assert emis_streams(no_worker, "changelogs", "check").returncode == 1
    repaired = emis_streams(no_worker, "changelogs", "check", "--repair", "--yes")
    assert repaired.returncode == 0, repaired.stderr
    assert emis_streams(no_worker, "changelogs", "check").returncode == 0


def test_what_nobody_mends_is_listed_and_gone_after_the_repair(no_worker: Settings) -> None:
    key = str(uuid.uuid4())
    with producing(no_worker.kafka_brokers) as client:
        for name in (key, "test", "\x00position"):
            client.produce(CLASSES.changelog, b"hello", name.encode(), headers=[("trace", None)])
    found = emis_streams(no_worker, "changelogs", "check")
    assert found.returncode == 1, found.stderr
    assert f"  {key}  5 bytes, a row has at least 37: b'hello'" in found.stdout.decode()
    assert "key b'test' is not ClassId" in found.stdout.decode()
    assert emis_streams(no_worker, "replica", "rebuild").returncode == 0
    verified = emis_streams(no_worker, "replica", "verify", "--wait", "0")
    assert b": `emis-streams changelogs check --repair`" in verified.stdout, verified.stderr
    synced = emis_streams(no_worker, "sync", "--dry-run", "-", stdin=b"")
    assert b"Traceback" not in synced.stderr
    repaired = emis_streams(no_worker, "changelogs", "check", "--repair", "--yes")
    assert repaired.returncode == 0, repaired.stderr
    again = emis_streams(no_worker, "changelogs", "check")
    assert (again.returncode, again.stdout) == (0, EVERYTHING_IS_A_ROW), again.stderr


def test_what_a_transaction_has_aborted_was_never_there_and_an_open_one_is_named(no_worker: Settings) -> None:
    key = str(uuid.uuid4()).encode()
    with transaction(no_worker.kafka_brokers) as producer:
        producer.produce(CLASSES.changelog, b"hello", key, partition=0)
        assert producer.flush(30) == 0
        checked = emis_streams(no_worker, "changelogs", "check")
        assert (checked.returncode, checked.stdout) == (1, EVERYTHING_IS_A_ROW), checked.stderr
        assert b"an open transaction: 1 record from here on" in checked.stderr
    checked = emis_streams(no_worker, "changelogs", "check")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, EVERYTHING_IS_A_ROW, b"")
