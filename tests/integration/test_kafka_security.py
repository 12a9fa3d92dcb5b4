"""Kafka with TLS, SCRAM users and an authorizer: who has just what he needs works, all else is refused and told."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from emis_streams import acls, topics
from emis_streams.local import kafka_jars
from emis_streams.producer import EventProducer
from emis_streams.settings import Settings
from tests.integration import independent
from tests.integration.command_line import emis_streams
from tests.integration.independent import progress
from tests.integration.secure_kafka import PASSWORD, PLAIN_USER, WRONG_PASSWORD, SecureKafka, granted_kafka
from tests.integration.worker_rig import Worker, a_class, a_teacher, an_assignment, new_id
from tests.services import settings_for, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROLES = ("ingest", "replicate", "serve")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with granted_kafka(tmp_path_factory.mktemp("secure")) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def workers(secure: SecureKafka) -> Iterator[dict[str, Worker]]:
    """One worker of each role, each as its own user with the grants that `topics --acls` lists."""
    common: dict[str, Any] = {
        "database_url": f"sqlite:///{secure.folder / 'replica.db'}",
        "session_timeout_seconds": 6.0,
        "log_level": "debug",
    }
    made = {
        role: Worker(
            f"{role}-worker", secure.settings(f"emis-{role}", secure.folder / "data" / role, roles=role, **common)
        )
        for role in ROLES
    }
    for worker in made.values():
        worker.start()
    yield made
    for worker in made.values():
        worker.process.stop()


@pytest.fixture
async def running(workers: dict[str, Worker]) -> dict[str, Worker]:
    for worker in workers.values():
        worker.start()
    for worker in workers.values():
        await worker.ready()
    return workers


async def send(secure: SecureKafka, *events: dict[str, Any]) -> None:
    async with EventProducer(secure.settings("emis-producer", secure.folder / "producer")) as producer:
        for event in events:
            await producer.send(event)


def committed(secure: SecureKafka) -> int:
    return progress(secure.cluster.bootstrap).committed


def dead_letters(secure: SecureKafka) -> list[bytes]:
    """The values of all of them."""
    return [message.value() for message in independent.records(secure.cluster.bootstrap, [topics.DEAD_LETTER])]


async def all_ingested(secure: SecureKafka) -> None:
    def level() -> bool:
        at = progress(secure.cluster.bootstrap)
        return at.committed >= at.end

    await until(level, 60)


def name_shown(worker: Worker, class_id: str) -> Any:
    return (worker.get(f"/api/classes/{class_id}")[1] or {}).get("className")


# -- who has what he needs ----------------------------------------------------------------------


async def test_workers_of_each_role_need_no_more_than_their_grants(
    secure: SecureKafka, running: dict[str, Worker]
) -> None:
    teacher_id, class_id = new_id(), new_id()
    await send(secure, a_teacher(teacher_id), a_class(class_id, "10A1"), an_assignment(teacher_id, class_id))
    serving = running["serve"]

    def page() -> Any:
        status, body = serving.get(f"/api/teachers/{teacher_id}")
        return status == 200 and body["ageSeconds"] is not None and [c["className"] for c in body["classAssignments"]]

    await until(lambda: page() == ["10A1"], 60)

    def healthy() -> bool:
        answers = [worker.get("/health") for worker in running.values()]
        return all(status == 200 and body["status"] == "healthy" for status, body in answers)

    await until(healthy, 60)
    _, checks = serving.get("/health")
    assert checks["checks"]["replica"]["status"] == "pass", "the replica's group is at work, and level"


async def test_refused_records_become_dead_letters_and_the_operator_sees_them(
    secure: SecureKafka, running: dict[str, Worker]
) -> None:
    before = dead_letters(secure)
    async with EventProducer(secure.settings("emis-producer", secure.folder / "producer")) as producer:
        await producer.send_record("emis.class.updated", new_id().encode(), b"no event")
    await until(lambda: sorted(dead_letters(secure)) == sorted([*before, b"no event"]))
    listed = emis_streams(secure.settings("emis-operator", secure.folder / "operator"), "dead-letters", "list")
    assert listed.returncode == 0, listed.stderr


async def test_the_operators_commands_work_and_those_of_the_producer_too(
    secure: SecureKafka, running: dict[str, Worker]
) -> None:
    operator = secure.settings("emis-operator", secure.folder / "operator")
    producer = secure.settings("emis-producer", secure.folder / "producer")
    checked = emis_streams(operator, "topics", "--check")
    assert (checked.returncode, checked.stderr) == (0, b"")
    event = json.dumps(a_class(new_id(), "by the command")).encode()
    produced = emis_streams(producer, "produce", "-", stdin=event)
    assert produced.returncode == 0, produced.stderr
    await all_ingested(secure)
    lag = emis_streams(operator, "lag", "--json")
    assert lag.returncode == 0, lag.stderr
    assert {g["groupId"]: g["state"] for g in json.loads(lag.stdout)["groups"]} == {
        topics.APP_ID: "OK",
        topics.REPLICA_GROUP: "OK",
    }
    snapshot = json.dumps({"classId": new_id(), "className": "by sync", "updatedAt": "2026-01-01T00:00:00Z"}).encode()
    synced = emis_streams(operator, "sync", "-", stdin=snapshot)
    assert b"sent 1 created" in synced.stdout + synced.stderr, synced
    generated = emis_streams(producer, "generate", "--classes", "10")
    assert generated.returncode == 0, generated.stderr


def test_kafkas_own_tool_takes_the_lines_that_are_printed(secure: SecureKafka) -> None:
    printed = emis_streams(settings_for(secure.cluster.bootstrap, secure.folder / "nobody"), "topics", "--acls")
    lines = printed.stdout.decode().splitlines()
    assert {line.split("User:")[1].split()[0] for line in lines} == set(acls.GRANTS)
    tool = ["java", "-cp", kafka_jars.classpath(), "org.apache.kafka.tools.AclCommand"]
    one = next(line for line in lines if "User:emis-producer" in line).split()
    assert one[0] == "kafka-acls.sh"
    done = subprocess.run([*tool, *one[1:]], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "operation=WRITE, permissionType=ALLOW" in done.stdout


async def test_a_password_that_goes_over_the_wire_within_tls_is_in_no_log(secure: SecureKafka, tmp_path: Path) -> None:
    """Of SASL PLAIN: aiokafka's records of level debug hold all bytes that are sent."""
    plain = secure.settings(
        PLAIN_USER, tmp_path / "data", kafka_sasl_mechanism="PLAIN", roles="serve", log_level="debug"
    )
    secure.grant(line.replace("User:emis-serve", f"User:{PLAIN_USER}") for line in acls.lines("-"))
    worker = Worker("plain-worker", plain)
    worker.start()
    try:
        await worker.ready()
        assert "DEBUG aiokafka" in worker.log()
        assert PASSWORD.format(user=PLAIN_USER) not in worker.log()
    finally:
        worker.process.stop()


