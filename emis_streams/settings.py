"""Settings: typed, from the environment, read once. A bad value stops start-up.

Each field is one environment variable of the same name in capitals; `docs/operations.md` lists them
from here. Nothing else in the package reads the environment.
"""

import os
import socket
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from emis_streams import broker_addresses, kafka_security, secret_urls, setting_names
from emis_streams.errors import InvalidSetting
from emis_streams.secret_files import Secret

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Role = Literal["ingest", "replicate", "serve"]

HOST_PATTERN = r"^[A-Za-z0-9._:%\[\]-]{1,253}\Z"
"""Of a name or an address that others reach a process by."""
ROLES: tuple[Role, ...] = ("ingest", "replicate", "serve")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set; the text behind each field is what the operator reads."""

    kafka_brokers: Annotated[str, Meta(min_length=1, description="host:port of brokers, comma-separated")] = (
        "localhost:9092"
    )
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_SSL"],
        Meta(description="how clients talk to the brokers; SASL is within TLS only, so that no password is ever shown"),
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"], Meta(description="how SASL_SSL proves the password")
    ] = "SCRAM-SHA-512"
    kafka_username: Annotated[str, Meta(description="user of SASL_SSL")] = ""
    kafka_password_file: Annotated[str, Meta(description="file with the user's password, of mode 600 or 640")] = ""
    kafka_password: Annotated[str, Meta(description="the password itself, if there is no file")] = ""
    kafka_ca_file: Annotated[
        str, Meta(description="PEM of the authorities that sign the brokers' certificates; the system's by default")
    ] = ""
    kafka_cert_file: Annotated[str, Meta(description="PEM of the client's own certificate, if brokers want one")] = ""
    kafka_key_file: Annotated[str, Meta(description="PEM of its key, of mode 600 or 640")] = ""
    database_url: Annotated[
        str,
        Meta(
            pattern=r"^(sqlite|mysql)(\+[a-z]+)?://",
            description="where the replica is: mysql://user:password@host:port/name, or sqlite:///path of a file",
        ),
    ] = "sqlite:///data/replica.db"
    service: Annotated[
        str,
        Meta(
            pattern=r"^[a-z][a-z0-9-]{0,40}$|^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
            description="what this process is: teacher, gateway, users, lessons, progress, or module:Class of your own",
        ),
    ] = "teacher"
    data_dir: Annotated[str, Meta(min_length=1, description="folder of tables and read model, one per worker")] = "data"
    roles: Annotated[str, Meta(description="comma-separated of ingest, replicate, serve")] = "ingest,replicate,serve"
    host: Annotated[str, Meta(min_length=1, description="address that the web views listen on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="port that the web views listen on")] = 6066
    web_cert_file: Annotated[str, Meta(description="PEM of the web views' certificate: they speak TLS then")] = ""
    web_key_file: Annotated[str, Meta(description="PEM of its key, of mode 600 or 640")] = ""
    web_tokens_file: Annotated[
        str, Meta(description="file of lines reader:TOKEN and operator:TOKEN, of mode 600 or 640: who asks needs one")
    ] = ""
    web_open: Annotated[
        bool, Meta(description="listen beyond this machine without TLS or tokens: something in front protects")
    ] = False
    web_allowed_hosts: Annotated[
        str,
        Meta(description="names that it is asked by, comma-separated, beside HOST, ADVERTISED_HOST, addresses; *: any"),
    ] = ""
    web_max_connections: Annotated[
        Count, Meta(description="web connections open at once; for one more, the one waited for longest is closed")
    ] = 1_000
    web_max_requests: Annotated[
        Count, Meta(description="web requests under way at once; more get 503, but for probes, /health and /metrics")
    ] = 128
    web_idle_seconds: Annotated[Positive, Meta(description="a web connection without a request is closed")] = 75.0
    web_receive_seconds: Annotated[
        Positive, Meta(description="most time for a request to arrive, from its first byte to its last")
    ] = 10.0
    web_send_seconds: Annotated[
        Positive, Meta(description="most time that a client takes nothing more of its answer")
    ] = 20.0
    web_max_body_bytes: Annotated[
        Annotated[int, Meta(ge=0)], Meta(description="body of a request from which it gets 413 (none is ever read)")
    ] = 65_536
    niceness: Annotated[
        Annotated[int, Meta(ge=0, le=19)],
        Meta(description="how far this worker gives way to other processes of the machine; `up` sets 10 to ingest"),
    ] = 0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least important log record shown")
    ] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="how log records are written")] = "text"
    stale_after_seconds: Annotated[Positive, Meta(description="age from which an answer says stale")] = 5.0
    session_timeout_seconds: Annotated[
        Annotated[float, Meta(ge=1, le=300)], Meta(description="a silent worker loses its partitions after this")
    ] = 45.0
    drain_timeout_seconds: Annotated[
        Positive, Meta(description="most time to finish what was begun before giving up partitions; then it exits")
    ] = 20.0
    watchdog_timeout_seconds: Annotated[
        Positive, Meta(description="no progress for this long, not deliberately: the worker exits")
    ] = 60.0
    max_event_ahead_seconds: Annotated[
        Count, Meta(description="how far an event's time may be ahead of the broker's")
    ] = 600
    slice_records: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)], Meta(description="most records handed to an agent at once")
    ] = 500
    slice_bytes: Annotated[Count, Meta(description="about the most bytes handed to an agent at once")] = 1_000_000
    buffered_slices: Annotated[
        Annotated[int, Meta(ge=1, le=64)], Meta(description="slices under way per partition before fetching waits")
    ] = 8
    linger_seconds: Annotated[
        Annotated[float, Meta(ge=0, le=10)],
        Meta(description="how long records gather when few come: 0 is soonest, more costs less processor time"),
    ] = 0.04
    replica_batch_rows: Annotated[Count, Meta(description="most records of a partition in one transaction")] = 2_000
    replica_pool_size: Annotated[
        Count, Meta(description="connections for reading the replica; writing has three more")
    ] = 4
    replication_factor: Annotated[
        Annotated[int, Meta(ge=1, le=9)], Meta(description="of topics that are made; 1 with one broker")
    ] = 3
    min_insync_replicas: Annotated[
        Annotated[int, Meta(ge=1, le=9)], Meta(description="of topics that are made; 1 with one broker")
    ] = 2
    lag_threshold_messages: Annotated[Count, Meta(description="lag from which the pages warn")] = 1_000
    sync_latency_threshold_seconds: Annotated[
        Positive, Meta(description="average event-to-page time from which the pages warn")
    ] = 5.0
    unsynced_threshold_seconds: Annotated[
        Positive, Meta(description="a partition not seen level with its source for this long is marked")
    ] = 3_600.0

    register: Annotated[
        bool, Meta(description="a teacher worker tells the gateway that it is there (other services always do)")
    ] = False
    advertised_host: Annotated[
        str,
        Meta(
            pattern=rf"^$|{HOST_PATTERN}",
            description="where others reach this process; HOST, or the machine's name if that is any",
        ),
    ] = ""
    instance_name: Annotated[
        str,
        Meta(
            pattern=r"^$|^[A-Za-z0-9._@:\[\]-]{1,100}\Z",
            description="how brokers, lag pages and metrics name this process (client.id); by default host:port",
        ),
    ] = ""
    service_database_url: Annotated[
        str,
        Meta(
            pattern=r"^$|^(sqlite|mysql)(\+[a-z]+)?://",
            description="database of a service that has one; empty: an SQLite file in DATA_DIR",
        ),
    ] = ""
    reply_partition: Annotated[
        Annotated[int, Meta(ge=0)],
        Meta(description="partition of the reply topic that answers to this process come to: one of its own each"),
    ] = 0
    circuit_breaker_threshold: Annotated[
        Count, Meta(description="calls of a service that fail one after the other until it is not called any more")
    ] = 5
    circuit_breaker_timeout: Annotated[
        Count, Meta(description="milliseconds until it is tried again with one call")
    ] = 60_000
    gateway_max_calls: Annotated[
        Count,
        Meta(description="most calls of one route under way at once; the gateway allows fewer while they are slow"),
    ] = 64
    gateway_call_goal_seconds: Annotated[
        Positive, Meta(description="latency of requests over Kafka above which the gateway allows fewer at once")
    ] = 0.1
    gateway_page_goal_seconds: Annotated[
        Positive, Meta(description="latency of other services' pages above which the gateway allows fewer at once")
    ] = 0.02

    git_commit: Annotated[str, Meta(description="commit this was built from, as /info tells it")] = ""

    def __repr__(self) -> str:
        """Without passwords: a setting that ends up in a log must not tell them."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, _shown(name, getattr(self, name))) for name in self.__struct_fields__]

    def roles_enabled(self) -> frozenset[Role]:
        """The roles of this worker; raises InvalidSetting."""
        named = [part.strip().lower() for part in self.roles.split(",")]
        unknown = [name for name in named if name not in ROLES]
        if unknown:
            raise InvalidSetting(f"ROLES={self.roles!r}: {unknown[0]!r} is none of {', '.join(ROLES)}")
        return frozenset(named)  # type: ignore[arg-type]

    @property
    def reached_at(self) -> str:
        """Host by which others reach this process."""
        if self.advertised_host:
            return self.advertised_host
        return socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host

    @property
    def instance(self) -> str:
        """The name of this process among all: INSTANCE_NAME, or where its pages are."""
        if self.instance_name:
            return self.instance_name
        host = self.reached_at
        return f"[{host}]:{self.port}" if ":" in host and not host.startswith("[") else f"{host}:{self.port}"

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir)

    @property
    def bootstrap_servers(self) -> list[str]:
        return [server.strip() for server in self.kafka_brokers.split(",")]

    def kafka_client(self) -> dict[str, Any]:
        """What every Kafka client of ours is made with."""
        return {"bootstrap_servers": self.bootstrap_servers, **kafka_security.client_arguments(self)}


