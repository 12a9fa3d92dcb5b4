"""Workers that are killed, frozen and told to stop."""

import asyncio
import itertools
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from emis_streams.local import Child
from emis_streams.topics import CLASSES
from tests.faults.checker import stores
from tests.faults.checker.findings import Findings
from tests.faults.checker.truth import Truth
from tests.faults.course import Course, Evidence, Row
from tests.faults.rows.compaction import compacted
from tests.faults.stage import SESSION_TIMEOUT_SECONDS, FaultWorker, Stage, until
from tests.faults.trap import Trap

STORM_SECONDS = 15.0
PAUSE_SECONDS = 5.0
BLOCKED_SECONDS = SESSION_TIMEOUT_SECONDS + 2
_WATCHDOG_CODE = 75
_PROGRESS_SECONDS = 3.0
_REBALANCER = Path(__file__).parents[1] / "rebalancer.py"

CRASHES = [
    ("before-table", "before-changelog", "after-acknowledgement"),
    ("before-commit", "after-commit", "after-dead-letter"),
    ("before-mysql-commit", "after-mysql-commit", "in-read-model"),
]
"""Points of tests/faults/crash.py, one for each worker; one after the other die there, then the next three."""


async def nothing(course: Course) -> Evidence:
    """The control of all rows: the whole course without a fault."""
    await course.rest(3)
    return Evidence(bit=True)


async def killed(course: Course) -> Evidence:
    """The owner of partitions dies at once; the others take over when its session is over."""
    victim = course.workers[0]
    pid = victim.process.pid
    killed_at = time.monotonic()
    victim.kill()
    await course.rest(14)
    victim.start()
    return Evidence(bit=victim.process.pid != pid, healed_at=killed_at, said={"pid": pid})


# -- at every point ---------------------------------------------------------------------------------


async def crashed(course: Course) -> Evidence:
    """Each worker dies at a point of its own, while the others work; started again, at the next one."""
    said: dict[str, Any] = {}
    died_at = time.monotonic()
    await asyncio.gather(*(worker.stop() for worker in course.workers))
    for points in CRASHES:
        traps = [Trap(worker, point) for worker, point in zip(course.workers, points, strict=True)]
        for trap in traps:
            trap.start()
        await course.stage.all_ready()
        await course.caught_up()
        for trap in traps:
            trap.spring()
            said[trap.point] = await trap.sprung()
        died_at = time.monotonic()
    for worker in course.workers:
        worker.start()
    ends = {point: (told["pid"], told["returncode"]) for point, told in said.items()}
    gone = [code == -signal.SIGKILL and not psutil.pid_exists(pid) for pid, code in ends.values()]
    return Evidence(bit=all(gone), healed_at=died_at, said=ends)


async def killed_in_recovery(course: Course) -> Evidence:
    """Two workers that lost their disks, and are killed again and again while they copy what they lack."""
    tables, read_model = course.workers[0], course.workers[1]
    for worker in (tables, read_model):
        worker.kill()
        shutil.rmtree(worker.data_dir)
    in_tables, in_rebuild = await asyncio.gather(
        _killed_at(tables, ["in-tables-10", "in-tables-50", "in-tables-90"]),
        _killed_at(read_model, ["in-rebuild-10", "in-rebuild-90"]),
    )
    died_at = time.monotonic()
    for worker in (tables, read_model):
        worker.start()
    told = [*in_tables, *in_rebuild]
    broken = []
    if in_rebuild[1]["begins"] <= in_rebuild[0]["begins"]:
        broken.append(f"the read model began anew: {in_rebuild}")
    bit = all(one["returncode"] == -signal.SIGKILL and one["applied"] > 0 for one in told)
    return Evidence(bit=bit, healed_at=died_at, said={"recoveries": told}, broken=broken)


async def _killed_at(worker: FaultWorker, points: list[str]) -> list[dict[str, Any]]:
    told = []
    for point in points:
        trap = Trap(worker, point, nth=1)
        trap.start()
        trap.spring()
        told.append({"point": point, **await trap.sprung(60.0)})
    return told


async def kill_storm(course: Course) -> Evidence:
    """Someone dies every 0.1 to 1 s."""
    dice = random.Random(course.district.seed)
    pids = set()
    ends_at = time.monotonic() + STORM_SECONDS
    while time.monotonic() < ends_at:
        await course.rest(dice.uniform(0.1, 1.0))
        victim = dice.choice([w for w in course.workers if w.process.running])
        pids.add(victim.process.pid)
        victim.kill()
        for worker in course.workers:
            worker.start()
    alive = [pid for pid in pids if psutil.pid_exists(pid)]
    return Evidence(bit=len(pids) > 1 and not alive, said={"killed": len(pids)})


