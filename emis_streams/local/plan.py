"""What `emis-streams up` starts, worked out from the settings; nothing is started here."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from emis_streams import exposure
from emis_streams.errors import InvalidSetting
from emis_streams.services.catalogue import SERVICES
from emis_streams.services.gateway import GatewayService
from emis_streams.settings import ROLES, Settings

T = TypeVar("T")
_DEFAULTS = Settings()
_LOOPBACK = ("localhost", "127.0.0.1")
_LAST_PORT = 65_535
SESSION_TIMEOUT_SECONDS = 10.0
"""A killed worker's partitions are free again after this; Kafka's 45 s are long for one who watches."""

INGEST_NICENESS = 10
"""Whoever looks at a page comes first (docs/decisions/0012-pages-first.md)."""


@dataclass(frozen=True)
class Worker:
    """One process, a worker or a service, and its settings."""

    name: str
    settings: Settings
    command: tuple[str, ...] = ("worker",)
    """Of ours."""
    port_setting: str = "PORT"
    """What to change if its port is taken."""

    def environment(self) -> dict[str, str]:
        values = msgspec.structs.asdict(self.settings)
        return {name.upper(): str(value) for name, value in values.items()}


@dataclass(frozen=True)
class Plan:
    """Everything that will run."""

    settings: Settings
    """What topics, migrations and sample data are made with."""
    kafka_ports: tuple[int, ...]
    workers: tuple[Worker, ...]
    services: tuple[Worker, ...] = ()

    @property
    def serving(self) -> Worker:
        """The worker whose pages are shown."""
        return next(w for w in self.workers if "serve" in w.settings.roles_enabled())

    @property
    def gateway(self) -> Worker | None:
        """None without services."""
        return next((w for w in self.services if w.name == GatewayService.name), None)

    @property
    def processes(self) -> tuple[Worker, ...]:
        """Workers and services."""
        return (*self.workers, *self.services)

    @property
    def web_host(self) -> str:
        """Where this machine reaches the pages."""
        return "127.0.0.1" if self.settings.host in ("0.0.0.0", "localhost") else self.settings.host


def make(settings: Settings, *, n_brokers: int, one_process: bool, gateway_port: int | None = None) -> Plan:
    """With services if the gateway is given a port: the others' follow it.

    Raises InvalidSetting when KAFKA_BROKERS names another machine, or ports leave no room."""
    _check_security(settings)
    data = settings.data_path.absolute()
    common = msgspec.structs.replace(
        settings,
        data_dir=str(data),
        database_url=_database_url(settings, data),
        session_timeout_seconds=_unless_set(settings, "session_timeout_seconds", SESSION_TIMEOUT_SECONDS),
        replication_factor=3 if n_brokers >= 3 else 1,
        min_insync_replicas=2 if n_brokers >= 3 else 1,
    )
    ports = kafka_ports(settings.kafka_brokers, n_brokers)
    common = msgspec.structs.replace(common, kafka_brokers=",".join(f"127.0.0.1:{port}" for port in ports))
    if gateway_port is None:
        return Plan(common, ports, _workers(common, data, one_process=one_process))
    registering = msgspec.structs.replace(common, register=True)
    services = _services(common, data, gateway_port)
    return Plan(common, ports, _workers(registering, data, one_process=one_process), services)


def _check_security(settings: Settings) -> None:
    """`up` is for one machine: its brokers have no TLS, and it asks its workers' pages itself."""
    for name in ("kafka_security_protocol", "web_cert_file", "web_tokens_file"):
        if getattr(settings, name) != getattr(_DEFAULTS, name):
            raise InvalidSetting(f"{name.upper()} is not allowed with `up`, which is for one machine: leave it out")
    exposure.check(settings)


def kafka_ports(kafka_brokers: str, n_brokers: int) -> tuple[int, ...]:
    """Those named in KAFKA_BROKERS; the ones after the first if it names only one."""
    named = []
    for server in kafka_brokers.split(","):
        host, _, port = server.strip().rpartition(":")
        if host not in _LOOPBACK or not port.isdigit():
            raise InvalidSetting(
                f"KAFKA_BROKERS={kafka_brokers!r}: `up` starts its own brokers, so it must name localhost:PORT; "
                "for a cluster that runs elsewhere start `emis-streams worker`"
            )
        named.append(int(port))
    if len(named) == 1:
        named = [named[0] + i for i in range(n_brokers)]
    if max(named) > _LAST_PORT:
        raise InvalidSetting(
            f"KAFKA_BROKERS={kafka_brokers!r}: ports of {n_brokers} brokers must be at most {_LAST_PORT}"
        )
    if len(named) != n_brokers:
        raise InvalidSetting(f"KAFKA_BROKERS={kafka_brokers!r} names {len(named)} brokers, but --brokers {n_brokers}")
    return tuple(named)


def _workers(common: Settings, data: Path, *, one_process: bool) -> tuple[Worker, ...]:
    if one_process:
        return (_worker("all", common, data, roles=",".join(ROLES), port=common.port),)
    if common.port == _LAST_PORT:
        raise InvalidSetting("PORT=65535: the ingesting worker listens on the next port; choose a lower one")
    giving_way = msgspec.structs.replace(common, niceness=_unless_set(common, "niceness", INGEST_NICENESS))
    return (
        _worker("ingest", giving_way, data, roles="ingest,replicate", port=common.port + 1),
        _worker("serve", common, data, roles="serve", port=common.port),
    )


def _services(common: Settings, data: Path, gateway_port: int) -> tuple[Worker, ...]:
    """Each with its own port, as far from the gateway's as by default."""
    if gateway_port > _LAST_PORT - len(SERVICES):
        raise InvalidSetting(f"--gateway-port {gateway_port}: the other services listen on the ports after it")
    return tuple(
        Worker(
            name,
            msgspec.structs.replace(
                common,
                service=name,
                data_dir=str(data / "services" / name),
                port=gateway_port + kind.port - GatewayService.port,
            ),
            ("run", name),
            "--gateway-port (the other services have the ports after it)",
        )
        for name, kind in SERVICES.items()
    )


def _worker(name: str, common: Settings, data: Path, *, roles: str, port: int) -> Worker:
    folder = str(data / "workers" / name)
    return Worker(name, msgspec.structs.replace(common, data_dir=folder, roles=roles, port=port))


def _database_url(settings: Settings, data: Path) -> str:
    return _unless_set(settings, "database_url", f"sqlite:///{data / 'replica.db'}")


def _unless_set(settings: Settings, name: str, local: T) -> T:
    given: T = getattr(settings, name)
    return local if given == getattr(_DEFAULTS, name) else given
