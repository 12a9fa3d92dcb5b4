"""A worker's pages without a worker: a real read model filled with a made-up school, and lag reports as data."""

import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiokafka import TopicPartition

from emis_streams import events, rows
from emis_streams.answers import Source
from emis_streams.engine.door import Runner
from emis_streams.engine.follower import ChangelogSlice
from emis_streams.events import AssignmentCreated, ClassDeleted, Event, TeacherCreated, TeacherDeleted
from emis_streams.generate import Country, created
from emis_streams.lag_report import (
    BrokerState,
    DeadLetters,
    FollowerLag,
    FollowerPartition,
    GroupLag,
    HistoryPoint,
    LagReport,
    Owner,
    PartitionLag,
    ReasonParams,
    Thresholds,
    TopicLag,
)
from emis_streams.lag_rules import ERRORS
from emis_streams.node import NODE, Node
from emis_streams.quantities import filled
from emis_streams.read_model.model import ReadModel
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.settings import Settings
from emis_streams.sync_latency import SyncLatency
from emis_streams.topics import APP_ID, ASSIGNMENTS, CLASSES, REPLICA_GROUP, SUBJECTS, TEACHERS
from web import PAGES, setup

TEACHER = "0a000000-0000-4000-8000-000000000001"
"""Has every kind of class: known, homeroom, not yet known, deleted."""
GONE_TEACHER = "0a000000-0000-4000-8000-000000000002"
EMPTY_TEACHER = "0a000000-0000-4000-8000-000000000003"
UNKNOWN_CLASS = "0c000000-0000-4000-8000-00000000000a"
GONE_CLASS = "0c000000-0000-4000-8000-00000000000b"
NOBODY = "ffffffff-ffff-4fff-bfff-ffffffffffff"


def event_id(number: int) -> str:
    return f"0e000000-0000-4000-8000-{number:012d}"


def school_events() -> list[Event]:
    """A made-up school, and the odd ones beside it."""
    now = datetime.now(UTC)
    school = Country(seed=7, n_classes=40).school(0)
    country = created(school, lambda: now - timedelta(seconds=90))
    known = [e.class_id for e in country if isinstance(e, events.ClassCreated)]
    return [*country, *_odd_ones(now, known[:3])]


def _odd_ones(now: datetime, known: Sequence[str]) -> Iterable[Event]:
    names = {TEACHER: "Nguyễn Thị Ánh Nguyệt", EMPTY_TEACHER: "Lê Quý Đôn", GONE_TEACHER: "Trần Văn Cũ"}
    for n, (teacher_id, name) in enumerate(names.items()):
        yield TeacherCreated(
            event_id=event_id(n), event_type="emis.teacher.created", timestamp=now, teacher_id=teacher_id,
            full_name=name, email="anh.nguyet@thpt-chu-van-an.example.edu.vn", school_id=NOBODY,
        )  # fmt: skip
    yield TeacherDeleted(
        event_id=event_id(10), event_type="emis.teacher.deleted", timestamp=now, teacher_id=GONE_TEACHER
    )
    for n, class_id in enumerate((*known, UNKNOWN_CLASS, GONE_CLASS)):
        yield AssignmentCreated(
            event_id=event_id(20 + n), event_type="emis.assignment.created", timestamp=now,
            assignment_id=event_id(30 + n), teacher_id=TEACHER, class_id=class_id,
            role="subject-teacher", subject="Ngữ văn",
        )  # fmt: skip
    yield homeroom_class(now)
    yield ClassDeleted(event_id=event_id(50), event_type="emis.class.deleted", timestamp=now, class_id=GONE_CLASS)


HOMEROOM_CLASS = "0c000000-0000-4000-8000-00000000000c"


def homeroom_class(now: datetime, name: str = "Lớp 12 Chuyên Văn", pupils: int = 34) -> events.ClassUpdated:
    """An update of the class whose homeroom teacher is TEACHER."""
    return events.ClassUpdated(
        event_id=event_id(int(now.timestamp())), event_type="emis.class.updated", timestamp=now,
        class_id=HOMEROOM_CLASS, class_name=name, grade="Khối 12", academic_year="2026-2027", total_students=pupils,
        school_id=NOBODY, homeroom_teacher_id=TEACHER,
    )  # fmt: skip


BUSY_TEACHER = "0a000000-0000-4000-8000-000000000060"
"""Teaches 60 classes, two of them in two roles."""


