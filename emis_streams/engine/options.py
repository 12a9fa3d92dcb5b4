"""What can be set about the engine; an App carries one of these."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list

from emis_streams.engine.hints import Hint

_DEFAULT_PORT = 9092


@dataclass(frozen=True, kw_only=True)
class Options:
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """More keyword arguments of the engine's own Kafka clients; `broker` and `broker_credentials` of the app are known.
    """
    slice_records: int = 500
    slice_bytes: int = 1_000_000
    buffered_slices: int = 8
    """Slices under way of a partition before fetching waits."""
    linger_seconds: float = 0.04
    """How long records gather before the next fetch when there is no backlog: each slice has a price."""
    drain_timeout_seconds: float = 20.0
    watchdog_timeout_seconds: float | None = 60.0
    """The process ends (exit code 75) when nothing makes progress for so long. None: no watchdog."""
    changelog_compression: str | None = None
    hints: Mapping[Hint, str] = field(default_factory=dict)
    """What the application tells operators to do, in place of the engine's own words."""


def options_of(app: Any) -> Options:
    return cast(Options, app.engine_options)


def brokers_of(app: Any) -> list[str]:
    """host:port of each broker that `broker=` (or `broker_consumer=`) of the app names."""
    return server_list(app.conf.broker_consumer, _DEFAULT_PORT)


def client_of(app: Any) -> dict[str, Any]:
    """Keyword arguments of every Kafka client of the engine's own.

    The app's brokers and credentials, as Faust's own consumer has them; what `Options.client` says comes first.
    """
    conf = app.conf
    auth = credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context)
    return {"bootstrap_servers": brokers_of(app), **auth, **options_of(app).client}


def other_brokers(app: Any) -> list[str]:
    """The brokers of `Options.client`, if they are not those of the app."""
    given = options_of(app).client.get("bootstrap_servers")
    servers = [] if given is None else given.split(",") if isinstance(given, str) else list(given)
    return [] if not servers or _comparable(servers) == _comparable(brokers_of(app)) else servers


def _comparable(servers: Iterable[str]) -> set[str]:
    return {server.strip().replace("localhost:", "127.0.0.1:") for server in servers}
