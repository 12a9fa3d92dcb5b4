"""What anybody writes to a changelog: left out by every reader, mended by the owner or by a command."""

import uuid

from emis_streams.settings import Settings
from emis_streams.topics import CLASSES
from tests.integration.command_line import emis_streams
from tests.integration.worker_rig import producing


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
    assert b"are no rows: `emis-streams changelogs check --repair`" in verified.stdout, verified.stderr
    synced = emis_streams(no_worker, "sync", "--dry-run", "-", stdin=b"")
    assert b"Traceback" not in synced.stderr
    repaired = emis_streams(no_worker, "changelogs", "check", "--repair", "--yes")
    assert repaired.returncode == 0, repaired.stderr
    again = emis_streams(no_worker, "changelogs", "check")
    assert (again.returncode, again.stdout) == (0, b"Every record that changelogs keep is a row.\n"), again.stderr