def busy_teacher_events(n_classes: int = 60) -> list[Event]:
    """A teacher of many classes, as long as names can reasonably be."""
    now = datetime.now(UTC) - timedelta(minutes=3)
    teacher = TeacherCreated(
        event_id=event_id(6000), event_type="emis.teacher.created", timestamp=now, teacher_id=BUSY_TEACHER,
        full_name="Phạm Thị Hồng Nhung", email="hong.nhung@thcs-le-quy-don.example.edu.vn", school_id=NOBODY,
    )  # fmt: skip
    classes = [
        events.ClassCreated(
            event_id=event_id(6100 + n), event_type="emis.class.created", timestamp=now, class_id=_busy_class(n),
            class_name=f"Lớp {6 + n // 15}A{1 + n % 15}", grade=f"Khối {6 + n // 15}", academic_year="2026-2027",
            total_students=35 + n % 9, school_id=NOBODY, homeroom_teacher_id=BUSY_TEACHER if n == 0 else None,
        )
        for n in range(n_classes)
    ]  # fmt: skip
    roles = [(n, "subject-teacher", "Giáo dục thể chất") for n in range(n_classes)]
    roles += [(n, "assistant", "Hoạt động trải nghiệm, hướng nghiệp") for n in range(2)]
    assignments = [
        AssignmentCreated(
            event_id=event_id(6300 + at), event_type="emis.assignment.created", timestamp=now,
            assignment_id=event_id(6500 + at), teacher_id=BUSY_TEACHER, class_id=_busy_class(n),
            role=role, subject=subject,
        )
        for at, (n, role, subject) in enumerate(roles)
    ]  # fmt: skip
    return [teacher, *classes, *assignments]


def _busy_class(n: int) -> str:
    return f"0c000000-0000-4000-8000-0000000060{n:02d}"


async def keep(model: ReadModel, happened: Iterable[Event]) -> None:
    """What the follower would do: rows of these events go into the read model."""
    sink = ReadModelSink(model)
    by_topic: dict[str, list[Event]] = {}
    for event in happened:
        by_topic.setdefault(event.event_type, []).append(event)  # type: ignore[attr-defined]
    for topic, found in by_topic.items():
        await sink.apply([_slice(topic, found)])


def _slice(topic: str, found: Sequence[Event]) -> ChangelogSlice:
    contract = events.CONTRACTS[topic]
    subject = next(s for s in SUBJECTS if topic in s.events)
    now_ms = int(time.time() * 1000)
    keys = [getattr(e, contract.key).encode() for e in found]
    values = [msgspec.json.encode(e) for e in found]
    decoded = events.decode(contract, keys, values, [now_ms] * len(found))
    assert not decoded.refused, decoded.refused
    kept = {
        key: (rows.pack(version, version[:8], body), now_ms)
        for key, version, body in zip(decoded.keys, decoded.versions, decoded.bodies, strict=True)
    }
    return ChangelogSlice(TopicPartition(subject.changelog, 0), "topic-id", kept, len(kept), len(kept))


@dataclass
class ToldLag:
    """Says of lag what it was told (in a worker, the lag monitor asks the brokers)."""

    report: LagReport | None
    points: list[HistoryPoint] = field(default_factory=list)
    age: float | None = 0.4
    asked: int = 0

    def snapshot(self) -> LagReport | None:
        return self.report

    def history(self) -> list[HistoryPoint]:
        return self.points

    def age_seconds(self, now: float, source: Source = "local") -> float | None:
        self.asked += 1
        return self.age


THRESHOLDS = Thresholds(lag_messages=1000, sync_latency_seconds=5.0, unsynced_seconds=3600.0, stale_after_seconds=5.0)


def a_report(*, behind: bool = False, error: str | None = None) -> LagReport:
    """All is well; or one partition is stalled with 48,210 records waiting; `error`: what the brokers refuse with."""
    sources = [p for s in SUBJECTS for topic in s.events for p in _partitions(topic, behind)]
    changelogs = [p for s in SUBJECTS for p in _partitions(s.changelog, False)]
    return LagReport(
        measured_at=datetime.now(UTC), **_failure(error), age_seconds=64.0 if behind else 0.4,
        severity="error" if behind or error else "ok", thresholds=THRESHOLDS,
        brokers=BrokerState(
            cluster_id="x", brokers=3, missing_topics=(), offline_partitions=(), under_replicated_partitions=0
        ),
        groups=(_group(APP_ID, sources), _group(REPLICA_GROUP, changelogs)),
        followers=(_follower("read-model", True, None), _follower("replica", not behind, _waiting(behind))),
        dead_letters=DeadLetters(count=3 if behind else 0, last_at=datetime.now(UTC) if behind else None),
    )  # fmt: skip


def _failure(reason: str | None) -> dict[str, Any]:
    if reason is None:
        return {"error": None}
    params: ReasonParams = {"brokers": "127.0.0.1:9092", "reason": reason}
    return {"error": filled(ERRORS["refused"], params), "error_key": "refused", "error_params": params}


def _waiting(behind: bool) -> str | None:
    return "the database at 127.0.0.1:3306 cannot be reached: connection refused" if behind else None