def test_a_client_certificate_is_enough_where_brokers_ask_for_one(secure: SecureKafka) -> None:
    checked = emis_streams(with_certificate(secure), "topics", "--check")
    assert "is missing" in checked.stdout.decode(), "it may see none of them, but was let in"
    assert checked.stderr == b""


def with_certificate(secure: SecureKafka) -> Settings:
    return settings_for(
        f"localhost:{secure.ports['MUTUAL']}",
        secure.folder / "mutual",
        kafka_security_protocol="SSL",
        kafka_ca_file=str(secure.folder / "ca.pem"),
        kafka_cert_file=str(secure.folder / "client.pem"),
        kafka_key_file=str(secure.folder / "client.key"),
    )


# -- who is not let in --------------------------------------------------------------------------

NO_SECURITY = {
    "kafka_security_protocol": "PLAINTEXT",
    "kafka_username": "",
    "kafka_password_file": "",
    "kafka_ca_file": "",
}
REFUSED: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "wrong password": (
        "SECURE",
        {"kafka_password_file": "", "kafka_password": WRONG_PASSWORD},
        ("refuses the user 'emis-operator'", "KAFKA_PASSWORD"),
    ),
    "unknown user": ("SECURE", {"kafka_username": "nobody"}, ("refuses the user 'nobody'", "KAFKA_USERNAME")),
    "certificate of another host": ("WRONGHOST", {}, ("certificate of another host", "KAFKA_BROKERS", "'localhost'")),
    "unknown authority": ("SECURE", {"kafka_ca_file": "other-ca.pem"}, ("other-ca.pem", "KAFKA_CA_FILE", "signed")),
    "the system's authorities only": ("SECURE", {"kafka_ca_file": ""}, ("set KAFKA_CA_FILE",)),
    "another mechanism": ("SECURE", {"kafka_sasl_mechanism": "SCRAM-SHA-256"}, ("KAFKA_SASL_MECHANISM=SCRAM-SHA-256",)),
    "no TLS, but the broker": ("SECURE", NO_SECURITY, ("speaks TLS", "set KAFKA_SECURITY_PROTOCOL to SASL_SSL")),
    "TLS, but not the broker": ("PLAINTEXT", {}, ("does not speak TLS", "KAFKA_SECURITY_PROTOCOL=SASL_SSL")),
    "no client certificate": (
        "MUTUAL",
        {"kafka_security_protocol": "SSL", "kafka_username": "", "kafka_password_file": ""},
        ("KAFKA_CERT_FILE",),
    ),
}


