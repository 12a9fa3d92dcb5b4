"""Brokers that are killed, frozen, restarted or out of reach, of all workers or of worker 3 alone."""

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from emis_streams.local.kafka import KafkaNode
from tests.faults.checker.stores import CHANGELOGS
from tests.faults.course import Course, Evidence, Row
from tests.faults.proxy import Proxy
from tests.faults.rows import told
from tests.faults.stage import FaultWorker, NotInTime, Stage, until
from tests.integration.independent import GROUP, SOURCES

_ASK_SECONDS = 5.0
_IN_SYNC_SECONDS = 60.0
_MOVED_SECONDS = 20.0
_STOP_SECONDS = 15.0
_FROZEN_SECONDS = 12.0
_FLAG_SECONDS = 9.0
"""From when the brokers are out of reach until a worker must say that it may be behind: the limit, and room to ask."""
_NEED_NO_ROW_SHARE = 0.1
"""Of events that come: late ones and those that are sent again change nothing, and are committed without a row."""


# -- roles of brokers -----------------------------------------------------------------------------


class Place(NamedTuple):
    topic: str
    partition: int


def _offsets_partition(group: str) -> int:
    """Of __consumer_offsets (as many as kafka_config says), as Kafka has it: Java's hash of the group's name."""
    hashed = 0
    for letter in group:
        hashed = (31 * hashed + ord(letter)) & 0xFFFFFFFF
    return (hashed & 0x7FFFFFFF) % 4


GROUPS_OFFSETS = Place("__consumer_offsets", _offsets_partition(GROUP))
"""Its leader is the group's coordinator."""


async def metadata(brokers: str) -> ClusterMetadata:
    """As a stranger sees it (librdkafka); raises KafkaException."""
    admin = AdminClient({"bootstrap.servers": brokers})
    return await asyncio.to_thread(admin.list_topics, timeout=_ASK_SECONDS)


async def leader_of(stage: Stage, place: Place, brokers: str | None = None) -> int:
    """-1: none."""
    known = await metadata(brokers or stage.brokers)
    return int(known.topics[place.topic].partitions[place.partition].leader)


async def coordinator_of(stage: Stage, group: str) -> int:
    admin = AdminClient({"bootstrap.servers": stage.brokers})
    asked = admin.describe_consumer_groups([group], request_timeout=_ASK_SECONDS)[group]
    return int((await asyncio.wrap_future(asked)).coordinator.id)


def controller_of(stage: Stage) -> tuple[int, int]:
    """Epoch and node of the metadata quorum's leader, by the nodes' own newest word."""
    written = [path.read_text() for path in stage.kafka.folder.glob("*/data/__cluster_metadata-0/quorum-state")]
    states = [json.loads(text) for text in written]
    return max((state["leaderEpoch"], state["leaderId"]) for state in states)


def node_of(stage: Stage, node_id: int) -> KafkaNode:
    return next(node for node in stage.kafka.nodes if node.endpoint.node_id == node_id)


def others(stage: Stage, node: KafkaNode) -> list[KafkaNode]:
    return [other for other in stage.kafka.nodes if other is not node]


async def all_in_sync(stage: Stage) -> None:
    """Until every partition has all its replicas: a fault on what is still mending would be two faults."""

    async def is_so() -> bool:
        topics = (await metadata(stage.brokers)).topics.values()
        return all(len(p.isrs) == len(p.replicas) for topic in topics for p in topic.partitions.values())

    await until(is_so, _IN_SYNC_SECONDS, "all replicas are in sync", 0.5)


async def start_again(course: Course, nodes: Sequence[KafkaNode]) -> float:
    """Returns when all of them answered (monotonic)."""
    for node in nodes:
        if not node.process.running:
            node.process.start()
    for node in nodes:
        await course.stage.start_broker(node)
    return time.monotonic()


# -- one broker -----------------------------------------------------------------------------------


async def leader_killed(course: Course) -> Evidence:
    """The leader of a partition with load dies; another one is elected."""
    place = Place("emis.class.updated", 0)
    await all_in_sync(course.stage)
    before = await leader_of(course.stage, place)
    victim = node_of(course.stage, before)
    pid, killed_at = victim.process.pid, time.monotonic()
    victim.process.kill()

    async def has_moved() -> bool:
        return await leader_of(course.stage, place) not in (before, -1)

    await until(has_moved, _MOVED_SECONDS, f"{place} has another leader", 0.2)
    moved_after = time.monotonic() - killed_at
    await course.rest(4)
    await start_again(course, [victim])
    return Evidence(
        bit=victim.process.pid != pid,
        healed_at=killed_at,
        said={"leader": before, "moved_after_s": round(moved_after, 1)},
    )


