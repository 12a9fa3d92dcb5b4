"""Processes of the last release and of today, side by side and one after the other, on the same state."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.course import Course, Evidence, Row
from tests.faults.lesson_load import LessonLoad
from tests.faults.rows.outbox import Scene, evidence
from tests.faults.service_stage import service_stage, start_all
from tests.faults.stage import ROOT, FaultWorker, until

LAST_RELEASE = "e687981"
"""Writes rows of format 1, and decides ties by event id (decision 0017)."""
_SENT_SECONDS = 60.0


class NoHistory(Exception):
    """The clone is too shallow: the last release is not in it."""


async def rolling(course: Course) -> Evidence:
    """Each worker becomes one of the last release, then each one of today again, while load goes on.

    The last release takes the offset in a version of today's for an event id, and writes that to the replica. Workers
    of today write those rows again.
    """
    today = course.workers[0].code
    try:
        with _release(LAST_RELEASE) as code:
            before = [await _replace(worker, code) for worker in course.workers]
            after = [await _replace(worker, today) for worker in course.workers]
    except NoHistory as reason:
        return Evidence(bit=False, said={"not run": str(reason)})
    said = {"release": LAST_RELEASE, "code": before + after}
    return Evidence(bit=set(before).isdisjoint(after), said=said)


async def rolling_services(course: Course) -> Evidence:
    """Two instances of the lesson service on one database, of either release; one is killed, and one goes back."""
    try:
        with _release(LAST_RELEASE) as code:
            return await _rolling_services(course, code)
    except NoHistory as reason:
        return Evidence(bit=False, said={"not run": str(reason)})


async def _rolling_services(course: Course, last: Path) -> Evidence:
    today = course.workers[0].code
    async with service_stage(course) as services:
        url = services.database("lessons")
        first, second = (services.add("lessons", f"lessons-{n}", service_database_url=url) for n in (1, 2))
        first.code = second.code = last
        gateway = services.add("gateway")
        gateway.start()
        await start_all([first, second])
        scene = Scene(course, [first, second], url, LessonLoad(gateway.port))
        async with scene.load.running():
            await scene.more_lessons()
            ran = [await _replace(first, today)]
            await scene.more_lessons()
            await scene.with_events_in_flight(second.kill)  # Of the last release, beside a new one.
            scene.n_unsent.append(scene.unsent())
            ran += [await _replace(second, today), await _replace(first, last)]
            await scene.more_lessons()
            await scene.with_events_in_flight(second.kill)  # Of today, beside an old one.
            scene.n_unsent.append(scene.unsent())
            await scene.more_lessons()
            ran += [await _replace(second, today), await _replace(first, today)]
            await scene.more_lessons()
        await until(lambda: scene.unsent() == 0, _SENT_SECONDS, "all events are sent")
        found = await evidence(scene, len(scene.n_unsent))
    found.said["code"] = ran
    return found


async def _replace(worker: FaultWorker, code: Path) -> str:
    """Stopped, and started from other code on the same data; where that code says that it is."""
    if worker.process.running:
        await worker.stop()
    worker.code = code
    worker.start()
    await worker.ready()
    environment = await asyncio.to_thread(Path(f"/proc/{worker.process.pid}/environ").read_bytes)
    return next(v for v in environment.decode().split("\0") if v.startswith("PYTHONPATH="))


@contextmanager
def _release(commit: str) -> Iterator[Path]:
    """The tree of a commit, in a folder that is gone afterwards; raises NoHistory."""
    folder = ROOT / "build" / f"release-{commit}"
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise NoHistory(f"{commit} is not in this clone: `git fetch --unshallow` brings it")
    shutil.rmtree(folder, ignore_errors=True)
    _git("worktree", "prune")
    added = _git("worktree", "add", "--detach", str(folder), commit)
    if added.returncode:
        raise NoHistory(added.stderr.decode())
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*args: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, check=False)


ROWS = [
    Row("37", "workers of the last release and of today, side by side", rolling, with_last_release=True),
    Row("53", "lesson services of the last release and of today, side by side", rolling_services),
]