def read(environment: Mapping[str, str]) -> Settings:
    """Settings of an environment; raises InvalidSetting with one line that names the variable."""
    hints = get_type_hints(Settings, include_extras=True)
    texts = {name: _text(name, environment.get(name.upper(), "")) for name in hints}
    given = {name: text for name, text in texts.items() if text}
    values = {name: _convert(name, text, hints[name]) for name, text in given.items()}
    settings = Settings(**values)
    settings.roles_enabled()
    broker_addresses.addresses(settings.kafka_brokers)
    _check_databases(given)
    kafka_security.check(settings)
    return settings


def _text(name: str, text: str) -> str:
    """A value without the white space around it; raises InvalidSetting for characters that no value has.

    Those that cannot be seen come from a file's last line or from a terminal, and would end up in logs and addresses.
    """
    found = text if name == "kafka_password" else text.strip()
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in found):
        shown = ascii(_shown(name, found))
        raise InvalidSetting(
            f"{name.upper()}={shown} is not allowed: it has a control character, or bytes that are not UTF-8"
        )
    return found


def _check_databases(given: Mapping[str, str]) -> None:
    """Raises InvalidSetting."""
    for name in ("database_url", "service_database_url"):
        if name in given:
            from emis_streams import database_urls  # SQLAlchemy takes a moment, and commands should answer at once.

            database_urls.parse(given[name], name.upper())