async def coordinator_killed(course: Course) -> Evidence:
    """The broker that keeps the ingesting group's members and offsets dies."""
    stage = course.stage
    await all_in_sync(stage)
    before = await coordinator_of(stage, GROUP)
    victim = node_of(stage, before)
    killed_at = time.monotonic()
    victim.process.kill()

    async def has_moved() -> bool:
        return await leader_of(stage, GROUPS_OFFSETS) not in (before, -1)

    await until(has_moved, _MOVED_SECONDS, "the group has another coordinator", 0.2)
    moved_after = time.monotonic() - killed_at
    after = await leader_of(stage, GROUPS_OFFSETS)
    await course.rest(4)
    await start_again(course, [victim])
    return Evidence(
        bit=after != before,
        healed_at=killed_at,
        said={"coordinator": [before, after], "moved_after_s": round(moved_after, 1)},
    )


async def controller_killed(course: Course) -> Evidence:
    """The leader of the metadata quorum dies."""
    stage = course.stage
    await all_in_sync(stage)
    before_epoch, before = controller_of(stage)
    victim = node_of(stage, before)
    killed_at = time.monotonic()
    victim.process.kill()

    def has_moved() -> bool:
        epoch, node_id = controller_of(stage)
        return epoch > before_epoch and node_id not in (before, -1)

    await until(has_moved, _MOVED_SECONDS, "there is another controller")
    moved_after = time.monotonic() - killed_at
    await course.rest(4)
    await start_again(course, [victim])
    return Evidence(
        bit=controller_of(stage)[0] > before_epoch,
        healed_at=killed_at,
        said={"controller": [before, controller_of(stage)[1]], "moved_after_s": round(moved_after, 1)},
    )


async def broker_frozen(course: Course) -> Evidence:
    """The group's coordinator stands still, longer than the session: its connections stay, and never answer."""
    stage = course.stage
    await all_in_sync(stage)
    before = await coordinator_of(stage, GROUP)
    victim = node_of(stage, before)
    running = ",".join(f"{n.endpoint.host}:{n.endpoint.broker_port}" for n in others(stage, victim))
    frozen_at = time.monotonic()
    victim.process.send_signal(signal.SIGSTOP)

    async def has_moved() -> bool:
        return await leader_of(stage, GROUPS_OFFSETS, running) not in (before, -1)

    try:
        await until(has_moved, _FROZEN_SECONDS, "the group has another coordinator", 0.3)
        moved_after = time.monotonic() - frozen_at
        await course.rest(max(0.0, frozen_at + _FROZEN_SECONDS - time.monotonic()))
    finally:
        victim.process.send_signal(signal.SIGCONT)
    return Evidence(
        bit=moved_after < _FROZEN_SECONDS,
        healed_at=time.monotonic(),
        said={"coordinator": before, "moved_after_s": round(moved_after, 1)},
    )


# -- below min ISR --------------------------------------------------------------------------------


async def two_of_three_killed(course: Course) -> Evidence:
    """Nothing can be acknowledged, and nobody can be elected; the pages go on."""
    await all_in_sync(course.stage)
    victims = course.stage.kafka.nodes[1:]
    killed_at = time.monotonic()
    _kill(victims)
    n_acked = await _acknowledged_during(course, 8)
    healed_at = await start_again(course, victims)
    return Evidence(
        bit=n_acked == 0,
        healed_at=healed_at,
        said={"acked_in_it": n_acked, "away_s": round(healed_at - killed_at, 1)},
    )