# -- that stand still -------------------------------------------------------------------------------


async def zombie(course: Course) -> Evidence:
    """Stopped for longer than its session, with rows that it has looked over and not sent; then it goes on.

    It was just about to send them, so nothing can hold it back: its older rows follow the new owner's. The
    owner has to send its own again, before compaction makes an end of them (unless it has written the class since).
    """
    victim = course.workers[0]
    trap = Trap(victim, "before-send", "stop")
    await victim.stop()
    trap.start()
    await course.stage.all_ready()
    await course.caught_up()
    trap.spring()
    await trap.sprung()
    is_stopped = psutil.Process(victim.process.pid).status() == psutil.STATUS_STOPPED
    before, sent_before = _n_takeovers(course.workers[1:]), _n_sent_again(course.workers)
    await until(lambda: _n_takeovers(course.workers[1:]) >= before + 2, 40, "the others have taken over")
    await course.rest(4)
    victim.thaw()
    thawed_at = time.monotonic()
    gone_back = await asyncio.to_thread(_rows_gone_back, course)
    await until(lambda: asyncio.to_thread(_ends_well, course), 20, "the changelogs end with the highest versions", 0.5)
    sent_again = _n_sent_again(course.workers) - sent_before
    removed = await compacted(course.stage, CLASSES.changelog)
    said = {"gone_back": gone_back, "sent_again": sent_again, "compaction_removed": removed}
    return Evidence(bit=is_stopped and gone_back > 0 and removed > 0, healed_at=thawed_at, said=said)


def _rows_gone_back(course: Course) -> int:
    """Waits for what the zombie sends; how many rows follow a higher version of theirs in the changelog."""
    deadline = time.monotonic() + 10
    while True:
        decreases = _in_changelogs(course).notes["changelog_decreases"]
        if decreases or time.monotonic() > deadline:
            return decreases


def _ends_well(course: Course) -> bool:
    """Whether no key's last row in the changelogs is of a lower version than one before."""
    return _in_changelogs(course).count("reorder") == 0


def _in_changelogs(course: Course) -> Findings:
    found = Findings()
    stores.check_changelogs(stores.changelogs(course.stage.brokers, course.district.own_ids), Truth(), found)
    return found


def _n_takeovers(workers: list[FaultWorker]) -> int:
    return sum(worker.log().count(": ready: ") for worker in workers)


def _n_sent_again(workers: list[FaultWorker]) -> int:
    return sum(worker.log().count("had gone back in the changelog: sent again") for worker in workers)


async def paused(course: Course) -> Evidence:
    """Stopped for less than its session: nobody's partitions move."""
    victim = course.workers[0]
    before = [_n_takeovers([worker]) for worker in course.workers]
    victim.freeze()
    await course.rest(PAUSE_SECONDS)
    is_stopped = psutil.Process(victim.process.pid).status() == psutil.STATUS_STOPPED
    victim.thaw()
    healed_at = time.monotonic()
    await course.rest(SESSION_TIMEOUT_SECONDS - PAUSE_SECONDS)
    moved = [_n_takeovers([worker]) for worker in course.workers] != before
    broken = ["partitions moved"] if moved else []
    return Evidence(bit=is_stopped, healed_at=healed_at, broken=broken, said={"paused_seconds": PAUSE_SECONDS})


