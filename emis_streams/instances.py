"""Who is there: this process, what the registry tells, and the members of groups as the brokers see them."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from emis_streams import __version__
from emis_streams.instance_tracker import Instance, Source
from emis_streams.lag_report import GroupLag
from emis_streams.node import Node
from emis_streams.services.registry import ServiceInfo
from emis_streams.services.service import Service
from emis_streams.topics import APP_ID, REPLICA_GROUP

TEACHER = "teacher"
_GROUPS = frozenset({APP_ID, REPLICA_GROUP})
WATCH_EVERY_SECONDS = 2.0


async def watch(node: Node) -> None:
    """Until cancelled: an instance is missing since it was last seen, whether somebody looked or not."""
    while True:
        note(node)
        await asyncio.sleep(WATCH_EVERY_SECONDS)


def note(node: Node) -> None:
    """Takes down who is there now."""
    now = datetime.fromtimestamp(node.clock.unix_seconds(), UTC)
    groups = _groups(node)
    service = node.service if _reads_registry(node.service) else None
    known = sources_known(node)
    registered = [] if service is None else service.registry.get_all()
    lapsed = [] if service is None else service.registry.lapsed()
    unwell = {} if service is None else service.registry.unwell_seconds()
    since = {instance: now - timedelta(seconds=seconds) for instance, seconds in unwell.items()}
    of_registry = [_of_registry(info, since.get(info.instance)) for info in registered]
    there = merged([_self(node), *of_registry, *_of_groups(groups or ())])
    gone = [_lapsed(info, now - timedelta(seconds=seconds)) for info, seconds in lapsed]
    node.instances.note(now, there, gone, known)


def sources_known(node: Node) -> set[Source]:
    """Which sources tell something now; of the others, what they told last stands."""
    known: set[Source] = {"self"}
    if _groups(node) is not None:
        known.add("groups")
    if _reads_registry(node.service):
        known.add("registry")
    return known


def _reads_registry(service: Service | None) -> bool:
    """Only from the end of the registry on is it known who is not there."""
    return service is not None and service.registry.level.is_set() and service.registry.waiting_for is None


def _groups(node: Node) -> tuple[GroupLag, ...] | None:
    """The workers' groups; None while the brokers do not tell."""
    report = None if node.lag is None else node.lag.snapshot()
    if report is None or report.error is not None:
        return None
    return tuple(group for group in report.groups if group.group_id in _GROUPS)


def _self(node: Node) -> Instance:
    config = node.settings
    return Instance(
        name=config.instance,
        service=TEACHER if node.service is None else node.service.name,
        address=f"{config.reached_at}:{config.port}",
        sources=("self",),
        health=node.health,
        health_since=node.health_since,
        version=__version__,
        started_at=node.started_at,
    )


def _of_registry(info: ServiceInfo, unwell_since: datetime | None = None) -> Instance:
    return Instance(
        name=info.instance_name or f"{info.host}:{info.port}",
        service=info.name,
        address=f"{info.host}:{info.port}",
        sources=("registry",),
        health=info.health.value,
        health_since=unwell_since,
        is_draining=info.is_draining,
        version=info.version,
        started_at=info.started_at,
    )


def _lapsed(info: ServiceInfo, last: datetime) -> Instance:
    gone = _of_registry(info)
    return Instance(
        name=gone.name, service=gone.service, address=gone.address, sources=gone.sources, version=gone.version,
        started_at=gone.started_at, missing_since=last,
    )  # fmt: skip


def _of_groups(groups: Iterable[GroupLag]) -> Iterable[Instance]:
    for group in groups:
        for name in {client.client_id for client in group.clients}:
            n = sum(1 for p in group.partitions if p.owner is not None and p.owner.client_id == name)
            yield Instance(
                name=name, service=TEACHER, address=None, sources=("groups",), groups=(group.group_id,), partitions=n
            )


def merged(found: Iterable[Instance]) -> list[Instance]:
    """One of each name, with what all sources tell of it."""
    by_name: dict[str, Instance] = {}
    for one in found:
        other = by_name.get(one.name)
        by_name[one.name] = one if other is None else _both(other, one)
    return list(by_name.values())


def _both(first: Instance, second: Instance) -> Instance:
    sources: tuple[Source, ...] = tuple(dict.fromkeys((*first.sources, *second.sources)))
    return Instance(
        name=first.name,
        service=first.service,
        address=first.address or second.address,
        sources=sources,
        groups=tuple(sorted({*first.groups, *second.groups})),
        partitions=first.partitions + second.partitions,
        health=first.health or second.health,
        health_since=first.health_since or second.health_since,
        is_draining=first.is_draining or second.is_draining,
        version=first.version or second.version,
        started_at=first.started_at or second.started_at,
    )