async def changelogs_below_min_isr(course: Course) -> Evidence:
    """Sources and offsets take what comes, changelogs refuse it, and a worker is killed: was it committed too early?

    Offsets can be committed all the time here. What a worker had committed without a changelog that
    has acknowledged is lost with it.
    """
    stage = course.stage
    await all_in_sync(stage)
    broker = others(stage, node_of(stage, await coordinator_of(stage, GROUP)))[0]
    await _set_min_isr(stage, "3")
    broker.process.kill()
    await course.rest(5)  # The ISR has shrunk; what is committed for earlier acknowledgements is through.
    begun, killed = await course.progress(), course.workers[0]
    await course.rest(2)
    killed.kill()
    ended = await course.progress()
    await _set_min_isr(stage, "2")
    killed.start()
    healed_at = await start_again(course, [broker])
    n_refused = sum("NotEnoughReplicas" in worker.log() for worker in course.workers)
    n_committed, n_came = ended.committed - begun.committed, ended.end - begun.end
    return Evidence(
        bit=n_came > 0 and n_committed <= _NEED_NO_ROW_SHARE * n_came,
        healed_at=healed_at,
        said={"committed_in_it": n_committed, "came": n_came, "told": n_refused},
    )


async def drained_below_min_isr(course: Course) -> Evidence:
    """A worker is told to stop while nothing can be acknowledged: it ends in time, and what it held is not lost."""
    await all_in_sync(course.stage)
    victims, leaving = course.stage.kafka.nodes[1:], course.workers[0]
    killed_at = time.monotonic()
    _kill(victims)
    await course.rest(2)
    n_acked, told_at = _n_acknowledged(course), time.monotonic()
    bound_seconds = leaving.settings.drain_timeout_seconds + 5
    in_time = await leaving.stop(bound_seconds)
    took, code = time.monotonic() - told_at, leaving.process.returncode
    n_acked = _n_acknowledged(course) - n_acked
    healed_at = await start_again(course, victims)
    leaving.start()
    figures = {"ended_after_s": round(took, 1), "exit_code": code, "acked_in_it": n_acked}
    return Evidence(
        bit=n_acked == 0,
        healed_at=healed_at,
        said={**figures, "away_s": round(healed_at - killed_at, 1)},
        broken=[] if in_time else [f"told to stop, it had not ended after {bound_seconds:g} s"],
    )


def _kill(nodes: Sequence[KafkaNode]) -> None:
    for node in nodes:
        node.process.send_signal(signal.SIGKILL)
    for node in nodes:
        node.process.kill()


async def _acknowledged_during(course: Course, seconds: float) -> int:
    """How many events the brokers acknowledged, but for the first second, in which what was under way comes in."""
    await course.rest(1)
    before = _n_acknowledged(course)
    await course.rest(seconds - 1)
    return _n_acknowledged(course) - before


def _n_acknowledged(course: Course) -> int:
    text = (course.folder / "sends.jsonl").read_text(encoding="utf-8")
    return sum(json.loads(line)["acked"] is not None for line in text.splitlines() if line.endswith("}"))


async def _set_min_isr(stage: Stage, value: str) -> None:
    """Of the changelogs alone."""
    await told.configure(stage, CHANGELOGS, {"min.insync.replicas": value})


# -- the whole cluster ----------------------------------------------------------------------------


async def restarted(course: Course) -> Evidence:
    """All brokers are told to stop, and started again."""
    return await _all_down(course, signal.SIGTERM)


async def all_killed(course: Course) -> Evidence:
    """All brokers die in the same moment."""
    return await _all_down(course, signal.SIGKILL)


async def _all_down(course: Course, number: signal.Signals) -> Evidence:
    await all_in_sync(course.stage)
    nodes = course.stage.kafka.nodes
    pids = [node.process.pid for node in nodes]
    down_at = time.monotonic()
    for node in nodes:
        node.process.send_signal(number)
    in_time = await asyncio.gather(*(asyncio.to_thread(node.process.wait, _STOP_SECONDS) for node in nodes))
    _kill(nodes)
    healed_at = await start_again(course, nodes)
    return Evidence(
        bit=not {node.process.pid for node in nodes} & set(pids),
        healed_at=healed_at,
        said={"ended_in_time": in_time, "away_s": round(healed_at - down_at, 1)},
    )


# -- the network of worker 3 ----------------------------------------------------------------------


def _far_worker(course: Course) -> FaultWorker:
    return course.workers[2]


async def deaf_up(course: Course) -> Evidence:
    """What worker 3 sends to its coordinator vanishes."""
    return await _deaf(course, [await _coordinators_proxy(course)], 12, swallow_up=True)


async def deaf_down(course: Course) -> Evidence:
    """What worker 3's coordinator answers vanishes: it acts on what it is sent, and nobody hears."""
    return await _deaf(course, [await _coordinators_proxy(course)], 12, swallow_down=True)


