"""The two parts of a run: all contenders on the same class events; then pipeline and pages on a stage of their own."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pages, peers, pipeline, preload, stage
from benchmarks.contenders import Contender
from benchmarks.data import PARTITIONS, Load, class_events
from benchmarks.ingest import Course
from benchmarks.offsets import Brokers
from benchmarks.results import Results
from benchmarks.tables import SourceFold
from benchmarks.watching import ContenderFailed
from emis_streams import topics
from emis_streams.local.kafka import KafkaCluster

WORK = Path(__file__).parent / ".work"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How long and how much; each contender's time is bounded."""

    load: Load
    stage_load: Load
    repeats: int
    slow_seconds: float
    most_seconds: float
    n_teachers: int = 1_000
    latency_seconds: float = 30.0


FULL = Plan(Load(4_000_000, 1_000_000), Load(1_000_000, 300_000), repeats=2, slow_seconds=45, most_seconds=90)
QUICK = Plan(
    Load(600_000, 200_000),
    Load(200_000, 60_000),
    repeats=1,
    slow_seconds=20,
    most_seconds=60,
    n_teachers=200,
    latency_seconds=10.0,
)


def run_ingest(plan: Plan, contenders: Sequence[Contender], rebuild: bool, results: Results, say: Say) -> None:
    """Contenders in turn, there and back, so that a slow drift of the machine hits all alike."""
    peers.set_up(say)
    folder = WORK / "course"
    shutil.rmtree(folder, ignore_errors=True)
    with KafkaCluster(folder / "kafka", heap_mb=1024) as kafka:
        brokers = Brokers(kafka.bootstrap)
        brokers.create({t.name: t.config for t in topics.source_topics()}, PARTITIONS)
        preload.send_all(kafka.bootstrap, class_events(plan.load), say)
        os.sync()
        fold = SourceFold(brokers)
        say(f"{len(fold.catch_up()):,} classes to be found in every table")
        course = Course(brokers, folder, fold, results, plan.slow_seconds, plan.most_seconds, say)
        for repeat in range(1, plan.repeats + 1):
            turn = [c for c in contenders if repeat == 1 or not c.is_beside]
            for contender in turn if repeat % 2 else reversed(turn):
                course.run(contender, repeat, rebuild and repeat <= contender.rounds_with_rebuild)
    shutil.rmtree(folder, ignore_errors=True)


def run_stage(plan: Plan, results: Results, say: Say) -> None:
    """Pipeline into MariaDB, then the pages of a second worker that only serves. A failure is a result too."""
    try:
        _run_stage(plan, results, say)
    except ContenderFailed as failure:
        say(f"FAILED: {failure}")
        results.add("failure", contender="ours", label="pipeline and pages", repeat=1, said=str(failure))
    finally:
        shutil.rmtree(WORK / "stage", ignore_errors=True)


def _run_stage(plan: Plan, results: Results, say: Say) -> None:
    with stage.prepared(WORK / "stage", plan.stage_load, plan.n_teachers, results, say) as prepared:
        os.sync()
        with prepared.worker("ingesting", "ingest,replicate") as (ingesting, _):
            pipeline.run(prepared, ingesting, plan.most_seconds)
            with prepared.worker("serving", "serve") as (serving, url):
                stage.wait_until_ready(serving, url, pages.measured_path())
                pages.run(prepared, url, plan.repeats)
                pages.event_to_page(prepared, url, plan.latency_seconds)