def refused(secure: SecureKafka, kind: str, data_dir: Path) -> tuple[Settings, tuple[str, ...]]:
    listener, changes, told = REFUSED[kind]
    given: dict[str, str] = {"kafka_brokers": f"localhost:{secure.ports[listener]}", **changes}
    if given.get("kafka_ca_file"):
        given["kafka_ca_file"] = str(secure.folder / given["kafka_ca_file"])
    return secure.settings("emis-operator", data_dir, **given), told


@pytest.mark.parametrize("kind", REFUSED)
def test_who_is_not_let_in_is_told_why_and_what_to_do_in_one_line(
    secure: SecureKafka, tmp_path: Path, kind: str
) -> None:
    settings, told = refused(secure, kind, tmp_path)
    done = emis_streams(settings, "topics", "--check")
    line = done.stderr.decode()
    assert done.returncode == 1
    assert line.count("\n") == 1
    for part in (f"KAFKA_BROKERS='{settings.kafka_brokers}'", *told):
        assert part in line
    assert WRONG_PASSWORD not in line


@pytest.mark.parametrize(
    "command", [("lag",), ("produce", "-"), ("generate", "--classes", "5"), ("dead-letters", "list"), ("sync", "-")]
)
def test_every_command_goes_the_same_way_in(secure: SecureKafka, tmp_path: Path, command: tuple[str, ...]) -> None:
    settings, told = refused(secure, "wrong password", tmp_path)
    snapshot = json.dumps({"classId": new_id(), "className": "x", "updatedAt": "2026-01-01T00:00:00Z"}).encode()
    event = json.dumps(a_class(new_id())).encode()
    done = emis_streams(settings, *command, stdin=snapshot if command[0] == "sync" else event)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert told[0] in done.stderr.decode()


async def test_a_worker_that_is_not_let_in_waits_says_why_and_answers_for_itself(
    secure: SecureKafka, tmp_path: Path
) -> None:
    settings, told = refused(secure, "wrong password", tmp_path / "data")
    outside = Worker("outside-worker", settings)
    before = committed(secure)
    outside.start()
    try:
        await until(lambda: all(part in outside.log() for part in told), 60)
        status, health = await until(lambda: outside.get("/health") if outside.get("/health")[0] else None)
        assert status == 503
        assert told[0] in health["checks"]["brokers"]["output"]
        assert outside.get("/readyz")[0] == 503
        assert outside.get("/livez")[0] == 200
        assert outside.process.running
        assert "Traceback" not in outside.log()
        assert WRONG_PASSWORD not in outside.log() + json.dumps(health)
        assert committed(secure) == before
    finally:
        outside.process.stop()


# -- what is not granted ------------------------------------------------------------------------

DENIED_TO_INGEST = {
    "a changelog": ("topic", topics.CLASSES.changelog, "Write"),
    "the dead-letter topic": ("topic", topics.DEAD_LETTER, "Write"),
    "a source": ("topic", "emis.class.created", "Read"),
    "the group": ("group", topics.APP_ID, "Read"),
}


