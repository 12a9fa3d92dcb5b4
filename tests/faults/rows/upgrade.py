"""Workers of the last release and of today, side by side and one after the other, on the same state."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.course import Course, Evidence, Row
from tests.faults.stage import ROOT, FaultWorker

LAST_RELEASE = "e687981"
"""Writes rows of format 1, and decides ties by event id (decision 0017)."""
_REBUILD_SECONDS = 60.0


class NoHistory(Exception):
    """The clone is too shallow: the last release is not in it."""


async def rolling(course: Course) -> Evidence:
    """Each worker becomes one of the last release, then each one of today again, while load goes on.

    The last release takes the offset in a version of today's for an event id, and writes that to the replica. So the
    replica is filled again at the end, as docs/operations.md says of the upgrade.
    """
    today = course.workers[0].code
    try:
        with _release(LAST_RELEASE) as code:
            before = [await _replace(worker, code) for worker in course.workers]
            after = [await _replace(worker, today) for worker in course.workers]
        exit_code, text = await _fill_replica(course)
    except NoHistory as reason:
        return Evidence(bit=False, said={"not run": str(reason)})
    broken = [] if exit_code == 0 else [f"`emis-streams replica rebuild` ended with {exit_code}: {text[-300:]}"]
    said = {"release": LAST_RELEASE, "code": before + after}
    return Evidence(bit=set(before).isdisjoint(after), said=said, broken=broken)


async def _fill_replica(course: Course) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "emis_streams", "replica", "rebuild"),
        env=course.stage.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), _REBUILD_SECONDS)
    return process.returncode, out.decode()


async def _replace(worker: FaultWorker, code: Path) -> str:
    """Stopped, and started from other code on the same data; where that code says that it is."""
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


ROWS = [Row("37", "workers of the last release and of today, side by side", rolling, with_last_release=True)]
