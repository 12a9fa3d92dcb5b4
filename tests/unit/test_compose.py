"""docker-compose.yml and Dockerfile say what they should. Docker itself is not needed."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from emis_streams.local import kafka_jars
from emis_streams.services.catalogue import SERVICES as SERVICE_CLASSES
from emis_streams.settings import Settings, read

ROOT = Path(__file__).parents[2]
KAFKA = ("kafka-1", "kafka-2", "kafka-3")
WORKERS = {"ingest": "ingest", "replicate": "replicate", "serve": "serve"}
SERVICES = ("gateway", "users", "lessons", "progress")
OBSERVABILITY = ("jaeger", "prometheus")
ONE_SHOT = ("setup", "generate")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def _image_environment() -> dict[str, str]:
    """ENV of the Dockerfile."""
    line = re.search(r"^ENV (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert line is not None
    return dict(pair.split("=", 1) for pair in line[1].split())


def _without_variables(text: str) -> str:
    """As Compose would fill it in with nothing set: the default of ${NAME:-default}."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_there_are_three_brokers_mysql_set_up_and_a_worker_of_each_role(services: dict[str, Any]) -> None:
    assert set(services) == {*KAFKA, "mysql", *WORKERS, *SERVICES, *OBSERVABILITY, *ONE_SHOT}
    assert {services[name]["environment"]["ROLES"] for name in WORKERS} == set(WORKERS.values())


