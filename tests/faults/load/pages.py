"""`make load ARGS=pages`: 10,000 open pages of teachers and 500 open lag pages on one serving worker.

Each teacher's page is another teacher's, asked for every 15 s, a lag page every 2 s (`tabs.py`). Meanwhile classes
change; the changes are looked for on the pages that show them.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psutil

from emis_streams import admin, generate
from emis_streams.local.readiness import is_level
from tests.faults.load.tabs import Kind, Opened, Outcome, in_this_process
from tests.integration.worker_rig import Worker, key_of, producing
from tests.services import environment_of, kafka_cluster, settings_for, until

N_TEACHERS, TEACHERS_SECONDS = 10_000, 15.0
N_LAG_PAGES, LAG_SECONDS = 500, 2.0
N_CLASSES = 8_000
SEED = 1
OPEN_SECONDS = 30.0
MEASURED_SECONDS = 60.0
MOST_CPU_PCT = 60.0
N_MARKS = 10
MARK_EVERY_SECONDS = 3.0
LATEST_SECONDS = 1.15 * TEACHERS_SECONDS + 2.0
"""From an event to the page that shows it: the longest interval, and the way of the event."""
MAX_CONNECTIONS = 12_000
"""WEB_MAX_CONNECTIONS of the worker: each tab has its own connection. Behind a proxy they would share some."""
_SECONDS_OF_HOUR = 3_600.0
_MB = 1e6


@dataclass(frozen=True)
class Mark:
    """A class, and the name that it gets while pages are open."""

    name: str
    class_: dict[str, Any]


@contextmanager
def running() -> Iterator[tuple[Worker, str]]:
    """A serving worker with the sample data, beside an ingesting one; and the address of the broker."""
    with kafka_cluster() as kafka, TemporaryDirectory(prefix="emis-load-") as folder:
        asyncio.run(admin.ensure_topics(settings_for(kafka.bootstrap, Path(folder))))
        workers = [
            Worker(role, settings_for(kafka.bootstrap, Path(folder) / role / "data", roles=role, **changes))
            for role, changes in (("ingest,replicate", {}), ("serve", {"web_max_connections": MAX_CONNECTIONS}))
        ]
        serving = workers[1]
        command = (sys.executable, "-m", "emis_streams", "generate", "--classes", str(N_CLASSES), "--seed", str(SEED))
        environment = {**os.environ, **environment_of(serving.settings)}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        try:
            for worker in workers:
                worker.start()
            asyncio.run(serving.ready())
            asyncio.run(until(lambda: is_level(serving.settings.host, serving.settings.port), 180, 0.5))
            yield serving, kafka.bootstrap
            assert serving.process.running, serving.process.log_tail()
        finally:
            for worker in workers:
                worker.process.stop()


def holds() -> bool:
    """Runs it, prints a line of JSON, and says whether all bounds held."""
    teachers = generate.sample_teacher_ids(SEED, N_CLASSES, N_TEACHERS)
    with running() as (serving, bootstrap):
        return asyncio.run(_measured(serving, bootstrap, teachers))


async def _measured(serving: Worker, bootstrap: str, teachers: list[str]) -> bool:
    loop, settings = asyncio.get_running_loop(), serving.settings
    marks = [_mark(serving, teacher_id, n) for n, teacher_id in enumerate(teachers[:N_MARKS])]
    kinds = (
        Kind("teachers", [f"/teachers/{teacher_id}" for teacher_id in teachers], TEACHERS_SECONDS, N_MARKS),
        Kind("lag", ["/consumer-lag"] * N_LAG_PAGES, LAG_SECONDS),
    )
    names = [mark.name for mark in marks]
    opened = Opened(settings.host, settings.port, kinds, OPEN_SECONDS, MEASURED_SECONDS, names)
    process = psutil.Process(serving.process.pid)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        tabs = loop.run_in_executor(pool, in_this_process, opened)
        await asyncio.sleep(OPEN_SECONDS + 1.15 * TEACHERS_SECONDS + 5.0)
        cpu, begun = _cpu_seconds(process), time.monotonic()
        sent = await _send(bootstrap, marks)
        await asyncio.sleep(max(0.0, MEASURED_SECONDS - 10.0 - (time.monotonic() - begun)))
        cpu_pct = round(100 * (_cpu_seconds(process) - cpu) / (time.monotonic() - begun), 1)
        n_connections = len(process.net_connections())
        outcome = await tabs
    return _tell(outcome, sent, cpu_pct, n_connections, process.memory_info().rss)


def _mark(serving: Worker, teacher_id: str, number: int) -> Mark:
    """The first known class of a teacher, to be renamed."""
    status, teacher = serving.get(f"/api/teachers/{teacher_id}")
    assert status == 200, (teacher_id, status)
    known = next(entry for entry in teacher["classAssignments"] if entry["known"])
    _, class_ = serving.get(f"/api/classes/{known['classId']}")
    return Mark(f"Lớp đổi tên {number}", class_)


async def _send(bootstrap: str, marks: list[Mark]) -> dict[str, float]:
    """When each class was renamed, seconds since 1970."""
    sent = {}
    with producing(bootstrap) as producer:
        for mark in marks:
            event = _renamed(mark)
            producer.produce(event["eventType"], json.dumps(event).encode(), key_of(event).encode())
            producer.flush()
            sent[mark.name] = time.time()
            await asyncio.sleep(MARK_EVERY_SECONDS)
    return sent


def _renamed(mark: Mark) -> dict[str, Any]:
    kept = ("classId", "grade", "academicYear", "totalStudents", "schoolId", "homeroomTeacherId")
    return {
        "eventId": str(uuid4()),
        "eventType": "emis.class.updated",
        "timestamp": datetime.now(UTC).isoformat(),
        "className": mark.name,
        **{name: mark.class_[name] for name in kept},
    }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _tell(outcome: Outcome, sent: dict[str, float], cpu_pct: float, n_connections: int, rss: int) -> bool:
    waited = {name: round(outcome.marks[name] - at, 1) for name, at in sent.items() if name in outcome.marks}
    line: dict[str, Any] = {
        "phase": "open pages",
        "worker_cpu_pct": cpu_pct,
        "tabs_cpu_pct": outcome.cpu_pct,
        "connections": n_connections,
        "rss_mb": round(rss / _MB),
        "slowest_change_seconds": max(waited.values(), default=None),
        "refused_at": outcome.refused_at,
    }
    broken = [f"{len(sent) - len(waited)} changes were not seen"] if len(waited) < len(sent) else []
    for name, seen in outcome.kinds.items():
        n_asked = seen.statuses.total()
        line[name] = {
            "tabs": seen.n_tabs,
            "asked_per_second": round(n_asked / MEASURED_SECONDS, 1),
            "unchanged_pct": round(100 * seen.statuses[304] / max(1, n_asked), 1),
            "p50_ms": seen.percentile_ms(0.5),
            "p99_ms": seen.percentile_ms(0.99),
            "first_bytes": round(seen.first_bytes / seen.n_tabs),
            "mb_per_tab_and_hour": round(seen.n_bytes / seen.n_tabs / MEASURED_SECONDS * _SECONDS_OF_HOUR / _MB, 2),
        }
        if seen.errors:
            broken.append(f"{name}: {dict(seen.errors)}")
    if cpu_pct >= MOST_CPU_PCT:
        broken.append(f"{cpu_pct} % of a core, {MOST_CPU_PCT:.0f} allowed")
    if any(seconds > LATEST_SECONDS for seconds in waited.values()):
        broken.append(f"a change was visible after more than {LATEST_SECONDS:.0f} s")
    print(json.dumps({**line, "broken": broken}), flush=True)
    return not broken
