"""Who is there: instances of services, each with a lease that its heartbeats renew."""

from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec


class Health(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An instance, as it tells of itself."""

    name: str
    version: str
    host: str
    port: int
    started_at: datetime
    patterns: tuple[str, ...] = ()
    """Of the requests that it answers."""
    is_draining: bool = False
    """It finishes what it has begun and takes nothing new."""
    health: Health = Health.HEALTHY
    """By its own checks, when it last told."""

    @property
    def instance(self) -> str:
        """The same after a restart, which so takes the place of what was before."""
        return f"{self.name}@{self.host}:{self.port}"


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