async def _coordinators_proxy(course: Course) -> Proxy:
    return course.stage.broker_proxies[await coordinator_of(course.stage, GROUP) - 1]


async def cut_shortly(course: Course) -> Evidence:
    """Worker 3 reaches no broker for 5 s, less than its session."""
    return await _deaf(course, course.stage.broker_proxies, 5, swallow_up=True, swallow_down=True)


async def cut_long(course: Course) -> Evidence:
    """Worker 3 reaches no broker for longer than its session: it says that it may be behind."""
    cut_at = time.monotonic()
    flagged: list[float] = []

    async def look() -> None:
        key = course.district.teachers[0]

        async def is_flagged() -> bool:
            _, body = await asyncio.to_thread(_far_worker(course).get, f"/api/teachers/{key}")
            return body is not None and body.get("stale") is True

        await until(is_flagged, 13, "worker 3 says that it is stale", 0.2)
        flagged.append(time.monotonic() - cut_at)

    looking = asyncio.create_task(look())
    evidence = await _deaf(course, course.stage.broker_proxies, 14, swallow_up=True, swallow_down=True)
    try:
        await looking
    except NotInTime as late:
        evidence.broken.append(str(late))
    if flagged and flagged[0] > _FLAG_SECONDS:
        evidence.broken.append(f"worker 3 said only after {flagged[0]:.1f} s that it is stale")
    evidence.said["flagged_after_s"] = [round(at, 1) for at in flagged]
    return evidence


async def _deaf(course: Course, proxies: Sequence[Proxy], seconds: float, **knobs: bool) -> Evidence:
    stage = course.stage
    before = sum(p.bytes_swallowed for p in proxies)
    stage.set_knobs(proxies, **knobs)
    await course.rest(seconds)
    swallowed = sum(p.bytes_swallowed for p in proxies) - before
    for proxy in proxies:
        stage.proxies.do(proxy.heal)
    return Evidence(
        bit=swallowed > 0,
        healed_at=time.monotonic(),
        said={"bytes_swallowed": swallowed},
    )


async def slow_network(course: Course) -> Evidence:
    """100 ms ± 50 each way, in small pieces. Loss cannot be had from a proxy: TCP hides it."""
    proxies = course.stage.broker_proxies
    before = await _round_trip_seconds(proxies[0])
    course.stage.set_knobs(proxies, latency_seconds=0.1, jitter_seconds=0.05, slice_bytes=256)
    during = await _round_trip_seconds(proxies[0])
    await course.rest(12)
    for proxy in proxies:
        course.stage.proxies.do(proxy.heal)
    return Evidence(
        bit=during > before + 0.1,
        healed_at=time.monotonic(),
        said={"round_trip_ms": [round(1000 * before), round(1000 * during)]},
    )


async def _round_trip_seconds(proxy: Proxy) -> float:
    """Of a question that every broker answers (librdkafka asks for the API versions first)."""
    asked_at = time.monotonic()
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{proxy.port}"})
    await asyncio.to_thread(admin.list_topics, topic=next(iter(SOURCES)), timeout=_ASK_SECONDS)
    return time.monotonic() - asked_at


ROWS = [
    Row("8", "a partition's leader is killed", leader_killed, in_ci=True),
    Row("9a", "the group's coordinator is killed", coordinator_killed),
    Row("9b", "the controller is killed", controller_killed),
    Row("10", "two of three brokers are killed", two_of_three_killed, in_ci=True),
    Row("10a", "changelogs refuse, offsets do not, and a worker is killed", changelogs_below_min_isr),
    Row("11", "a broker stands still for 12 s", broker_frozen),
    Row("12a", "what worker 3 sends to a broker vanishes", deaf_up),
    Row("12b", "what a broker answers worker 3 vanishes", deaf_down),
    Row("13a", "worker 3 reaches no broker for 5 s", cut_shortly),
    Row("13b", "worker 3 reaches no broker for longer than its session", cut_long),
    Row("14a", "the whole cluster is restarted", restarted),
    Row("14b", "the whole cluster is killed", all_killed),
    Row("15", "the network of worker 3 is slow", slow_network),
    Row("below-min-isr", "a worker is drained while two brokers are down", drained_below_min_isr),
]
