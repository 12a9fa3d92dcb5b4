"""Who is there: instances of services, each with a lease that its heartbeats renew."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from emis_streams.errors import UNREADABLE_JSON, InvalidEvent
from emis_streams.settings import HOST_PATTERN

MOST_INFO_BYTES = 32_768
"""Of what an instance tells of itself: several hundred patterns."""
_Word = Annotated[str, Meta(min_length=1, max_length=255)]


class Health(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An instance, as it tells of itself."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,200}\Z")]
    version: _Word
    host: Annotated[str, Meta(pattern=HOST_PATTERN)]
    port: Annotated[int, Meta(ge=1, le=65_535)]
    started_at: Annotated[datetime, Meta(tz=True)]
    patterns: Annotated[tuple[_Word, ...], Meta(max_length=1_000)] = ()
    """Of the requests that it answers."""
    is_draining: bool = False
    """It finishes what it has begun and takes nothing new."""
    instance_name: Annotated[str, Meta(max_length=255)] = ""
    """How brokers name it as a member of groups, if that is not host:port."""
    health: Health = Health.HEALTHY
    """By its own checks, when it last told."""

    @property
    def instance(self) -> str:
        """The same after a restart, which so takes the place of what was before."""
        return f"{self.name}@{self.host}:{self.port}"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ServiceInfo).decode


def record_of(info: ServiceInfo) -> tuple[bytes, bytes]:
    """Key and value of the record by which an instance tells of itself. Raises ValueError if nobody would read it."""
    key, value = info.instance.encode(), _encode(info)
    try:
        info_of(key, value)
    except InvalidEvent as reason:
        raise ValueError(f"{info.instance} cannot be registered: {reason}") from None
    return key, value


def info_of(key: bytes | None, value: bytes) -> ServiceInfo:
    """What a record tells of an instance, whatever its bytes are. Raises InvalidEvent: it tells of none."""
    if len(value) > MOST_INFO_BYTES:
        raise InvalidEvent(f"{len(value)} bytes, {MOST_INFO_BYTES} at most")
    try:
        info = _decode(value)
    except UNREADABLE_JSON as error:
        raise InvalidEvent(str(error)) from None
    if key != info.instance.encode():
        raise InvalidEvent(f"the key is not {info.instance}")
    return info


class ServiceRegistry(Protocol):
    """In one process (`InMemoryRegistry`) or shared by all (`registry_topic.TopicRegistry`)."""

    async def register(self, info: ServiceInfo) -> None:
        """The instance is there from now on, as it tells; again when something of it has changed."""

    async def deregister(self, info: ServiceInfo) -> None:
        """The instance goes."""

    def get_all(self) -> list[ServiceInfo]:
        """All that are there, draining ones too, sorted by instance."""


def instances(registry: ServiceRegistry, name: str) -> list[ServiceInfo]:
    """Those of the service that take requests, sorted by instance."""
    return [info for info in registry.get_all() if info.name == name and not info.is_draining]


def get(registry: ServiceRegistry, name: str) -> ServiceInfo | None:
    """An instance of the service that takes requests: a healthy one, if there is one."""
    order = list(Health)
    return min(instances(registry, name), key=lambda info: order.index(info.health), default=None)


def health_check(registry: ServiceRegistry, name: str) -> Health:
    """Of the service: that of its healthiest instance, `unhealthy` if none takes requests."""
    found = get(registry, name)
    return Health.UNHEALTHY if found is None else found.health


class InMemoryRegistry:
    """Of one process: there are no leases, as nobody dies alone."""

    def __init__(self) -> None:
        self._of: dict[str, ServiceInfo] = {}

    async def register(self, info: ServiceInfo) -> None:
        self._of[info.instance] = info

    async def deregister(self, info: ServiceInfo) -> None:
        self._of.pop(info.instance, None)

    def get_all(self) -> list[ServiceInfo]:
        return [self._of[instance] for instance in sorted(self._of)]