@pytest.mark.parametrize("what", DENIED_TO_INGEST)
async def test_a_grant_that_is_revoked_ends_ingestion_and_once_it_is_back_nothing_is_missing(
    secure: SecureKafka, running: dict[str, Worker], what: str
) -> None:
    """Row 34 of the fault matrix, and its neighbours: pause, never drop."""
    ingesting, serving = running["ingest"], running["serve"]
    await all_ingested(secure)
    before = committed(secure)
    said_before = len(ingesting.log())
    kind, name, operation = DENIED_TO_INGEST[what]
    class_id, refused_value = new_id(), f"no event: {what}".encode()
    secure.revoke("emis-ingest", kind, name, operation)
    try:
        async with EventProducer(secure.settings("emis-producer", secure.folder / "producer")) as producer:
            await producer.send(a_class(class_id, what))
            await producer.send_record("emis.class.created", class_id.encode(), refused_value)
        await until(lambda: not ingesting.process.running, 60)
        assert ingesting.process.returncode == 70
        log = ingesting.log()[said_before:]
        told = [line for line in log.splitlines() if "CRITICAL" in line]
        assert len(told) == 1
        assert f"{kind} {name}" in told[0]
        assert "emis-streams topics --acls" in told[0]
        assert "Traceback" not in log
        assert committed(secure) <= before + (1 if what == "the dead-letter topic" else 0)
        ingesting.start()
        await until(lambda: not ingesting.process.running, 60)
        assert ingesting.process.returncode == 70, "still denied: it must end again, not go on without"
        assert not [value for value in dead_letters(secure) if not value.startswith(b"no event")]
    finally:
        secure.grant_all("emis-ingest")
    ingesting.start()
    await until(lambda: name_shown(serving, class_id) == what, 60)
    await all_ingested(secure)
    assert refused_value in dead_letters(secure)


async def test_a_serving_worker_without_its_grant_answers_on_and_goes_on_once_it_is_back(
    secure: SecureKafka, running: dict[str, Worker]
) -> None:
    serving, class_id = running["serve"], new_id()
    await send(secure, a_class(class_id, "before"))
    await until(lambda: name_shown(serving, class_id) == "before", 60)
    secure.revoke("emis-serve", "topic", topics.CLASSES.changelog, "Read")
    try:
        await send(secure, a_class(class_id, "after", "updated"))
        denied = f"topic {topics.CLASSES.changelog}"
        await until(lambda: denied in serving.get("/health")[1]["checks"]["readModel"]["output"], 60)
        assert name_shown(serving, class_id) == "before"
        assert serving.process.running
    finally:
        secure.grant_all("emis-serve")
    await until(lambda: name_shown(serving, class_id) == "after", 60)


async def test_the_replica_waits_for_its_grants(secure: SecureKafka, running: dict[str, Worker]) -> None:
    replicating = running["replicate"]
    secure.revoke("emis-replicate", "topic", topics.CLASSES.changelog, "Read")
    try:
        await send(secure, a_class(new_id(), "waits"))
        denied = f"topic {topics.CLASSES.changelog}"
        await until(lambda: denied in replicating.get("/health")[1]["checks"]["replica"]["output"], 60)
    finally:
        secure.grant_all("emis-replicate")
    await until(lambda: replicating.get("/health")[1]["checks"]["replica"]["status"] == "pass", 60)


@pytest.mark.parametrize(
    ("user", "command", "denied"),
    [
        ("emis-serve", ("produce", "-"), "any topic to write to"),
        ("emis-ingest", ("produce", "-"), "topic emis.class.created"),
        ("emis-producer", ("topics", "--check"), "emis.class.created"),
        ("emis-producer", ("dead-letters", "list"), topics.DEAD_LETTER),
    ],
)
def test_a_command_without_its_grant_says_so_in_one_line(
    secure: SecureKafka, tmp_path: Path, user: str, command: tuple[str, ...], denied: str
) -> None:
    event = json.dumps(a_class(new_id())).encode()
    done = emis_streams(secure.settings(user, tmp_path), *command, stdin=event)
    line = done.stderr.decode()
    assert done.returncode == 1
    assert line.count("\n") == 1
    assert denied in line
    assert "emis-streams topics --acls" in line


# -- secrets ------------------------------------------------------------------------------------


async def test_no_secret_is_in_logs_pages_command_lines_or_dead_letters(
    secure: SecureKafka, running: dict[str, Worker]
) -> None:
    said = []
    for worker in running.values():
        said.append(worker.log())
        said += [str(worker.get(path)[1]) for path in ("/health", "/info", "/api/consumer-lag", "/")]
        process = psutil.Process(worker.process.pid)
        said += [" ".join(p.cmdline()) for p in (process, *process.children(recursive=True))]
    for message in independent.records(secure.cluster.bootstrap, [topics.DEAD_LETTER]):
        said.append(f"{message.key()} {message.value()} {message.headers()}")
    everything = "\n".join(said)
    assert "emis-ingest" in everything, "logs at level debug were looked at"
    assert not [user for user in acls.GRANTS if PASSWORD.format(user=user) in everything]