def _convert(name: str, text: str, hint: Any) -> Any:
    kind = _without_annotations(hint)
    try:
        if get_origin(kind) is Literal:
            text = _literal(text, get_args(kind))
        value = msgspec.convert(text, hint, strict=False)
        if kind in (int, float) and value > _LARGEST:
            raise msgspec.ValidationError
        return value
    except msgspec.ValidationError:
        shown = _shown(name, text)
        allowed = "" if kind is str else f"it must be {_allowed(kind, hint)}: "
        raise InvalidSetting(f"{name.upper()}={shown!r} is not allowed: {allowed}{describe(hint)}") from None


_LARGEST = 2**31 - 1
"""Of all numbers: timers, sockets and databases do not take any number."""
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _allowed(kind: Any, hint: Any) -> str:
    """What values a field takes, in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    bounds = {"gt": "above {:,}", "ge": "of at least {:,}", "le": "and at most {:,}"}
    metas = [part for part in _metas(hint) if isinstance(part, Meta)]
    said = [
        text.format(bound) for name, text in bounds.items() for m in metas if (bound := getattr(m, name)) is not None
    ]
    if kind in (int, float) and not any(m.le is not None for m in metas):
        said.append(f"and at most {_LARGEST:,}")
    return " ".join([_KINDS[kind], *said])


def _metas(hint: Any) -> list[Any]:
    """The annotations of a field, the inner ones first."""
    return [*_metas(get_args(hint)[0]), *hint.__metadata__] if get_origin(hint) is Annotated else []


def _without_annotations(hint: Any) -> Any:
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint


def _literal(text: str, allowed: tuple[str, ...]) -> str:
    """The one that is meant, whether in capitals or not; else the text as it is."""
    return next((one for one in allowed if one.lower() == text.lower()), text)


def _shown(name: str, value: Any) -> Any:
    if name == "kafka_password":
        return Secret(value)
    return secret_urls.masked(value) if name.endswith("database_url") else value


def describe(hint: Any) -> str:
    """The text behind a field."""
    for part in getattr(hint, "__metadata__", ()):
        if isinstance(part, Meta) and part.description:
            return part.description
    return ""


def doubts(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A line for each variable that looks like a misspelt setting. Nothing is refused: it may be another program's."""
    known = [name.upper() for name in Settings.__struct_fields__]
    return [
        f"{ascii(name)[1:-1]} is no setting of this program, and is left alone: is {nearest} meant?"
        for name, nearest in setting_names.nearly_right(environment, known).items()
    ]


@cache
def current() -> Settings:
    """The settings of this process, read at the first call."""
    return read(os.environ)
