"""A variable that is nearly a setting is named at the start; common variables of others are not."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from emis_streams import settings
from emis_streams.setting_names import nearly_right
from emis_streams.settings import Settings

KNOWN = [name.upper() for name in Settings.__struct_fields__]

_NAMES = """
HOME PATH PWD OLDPWD SHELL USER LOGNAME LANG LC_ALL LC_CTYPE TERM COLORTERM TMPDIR EDITOR DISPLAY HOSTNAME
MAIL SHLVL SSH_CLIENT SSH_CONNECTION SSH_AUTH_SOCK XDG_DATA_DIRS XDG_DATA_HOME XDG_CONFIG_HOME XDG_RUNTIME_DIR
XDG_SESSION_ID DBUS_SESSION_BUS_ADDRESS INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET LISTEN_FDS STATE_DIRECTORY
LOGS_DIRECTORY CONFIGURATION_DIRECTORY CREDENTIALS_DIRECTORY MEMORY_PRESSURE_WATCH SYSTEMD_EXEC_PID
WATCHDOG_USEC WATCHDOG_PID PYTHONPATH PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE PYTHON_VERSION VIRTUAL_ENV
PIP_INDEX_URL UV_INDEX_URL JAVA_HOME JAVA_OPTS KAFKA_HOME KAFKA_OPTS KAFKA_HEAP_OPTS KAFKA_JMX_OPTS
KAFKA_LOG_DIRS KAFKA_BROKER_ID KAFKA_CLUSTER_ID KAFKA_ADVERTISED_LISTENERS KAFKA_ADVERTISED_HOST_NAME
KAFKA_BOOTSTRAP_SERVERS KAFKA_SASL_USERNAME KAFKA_PORT KAFKA_SERVICE_HOST KAFKA_SERVICE_PORT
KAFKA_PORT_9092_TCP_ADDR KAFKA_BROKERS_SERVICE_HOST KAFKA_BROKERS_PORT KUBERNETES_SERVICE_HOST
KUBERNETES_SERVICE_PORT KUBERNETES_PORT_443_TCP_ADDR POD_NAME POD_NAMESPACE NODE_NAME SERVICE_NAME
SERVICE_HOST SERVICE_PORT DATABASE_HOST DATABASE_NAME DATABASE_PORT DATABASE_USER DATABASE_PASSWORD
MYSQL_DATABASE MYSQL_HOST MYSQL_PASSWORD MYSQL_ROOT_PASSWORD SQLALCHEMY_DATABASE_URI TEST_DATABASE_URL
REDIS_URL ALLOWED_HOSTS SECRET_KEY SECRET_KEY_BASE LOGLEVEL LOG_FILE LOG_DIR RUST_LOG DEBUG FLASK_ENV
DJANGO_SETTINGS_MODULE SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE HTTP_PROXY HTTPS_PROXY
NO_PROXY http_proxy no_proxy OTEL_SERVICE_NAME OTEL_EXPORTER_OTLP_ENDPOINT OTEL_TRACES_SAMPLER
OTEL_RESOURCE_ATTRIBUTES PROMETHEUS_MULTIPROC_DIR CI GITHUB_ACTIONS GITHUB_SHA GITHUB_REF GITHUB_TOKEN
GITLAB_CI CI_COMMIT_SHA GIT_BRANCH GIT_COMMITTER_NAME GIT_AUTHOR_NAME GIT_COMMITTER_DATE COMPOSE_PROJECT_NAME
DOCKER_HOST COLUMNS LINES NO_COLOR FORCE_COLOR MALLOC_ARENA_MAX WEB_CONCURRENCY
"""
COMMON = _NAMES.split()


@pytest.mark.parametrize("name", COMMON)
def test_what_other_programs_use_is_not_mentioned(name: str) -> None:
    assert nearly_right([name], KNOWN) == {}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("KAFKA_BROKER", "KAFKA_BROKERS"),
        ("LOG_LEVLE", "LOG_LEVEL"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("KAFKA-BROKERS", "KAFKA_BROKERS"),
        ("kafka_brokers", "KAFKA_BROKERS"),
        ("EMIS_DATABASE_URL", "DATABASE_URL"),
        ("WEB_TOKEN_FILE", "WEB_TOKENS_FILE"),
        ("WEB_ALLOWED_HOST", "WEB_ALLOWED_HOSTS"),
        ("SERVICE_DATABASE_URI", "SERVICE_DATABASE_URL"),
        ("REPLY_PARITION", "REPLY_PARTITION"),
        ("STALE_AFTER_SECOND", "STALE_AFTER_SECONDS"),
        ("KAFKA_SECURTY_PROTOCOL", "KAFKA_SECURITY_PROTOCOL"),
    ],
)
def test_a_slip_of_the_finger_is_named_with_the_setting(name: str, nearest: str) -> None:
    assert nearly_right([name, *COMMON], KNOWN) == {name: nearest}


@pytest.mark.parametrize("name", [name for name in KNOWN if len(name) >= 10])
def test_a_missing_letter_is_seen_in_every_longer_name(name: str) -> None:
    assert nearly_right([name[:4] + name[5:]], KNOWN)


def test_settings_themselves_are_not_mentioned() -> None:
    assert nearly_right(KNOWN, KNOWN) == {}


def test_where_the_setting_is_given_too_the_other_variable_is_anothers() -> None:
    assert nearly_right(["DATABASE_URI", "DATABASE_URL"], KNOWN) == {}


def test_names_that_cannot_be_shown_make_one_line() -> None:
    (line,) = settings.doubts({"KAFKA_BROKERS\n\x1b": "x"})
    assert line.isprintable()


def misnamed() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BROKERS"}
    return environment | {"KAFKA_BROKER": "kafka.emis:9092"}


def test_a_command_mentions_it_once_and_goes_on() -> None:
    command = [sys.executable, "-m", "emis_streams", "generate", "--print-teachers", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, env=misnamed())
    assert ran.returncode == 0
    assert ran.stderr == (
        "emis-streams: KAFKA_BROKER is no setting of this program, and is left alone: is KAFKA_BROKERS meant?\n"
    )


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_worker_mentions_it_in_its_log(tmp_path: Path, log_format: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        given = {"PORT": str(taken.getsockname()[1]), "DATA_DIR": str(tmp_path), "LOG_FORMAT": log_format}
        command = [sys.executable, "-m", "emis_streams", "worker", "--roles", "serve"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, env=misnamed() | given)
    first, last = ran.stderr.splitlines()
    assert "KAFKA_BROKER is no setting of this program" in first
    assert ("WARNING" in first) if log_format == "text" else (json.loads(first)["log.level"] == "warning")
    assert "cannot listen on" in last
    assert "kafka.emis" not in ran.stderr