@pytest.mark.parametrize("name", KAFKA)
def test_every_broker_keeps_three_copies_and_needs_two(services: dict[str, Any], name: str) -> None:
    environment = services[name]["environment"]
    for setting in (
        "DEFAULT_REPLICATION_FACTOR",
        "OFFSETS_TOPIC_REPLICATION_FACTOR",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR",
    ):
        assert environment[f"KAFKA_{setting}"] == "3"
    assert environment["KAFKA_MIN_INSYNC_REPLICAS"] == environment["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == "2"
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert environment["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"


@pytest.mark.parametrize("name", KAFKA)
def test_every_broker_is_a_voter_under_its_own_name_and_keeps_its_data(services: dict[str, Any], name: str) -> None:
    service = services[name]
    environment = service["environment"]
    node = environment["KAFKA_NODE_ID"]
    assert f"{node}@{name}:9093" in environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")
    assert f"INTERNAL://{name}:19092" in environment["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert service["volumes"] == [f"{name}:{environment['KAFKA_LOG_DIRS']}"]


@pytest.mark.parametrize("name", KAFKA)
def test_clients_on_the_host_reach_the_port_that_a_broker_tells_them(services: dict[str, Any], name: str) -> None:
    told = re.search(r"HOST://localhost:(\d+)", services[name]["environment"]["KAFKA_ADVERTISED_LISTENERS"])
    assert told is not None
    assert services[name]["ports"] == [f"127.0.0.1:{told[1]}:9092"]


def test_node_ids_and_published_ports_are_all_different(services: dict[str, Any]) -> None:
    assert len({services[name]["environment"]["KAFKA_NODE_ID"] for name in KAFKA}) == 3
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_brokers_are_of_the_version_that_runs_locally(services: dict[str, Any]) -> None:
    assert {services[name]["image"].partition("@")[0] for name in KAFKA} == {f"apache/kafka:{kafka_jars.version()}"}


def test_the_cluster_id_is_one_that_kafka_takes(services: dict[str, Any]) -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9_][\w-]{21}", services[n]["environment"]["CLUSTER_ID"]) for n in KAFKA)


@pytest.mark.parametrize("name", [*KAFKA, "mysql", *WORKERS, *SERVICES])
def test_what_runs_on_is_restarted_and_checked(services: dict[str, Any], name: str) -> None:
    assert services[name]["restart"] == "unless-stopped"
    assert services[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert services[name]["healthcheck"]["retries"] >= 3


def test_health_is_asked_of_the_thing_itself(services: dict[str, Any]) -> None:
    for name in KAFKA:
        assert "/opt/kafka/bin/kafka-broker-api-versions.sh" in services[name]["healthcheck"]["test"]
    mysql = services["mysql"]["healthcheck"]["test"][1]
    assert "SELECT 1" in mysql
    assert "--protocol=TCP" in mysql
    assert "$$MYSQL_USER" in mysql
    for name in WORKERS:
        assert "/readyz" in services[name]["healthcheck"]["test"][-1]


def test_set_up_waits_for_healthy_parts_and_workers_for_the_end_of_set_up(services: dict[str, Any]) -> None:
    assert services["setup"]["depends_on"] == {name: {"condition": "service_healthy"} for name in (*KAFKA, "mysql")}
    for name in (*WORKERS, *SERVICES, "generate"):
        assert services[name]["depends_on"] == {"setup": {"condition": "service_completed_successfully"}}


def test_set_up_makes_topics_and_tables(services: dict[str, Any]) -> None:
    command = services["setup"]["command"][0]
    assert "emis-streams topics" in command
    assert "emis-streams replica migrate" in command


@pytest.mark.parametrize("name", [*WORKERS, *SERVICES, *ONE_SHOT])
def test_every_setting_exists_and_is_allowed(services: dict[str, Any], name: str) -> None:
    environment = {k: _without_variables(v) for k, v in services[name]["environment"].items()}
    ours = {name: value for name, value in environment.items() if not name.startswith("OTEL_")}
    assert {key.lower() for key in ours} <= set(Settings.__struct_fields__)
    settings = read(ours)
    assert (settings.replication_factor, settings.min_insync_replicas) == (3, 2)
    assert settings.kafka_brokers == ",".join(f"{broker}:19092" for broker in KAFKA)


def test_the_database_url_is_of_the_user_that_mysql_makes(services: dict[str, Any]) -> None:
    mysql = services["mysql"]["environment"]
    expected = f"mysql://{mysql['MYSQL_USER']}:{mysql['MYSQL_PASSWORD']}@mysql:3306/{mysql['MYSQL_DATABASE']}"
    assert {services[name]["environment"]["DATABASE_URL"] for name in (*WORKERS, *ONE_SHOT)} == {expected}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_on_its_own_port_and_is_asked_there(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["command"] == ["run", name]
    assert service["environment"]["SERVICE"] == name
    assert service["environment"]["PORT"] == str(SERVICE_CLASSES[name].port)
    assert "os.environ['PORT']" in service["healthcheck"]["test"][-1]


def test_the_gateway_finds_the_worker_and_the_lessons_outlive_their_container(services: dict[str, Any]) -> None:
    assert services["serve"]["environment"]["REGISTER"] == "true"
    assert services["lessons"]["volumes"] == ["lessons:/data"]


def test_traces_and_metrics_are_optional_and_every_process_is_scraped(compose: dict[str, Any]) -> None:
    assert {tuple(compose["services"][name]["profiles"]) for name in OBSERVABILITY} == {("observability",)}
    scraped = yaml.safe_load(compose["configs"]["prometheus"]["content"])["scrape_configs"][0]["dns_sd_configs"]
    assert {(name, one["port"]) for one in scraped for name in one["names"]} == {
        *((name, 6066) for name in WORKERS),
        *((name, SERVICE_CLASSES[name].port) for name in SERVICES),
    }


def test_a_worker_has_more_time_to_stop_than_it_takes_at_most(services: dict[str, Any]) -> None:
    for name in (*WORKERS, *SERVICES):
        assert float(services[name]["stop_grace_period"].removesuffix("s")) > Settings().drain_timeout_seconds


def test_images_of_others_are_named_by_version_and_digest(services: dict[str, Any]) -> None:
    """A tag can be moved to another image, a digest cannot."""
    images = {about["image"] for about in services.values()} - {"emis-streams"}
    images |= set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert len(images) == 5
    assert not [image for image in images if not re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image)]


def test_the_image_is_of_an_unprivileged_user_and_pinned_packages() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    installs = re.findall(r"pip (?:install|sync)[^&]*?(?=&&|\nCOPY|\n\n)", dockerfile.replace("\\\n", " "))
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    assert dockerfile.rindex("\nUSER ") < dockerfile.rindex("\nENTRYPOINT ")
    assert re.search(r"^USER (?!root)\w+$", dockerfile, re.MULTILINE)


def test_the_image_has_allowed_settings() -> None:
    environment = {k: v for k, v in _image_environment().items() if k.lower() in Settings.__struct_fields__}
    assert set(environment) == {"DATA_DIR", "HOST", "PORT"}
    assert msgspec.structs.asdict(read(environment))["port"] == 6066


def test_everything_that_is_copied_into_the_image_exists_and_is_sent_to_the_build() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sent = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {path for line in copied for path in line.split()} == sent
    assert [path for path in sent if not (ROOT / path).exists()] == []