async def loop_blocked(course: Course) -> Evidence:
    """One worker's event loop is busy for longer than the watchdog bears, one's stands for longer than the session."""
    busy, standing = course.workers[0], course.workers[1]
    await asyncio.gather(busy.stop(), standing.stop())
    spin = Trap(busy, "before-table", "spin:60")
    sleep = Trap(standing, "before-table", f"sleep:{BLOCKED_SECONDS}")
    spin.start({"WATCHDOG_TIMEOUT_SECONDS": str(SESSION_TIMEOUT_SECONDS + 1)})
    sleep.start()
    await course.stage.all_ready()
    await course.caught_up()
    pids = {worker.name: worker.process.pid for worker in (busy, standing)}
    busy.wanted = False
    spin.spring()
    sleep.spring()
    blocked = await asyncio.gather(spin.sprung(), sleep.sprung())
    answers = await asyncio.gather(*(asyncio.to_thread(w.get, "/health") for w in (busy, standing)))
    ended = await asyncio.to_thread(busy.process.wait, 30.0)
    ended_after = time.monotonic() - blocked[0]["at"]
    code = busy.process.returncode
    busy.start()
    await until(lambda: time.monotonic() > blocked[1]["at"] + BLOCKED_SECONDS, 30, "the call has returned")
    healed_at = time.monotonic()
    await standing.ready()
    broken = [f"{w.name} said it was well: {a}" for w, a in zip((busy, standing), answers, strict=True) if a[0] == 200]
    if code != _WATCHDOG_CODE or "the event loop has stood still" not in busy.log():
        broken.append(f"the watchdog did not end the busy worker: exit code {code}")
    if standing.process.pid != pids[standing.name] or not standing.process.running:
        broken.append("the worker whose loop stood for less than the watchdog bears has ended")
    said = {"answers": [status for status, _ in answers], "exit_code": code, "ended_after_s": round(ended_after, 1)}
    return Evidence(bit=ended and len(blocked) == 2, healed_at=healed_at, broken=broken, said=said)


# -- that come and go -------------------------------------------------------------------------------


async def drained(course: Course) -> Evidence:
    """SIGTERM under load: what was begun is finished and committed, so that next to nothing is delivered again."""
    leaver = course.workers[0]
    in_flight = await course.in_flight()
    told_at = time.monotonic()
    in_time = await leaver.stop()
    took = round(time.monotonic() - told_at, 1)
    code = leaver.process.returncode
    await course.rest(3)
    leaver.start()
    broken = [] if in_time and code == 0 else [f"did not end well: in time {in_time}, exit code {code}"]
    said = {"in_flight_at_term": in_flight, "drained_seconds": took}
    return Evidence(
        bit=code is not None, healed_at=told_at, said=said, broken=broken, redelivered_at_most=max(0, in_flight)
    )


async def rebalance_storm(course: Course) -> Evidence:
    """A member joins and leaves every second."""
    joiner = _rebalancer(course.stage, course.folder)
    before = _n_takeovers(course.workers)
    committed = [(await course.progress()).committed]
    joiner.start()
    while joiner.running:
        await course.rest(_PROGRESS_SECONDS)
        committed.append((await course.progress()).committed)
    healed_at = time.monotonic()
    steps = [after - before for before, after in itertools.pairwise(committed)]
    n_takeovers = _n_takeovers(course.workers) - before
    found = re.search(r"^(\d+) (\d+)$", joiner.log_path.read_text(), re.MULTILINE)
    came, given = (0, 0) if found is None else (int(found[1]), int(found[2]))
    broken = [] if all(step > 0 for step in steps) else [f"no progress at times: {steps}"]
    said = {"came": came, "was_given": given, "takeovers": n_takeovers, "committed": steps}
    return Evidence(bit=came > 3 and n_takeovers > 3, healed_at=healed_at, said=said, broken=broken)


def _rebalancer(stage: Stage, folder: Path) -> Child:
    command = [sys.executable, "-P", str(_REBALANCER), str(STORM_SECONDS)]
    env = {**stage.environment(), "PYTHONPATH": str(stage.workers[0].code)}
    return Child("rebalancer", command, folder, env=env, death_signal=signal.SIGKILL)


STORM_RECOVERY_SECONDS = 4 * SESSION_TIMEOUT_SECONDS
"""Who died while joining is waited for once more, for a session: the brokers took it for a member."""

ROWS = [
    Row("0", "no fault", nothing, in_ci=True, ends_at_most=0),
    Row("1", "a worker is killed", killed, in_ci=True, ok_percent=100.0),
    Row("1a-1i", "workers die at each point of an event's way", crashed, poison_share=0.05),
    Row("2", "workers are killed while they recover", killed_in_recovery),
    Row("3", "workers are killed all the time", kill_storm, recovery_seconds=STORM_RECOVERY_SECONDS),
    Row("4", "a zombie sends older rows", zombie, in_ci=True),
    Row("5", "a worker is stopped for less than its session", paused),
    Row("6", "event loops are blocked", loop_blocked),
    Row("7", "a worker is told to stop under load", drained, events_per_second=400.0),
    Row("36", "a member joins and leaves all the time", rebalance_storm),
]