def _partitions(topic: str, behind: bool) -> Iterable[PartitionLag]:
    for number in range(10):
        bad = behind and topic == CLASSES.events[1] and number == 3
        yield PartitionLag(
            topic=topic, partition=number,
            owner=Owner(member_id="m-1", client_id="emis-streams-a1", host="/127.0.0.1"),
            committed_offset=120_000 + number, end_offset=168_210 + number if bad else 120_000 + number,
            earliest_offset=0, lag=48_210 if bad else 0, lag_to_earliest=None,
            lag_seconds=64.0 if bad else 0.0, lag_seconds_from="record" if bad else "observed",
            produce_rate=10_512.4, consume_rate=0.0 if bad else 10_512.4,
            time_to_catch_up_seconds=None if bad else 0.0, unsynced_seconds=64.0 if bad else 0.0,
            state="STALLED" if bad else "OK", severity="error" if bad else "ok",
            reason="in English", reason_key="stalled" if bad else "level",
            reason_params={"committed": 120_003, "seconds": 64.0, "lag": 48_210} if bad else {},
            alerts=("lag_over_threshold",) if bad else (),
        )  # fmt: skip


def _group(name: str, partitions: Sequence[PartitionLag]) -> GroupLag:
    worst = max(partitions, key=lambda p: p.lag or 0)
    names = dict.fromkeys(p.topic for p in partitions)
    return GroupLag(
        group_id=name, broker_state="Stable", members=2, total_lag=sum(p.lag or 0 for p in partitions),
        max_lag=worst.lag, max_lag_seconds=worst.lag_seconds,
        produce_rate=sum(p.produce_rate or 0 for p in partitions),
        consume_rate=sum(p.consume_rate or 0 for p in partitions),
        time_to_catch_up_seconds=worst.time_to_catch_up_seconds, state=worst.state, severity=worst.severity,
        reason=worst.reason, reason_key=worst.reason_key, reason_params=worst.reason_params, alerts=worst.alerts,
        topics=tuple(
            TopicLag(
                topic=t, lag=sum(p.lag or 0 for p in partitions if p.topic == t),
                max_lag_seconds=max(p.lag_seconds or 0 for p in partitions if p.topic == t),
            )
            for t in names
        ),
        partitions=tuple(partitions),
    )  # fmt: skip


def _follower(name: str, caught_up: bool, waiting_for: str | None) -> FollowerLag:
    lag = 0 if caught_up else 2_350
    partitions = tuple(
        FollowerPartition(topic=s.changelog, partition=n, position=90_000, end_offset=90_000, lag=0, delay_seconds=0.0)
        for s in (CLASSES, TEACHERS, ASSIGNMENTS)
        for n in range(10)
    )
    return FollowerLag(
        name=name, caught_up=caught_up, records_total=2_700_000, waiting_for=waiting_for, total_lag=lag,
        delay_seconds=0.2 if caught_up else 31.0, partitions=partitions,
    )  # fmt: skip


def a_history(behind: bool = False) -> list[HistoryPoint]:
    """Ten minutes of a lively Monday morning."""
    dice = random.Random(1)
    start = datetime.now(UTC) - timedelta(seconds=600)
    points = []
    for n in range(600):
        produced = 4_800 + 600 * dice.random()
        waiting = 80 * n if behind and n > 400 else int(300 * dice.random())
        points.append(
            HistoryPoint(
                time=start + timedelta(seconds=n),
                total_lag=waiting,
                max_lag_seconds=0.1,
                produce_rate=produced,
                consume_rate=produced * (0.6 if behind and n > 400 else 1.0),
            )
        )
    return points


def a_node(model: ReadModel | None, lag: ToldLag | None, **changes: object) -> Node:
    """A serving node."""
    latency = SyncLatency(time.monotonic() - 60)
    now = time.time()
    latency.observe([int((now - 0.12) * 1_000_000)] * 50, now, time.monotonic())
    node = Node(Settings(), frozenset({"serve"}), read_model=model, lag=lag, sync_latency={"read-model": latency})  # type: ignore[arg-type]
    node.began -= timedelta(hours=23, minutes=58).total_seconds()  # As long as a time can be to read.
    for name, value in changes.items():
        setattr(node, name, value)
    return node


@asynccontextmanager
async def filled_model(folder: Path) -> AsyncIterator[ReadModel]:
    """A read model with a school, caught up."""
    model = ReadModel(folder / "read-model")
    await keep(model, school_events())
    model.caught_up = True
    try:
        yield model
    finally:
        model.close()


class SiteServer(TestServer):
    """Behind its door, as in a worker."""

    async def _make_runner(self, **_kwargs: Any) -> Runner:
        return Runner(self.app)


@asynccontextmanager
async def serving(node: Node) -> AsyncIterator[TestServer]:
    """The web views of a node on a free loopback port, put together as the worker does."""
    app = web.Application()
    app[NODE] = node
    setup(app)
    for page in PAGES:
        app.add_routes(page.routes)
    server = SiteServer(app, host="127.0.0.1")
    await server.start_server()
    try:
        yield server
    finally:
        await server.close()
