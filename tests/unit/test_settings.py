"""What settings take, beyond what tests of their users show."""

import pytest

from emis_streams import broker_addresses, settings
from emis_streams.errors import InvalidSetting
from emis_streams.secret_urls import masked


@pytest.mark.parametrize(
    ("given", "level"), [("INFO", "info"), (" Warning ", "warning"), ("debug", "debug"), ("ErRoR", "error")]
)
def test_words_may_be_in_capitals(given: str, level: str) -> None:
    assert settings.read({"LOG_LEVEL": given}).log_level == level


def test_blanks_around_numbers_and_words_do_not_matter() -> None:
    read = settings.read({"PORT": " 6067\t", "WEB_OPEN": " True", "ROLES": "Serve, INGEST", "LINGER_SECONDS": "0.5 "})
    assert (read.port, read.web_open, read.linger_seconds) == (6067, True, 0.5)
    assert read.roles_enabled() == {"serve", "ingest"}


@pytest.mark.parametrize(
    ("brokers", "found"),
    [
        ("localhost:9092", [("localhost", 9092)]),
        (" kafka-1.emis:9092 , kafka-2.emis:9093", [("kafka-1.emis", 9092), ("kafka-2.emis", 9093)]),
        ("[::1]:9092,127.0.0.1:1", [("::1", 9092), ("127.0.0.1", 1)]),
        ("trường.vn:65535", [("trường.vn", 65535)]),
        ("::1:9092", None),
        ("[::1]", None),
        (":9092", None),
        ("kafka:0", None),
        ("kafka:٩", None),
        ("kafka:" + "9" * 400, None),
        ("kafka 1:9092", None),
    ],
)
def test_addresses_of_brokers(brokers: str, found: list[tuple[str, int]] | None) -> None:
    if found is not None:
        assert broker_addresses.addresses(brokers) == found
        return
    with pytest.raises(InvalidSetting, match=r"KAFKA_BROKERS=.* is not allowed: .*; write host:port of each broker"):
        broker_addresses.addresses(brokers)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://emis:{}@db/emis",
        "mysql+aiomysql://emis:{}@db:3306/emis?charset=utf8mb4",
        "mysql://{}:x@db/emis",
        "https://reader:{}@emis.example/classes.ndjson",
        "https://emis.example/classes?token={}",
        "https://emis.example/classes?a=1&X-Signature={}&b=2",
        "mysql://db/emis?password={}",
        "  MySQL://emis:{}@db/emis",
        "mysql:emis:{}@db",
    ],
)
@pytest.mark.parametrize("password", ["canary", "can/ary", "c@n@ry", "ca:n/a@r/y", "c?a#n=", "cà nary", "%40canary"])
def test_no_password_of_a_url_is_shown(url: str, password: str) -> None:
    shown = masked(url.format(password))
    assert "***" in shown
    assert not [part for part in ("canary", "can/", "ary", "@ry", "n/a", "#n=", "n@", "nary") if part in shown]


def test_a_file_of_sqlite_has_no_password() -> None:
    assert masked("sqlite:////srv/emis@home/replica.db") == "sqlite:////srv/emis@home/replica.db"


@pytest.mark.parametrize(
    "variable", ["HOST", "DATA_DIR", "WEB_TOKENS_FILE", "ROLES", "PORT", "KAFKA_PASSWORD", "LOG_LEVEL"]
)
@pytest.mark.parametrize("value", ["a\nWARNING all is well", "\x1b[31mred", "caf\udce9", "a\x7fb"])
def test_a_value_with_characters_that_cannot_be_seen_is_refused_in_one_line(variable: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match="is not allowed: it has a control character") as refused:
        settings.read({variable: value})
    line = str(refused.value)
    assert line.startswith(f"{variable}=")
    assert line.isprintable()
    assert line.isascii()
    assert "red" not in line if variable == "KAFKA_PASSWORD" else True


def test_the_end_of_a_line_behind_a_text_and_blanks_alone_do_not_matter() -> None:
    read = settings.read({"HOST": "localhost\n", "DATA_DIR": "  /var/lib/emis \r\n", "ADVERTISED_HOST": " \t"})
    assert (read.host, read.data_dir, read.advertised_host) == ("localhost", "/var/lib/emis", "")


def test_blanks_belong_to_a_password() -> None:
    sasl = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_USERNAME": " emis\n", "KAFKA_PASSWORD": " secret "}
    read = settings.read(sasl)
    assert (read.kafka_username, read.kafka_password) == ("emis", " secret ")


@pytest.mark.parametrize("host", ["kafka 1", "a/b", "http://emis", "x" * 254, "trường.vn"])
def test_where_others_reach_a_process_is_a_name_or_an_address(host: str) -> None:
    with pytest.raises(InvalidSetting, match=r"ADVERTISED_HOST=.* is not allowed: where others reach this process"):
        settings.read({"ADVERTISED_HOST": host})
    assert settings.read({"ADVERTISED_HOST": "emis-1.example"}).reached_at == "emis-1.example"


@pytest.mark.parametrize("file", ["file:/var/lib/lessons.db?uri=true", "FILE:lessons.db", "file::memory:"])
def test_a_file_has_one_name_not_a_uri(file: str) -> None:
    with pytest.raises(InvalidSetting, match=r"names a file by a URI of SQLite; write .*sqlite:///path of a file"):
        settings.read({"SERVICE_DATABASE_URL": f"sqlite:///{file}"})


def test_a_process_is_named_by_its_address_unless_it_is_given_a_name() -> None:
    assert settings.read({"HOST": "127.0.0.1", "PORT": "7000"}).instance == "127.0.0.1:7000"
    assert settings.read({"ADVERTISED_HOST": "::1", "PORT": "7000"}).instance == "[::1]:7000"
    assert settings.read({"HOST": "0.0.0.0", "ADVERTISED_HOST": "emis-1.example"}).instance == "emis-1.example:6066"
    assert settings.read({"INSTANCE_NAME": "hanoi-1"}).instance == "hanoi-1"


@pytest.mark.parametrize("name", ["hà nội", "a b", "x" * 101, "a/b"])
def test_a_name_of_a_process_is_one_that_brokers_and_metrics_take(name: str) -> None:
    with pytest.raises(InvalidSetting, match="INSTANCE_NAME"):
        settings.read({"INSTANCE_NAME": name})
