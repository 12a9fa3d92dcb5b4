"""One row of the fault matrix from its beginning to its verdict.

load and reads begin → undisturbed for a while (the control) → the fault, with work in flight → healed →
caught up → load ends → every store compared → workers stopped, their databases opened and compared →
databases deleted, workers started, every answer compared again
"""

import asyncio
import shutil
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emis_streams.local import Child
from tests.faults.checker import history, stores, verdict
from tests.faults.checker.findings import Findings
from tests.faults.checker.history import Read, Send
from tests.faults.checker.truth import Place, Record, Truth, of_sources
from tests.faults.checker.verdict import Outage, Verdict
from tests.faults.district import District
from tests.faults.stage import ROOT, SESSION_TIMEOUT_SECONDS, STALE_AFTER_SECONDS, FaultWorker, NotInTime, Stage, until
from tests.integration import independent

EVENTS_PER_SECOND, READS_PER_SECOND = 120.0, 45.0
CONTROL_SECONDS = 2.0
AFTERWARDS_SECONDS = 1.0
FRESH_SECONDS = 20.0
CAUGHT_UP_SECONDS = 60.0
QUIET_SECONDS = 60.0
LEVEL_SECONDS = 30.0
HURRIED_SECONDS = 6.0
REPLAY_SECONDS = 10.0
"""Allowed on top of the session's time-out."""

Say = Callable[[str], None]


@dataclass
class Evidence:
    """That the fault bit."""

    bit: bool
    said: dict[str, Any] = field(default_factory=dict)
    healed_at: float | None = None
    """Monotonic: recovery counts from then (of a killed worker from its end). None: from when the fault returned."""
    alarm_count: int | None = None
    """Records that the workers themselves said they could not read."""
    broken: list[str] = field(default_factory=list)
    """What else did not hold, in words."""
    redelivered_at_most: int | None = None
    """Events that may have been folded twice (None: however many)."""


@dataclass(frozen=True)
class Row:
    """A fault. `fault` does it and, unless recovery is what is looked at, undoes it."""

    id: str
    name: str
    fault: "Callable[[Course], Awaitable[Evidence]]"
    poison_share: float = 0.0
    skew_seconds: float = 0.0
    events_per_second: float = EVENTS_PER_SECOND
    in_ci: bool = False
    needs_work_in_flight: bool = True
    recovery_seconds: float = SESSION_TIMEOUT_SECONDS + REPLAY_SECONDS
    ok_percent: float = 99.9
    ends_at_most: int | None = None
    """Workers that may end by themselves (None: however many, as an orchestrator starts them again)."""
    with_last_release: bool = False
    """Workers of the last release run: no rule of theirs says which of two events of one time wins."""
    loses_sources: bool = False
    """Source records are deleted: what was sent is then the truth's only witness, and alarms count them."""


class Course:
    """Runs one row on a stage whose workers are ready, and leaves it with workers that are ready again."""

    def __init__(self, stage: Stage, row: Row, seed: int, folder: Path, say: Say, *, is_hurried: bool = False) -> None:
        """`is_hurried`: times nothing, waits shortly for what does not come, ends at findings, rebuilds nothing."""
        self._is_hurried = is_hurried
        self.stage = stage
        self.row = row
        self.folder = folder
        self.say = say
        self.district = District(f"{seed} {row.id} {stage.next_number()}")
        self.truth = Truth()
        self.changelogs: list[stores.Entry] = []
        self.gone: list[Record] = []
        """Records that the row deleted from their topics after they were read, or with an alarm."""
        self.skipped: set[Place] = set()
        """What the workers could not read, as the row saw to it."""
        self.findings = Findings()
        self.verdict = Verdict(seed, row.id, name=row.name)
        self.began_fault = self.healed = self._load_ended = 0.0
        self._began_control = 0.0
        self._n_in_flight = 0
        self._redelivered_at_most: int | None = None
        self._began_ms = time.time_ns() // 1_000_000
        self._phases: dict[str, float] = {}
        self._sender = self._process("sends", self._sends_command())
        self._reader = self._process("reads", self._reads_command())

    # -- for rows -----------------------------------------------------------------------------

    @property
    def workers(self) -> list[FaultWorker]:
        return self.stage.workers

    async def progress(self) -> independent.Progress:
        """Of the ingesting group, all districts together."""
        return await asyncio.to_thread(independent.progress, self.stage.brokers)

    async def in_flight(self) -> int:
        """Records that were there and not committed: what was committed is asked first, so it may be too many."""
        committed = (await self.progress()).committed
        return (await self.progress()).end - committed

    async def caught_up(self, timeout_seconds: float = CAUGHT_UP_SECONDS) -> None:
        """Until the group is within two seconds of the ends, and all workers that should run are ready."""
        near = 2 * self.row.events_per_second

        async def is_near() -> bool:
            at = await self.progress()
            return at.end - at.committed <= near and all(w.can_serve for w in self.workers if w.wanted)

        await until(is_near, timeout_seconds, "the group is near the ends of its topics", 0.3)

    @asynccontextmanager
    async def paused_load(self, *, committed: bool = True) -> AsyncIterator[None]:
        """Nothing is sent meanwhile, and what was sent before is committed (unless nobody is there to do it)."""
        self._sender.send_signal(signal.SIGSTOP)
        try:
            if committed:
                await self.committed()
            yield
        finally:
            self._sender.send_signal(signal.SIGCONT)

    def end_load(self) -> None:
        """Nothing more is sent after the load that is paused now."""
        self._sender.send_signal(signal.SIGTERM)

    async def committed(self, timeout_seconds: float = CAUGHT_UP_SECONDS) -> None:
        """Until all that was sent is committed, twice within a second: records may still have been on their way."""
        await until(self._all_committed, timeout_seconds, "everything is committed")
        await asyncio.sleep(1)
        await until(self._all_committed, timeout_seconds, "everything is committed")

    async def control(self) -> None:
        """Undisturbed for a while; the fault begins after it.

        A row that starts processes of its own calls it again once they work: their start is not its fault, and costs
        the processor time that reads are timed by.
        """
        self._began_control = time.monotonic()
        await self.rest(CONTROL_SECONDS)
        self._n_in_flight = await self.in_flight()
        self.began_fault = self._phase("control", self._began_control)

    async def rest(self, seconds: float) -> None:
        """A fault's duration."""
        await asyncio.sleep(seconds)

    # -- the course ---------------------------------------------------------------------------

    async def run(self) -> Verdict:
        began = time.monotonic()
        try:
            await self._run()
        except NotInTime as late:
            self.verdict.broken.append(str(late))
        except Exception as error:  # noqa: BLE001 - it makes this row red; the others are run all the same
            self.say(traceback.format_exc())
            self.verdict.broken.append(f"the row failed: {error!r}")
        finally:
            await self._end_processes()
            await self._heal()
        self.verdict.seconds = round(time.monotonic() - began, 1)
        self.verdict.said["phases"] = self._phases
        return self.verdict

    async def _heal(self) -> None:
        try:
            await self.stage.heal()
        except NotInTime as late:
            self.verdict.broken.append(f"the stage does not heal, the next row gets another one: {late}")
            self.stage.is_usable = False

    def _phase(self, name: str, since: float) -> float:
        """Notes how long it took; returns now."""
        now = time.monotonic()
        self._phases[name] = round(now - since, 1)
        return now

    async def _run(self) -> None:
        began = time.monotonic()
        self._sender.start()
        await until(self._has_begun, 60, "the district is on the pages")
        self._reader.start()
        await until(self._is_read, 60, "the first answer was noted")
        self._phase("begin", began)
        await self.control()
        evidence = await self.row.fault(self)
        ended_at = self._phase("fault", self.began_fault)
        self.healed = evidence.healed_at or ended_at
        await self.caught_up()
        caught_up_at = self._phase("catch up", ended_at)
        await self.rest(AFTERWARDS_SECONDS)
        if not self._is_hurried:
            await self._fresh_everywhere()
        await self._end_processes()
        self.verdict.said = {**evidence.said, "in_flight": self._n_in_flight}
        self.verdict.alarm_count = evidence.alarm_count
        self._redelivered_at_most = evidence.redelivered_at_most
        self.verdict.broken += [*evidence.broken, *self._all_down()]
        self.verdict.valid = evidence.bit and (self._n_in_flight > 0 or not self.row.needs_work_in_flight)
        self._phase("load ends", caught_up_at)
        await self._compare(caught_up_at)

    async def _fresh_everywhere(self) -> None:
        """Load goes on until it can be told how long recovery took; if it never can, the verdict says so."""

        def is_fresh() -> bool:
            sent, read = self._history()
            return verdict.recovery_seconds(read, sent, self._outages(), self.healed) is not None

        with suppress(NotInTime):
            await until(is_fresh, FRESH_SECONDS, "something new was read of every partition", 0.5)

    def _history(self) -> tuple[list[Send], list[Read]]:
        return history.sends(self.folder / "sends.jsonl"), history.reads(self.folder / "reads.jsonl")

    async def _has_begun(self) -> bool:
        last = self.district.assignments[-1][0]
        answers = await asyncio.gather(
            *(asyncio.to_thread(w.get, f"/api/teachers/{last}") for w in self.workers if w.can_serve)
        )
        if self.row.poison_share == 1:
            return True
        return all(status in (200, 410) for status, _ in answers)

    def _is_read(self) -> bool:
        """The reader takes longer to start on a busy machine, and what is read before the fault is the control."""
        reads = self.folder / "reads.jsonl"
        return reads.exists() and reads.stat().st_size > 0

    async def _end_processes(self) -> None:
        for process in (self._sender, self._reader):
            process.send_signal(signal.SIGTERM)
        for process in (self._sender, self._reader):
            if not await asyncio.to_thread(process.wait, 90.0):
                self.verdict.broken.append(f"{process.name} did not end")
                process.kill()
            elif process.returncode:
                self.verdict.broken.append(f"{process.name} failed: {process.log_tail(3)}")
        self._load_ended = time.monotonic()

    async def _compare(self, caught_up_at: float) -> None:
        brokers, own = self.stage.brokers, self.district.own_ids
        began = time.monotonic()
        self.truth = await asyncio.to_thread(
            of_sources,
            brokers,
            own,
            gone=self.gone,
            skipped=self.skipped,
            with_last_release=self.row.with_last_release,
        )
        await self._quiet()
        quiet_at = self._phase("quiet", began)
        sent, read = self._history()
        await asyncio.to_thread(self._compare_online, sent, read)
        compared_at = self._phase("compare", quiet_at)
        if not self._is_hurried or self.findings.is_clean:
            await self._compare_stopped()
        stopped_at = self._phase("stopped", compared_at)
        if not self._is_hurried:
            await self._compare_rebuilt()
        self._phase("rebuilt", stopped_at)
        self._judge(sent, read, caught_up_at)

    async def _quiet(self) -> None:
        """Until everything is committed and in MariaDB; what is not there by then is found by the comparison."""
        seconds = HURRIED_SECONDS if self._is_hurried else QUIET_SECONDS
        try:
            await until(self._all_committed, seconds, "everything is committed")
            if self.row.with_last_release:
                await asyncio.to_thread(self._settle)
            await until(self._in_mysql, seconds, "everything is in MariaDB", 0.5)
            await until(self._in_read_models, seconds, "the followers are level", 0.3)
        except NotInTime as late:
            self.verdict.broken.append(str(late))

    async def _all_committed(self) -> bool:
        at = await self.progress()
        return at.committed >= at.end

    def _settle(self) -> None:
        entries = stores.changelogs(self.stage.brokers, self.district.own_ids)
        self.truth.settle({(e.kind, e.key): independent.kept_in(e.row) for e in entries if e.row is not None})

    async def _in_mysql(self) -> bool:
        found = await asyncio.to_thread(self._mysql_rows)
        return not independent.differences(found, self.truth.expected)

    async def _in_read_models(self) -> bool:
        running = [worker for worker in self.workers if worker.wanted]
        return not any(await asyncio.gather(*(self._wrong_answers(worker, Findings()) for worker in running)))

    def _mysql_rows(self) -> dict[independent.Key, independent.Kept]:
        return independent.kept_in_mysql(self.stage.database_url, self.district.own_ids)

    def _compare_online(self, sent: Sequence[Send], read: Sequence[Read]) -> None:
        findings, truth, brokers = self.findings, self.truth, self.stage.brokers
        history.check_sends(sent, truth, findings)
        known = [one for one in sent if one.place not in self.skipped]  # The same event may have been sent again.
        history.check_reads(read, known, truth, STALE_AFTER_SECONDS, findings)
        self.changelogs = stores.changelogs(brokers, self.district.own_ids)
        last = stores.check_changelogs(self.changelogs, truth, findings)
        stores.compare("changelog", {key: independent.kept_in(row) for key, row in last.items()}, truth, findings)
        stores.compare("MariaDB", self._mysql_rows(), truth, findings)
        stores.check_dead_letters(stores.dead_letters(brokers, self._began_ms), truth, findings)
        self._check_mysql_order()

    def _check_mysql_order(self) -> None:
        """What the trigger saw (tests/faults/stage.py)."""
        for class_id, old, new in self.stage.version_decreases():
            if class_id in self.district.own_ids:
                self.findings.add("reorder", class_id, f"MariaDB went from {old} to {new}")

    async def _compare_stopped(self) -> None:
        await asyncio.gather(*(self._answers(worker) for worker in self.workers))
        in_time = await asyncio.gather(*(worker.stop() for worker in self.workers))
        late = [worker.name for worker, ended in zip(self.workers, in_time, strict=True) if not ended]
        if late:  # What was not flushed is gone then, rightly so: there is nothing to compare.
            self.verdict.broken += [f"{name} had to be killed: it did not stop" for name in late]
            return
        codes = {worker.name: worker.process.returncode for worker in self.workers if worker.process.returncode}
        self.verdict.broken += [f"{name} ended with exit code {code} when told to stop" for name, code in codes.items()]
        await asyncio.to_thread(self._compare_tables)
        own = self.district.own_ids
        for worker in self.workers:
            rows = await asyncio.to_thread(stores.read_model_rows, worker.data_dir, own)
            stores.compare(f"the read model of {worker.name}", rows, self.truth, self.findings)

    def _compare_tables(self) -> None:
        own, findings = self.district.own_ids, self.findings
        found = [part for w in self.workers for part in stores.partitions(w.name, w.data_dir, own)]
        stores.compare("the tables", stores.rows_of_owners(found), self.truth, findings)
        stores.check_positions(found, self.changelogs, findings)

    async def _compare_rebuilt(self) -> None:
        for worker in self.workers:
            shutil.rmtree(worker.data_dir, ignore_errors=True)
            worker.start()
        await self.stage.all_ready()
        await asyncio.gather(*(self._answers(worker) for worker in self.workers))

    async def _answers(self, worker: FaultWorker) -> None:
        """Asks for every key; what is wrong is asked again until it is level: it counts when it stays so.

        What is wrong and not told as stale counts at once, since nothing was sent for long enough.
        """
        seconds = HURRIED_SECONDS if self._is_hurried else LEVEL_SECONDS
        try:
            await until(lambda: self._is_right(worker), seconds, f"{worker.name} answers as it should", 0.5)
        except NotInTime:
            await self._wrong_answers(worker, self.findings)

    async def _is_right(self, worker: FaultWorker) -> bool:
        return not await self._wrong_answers(worker, Findings())

    async def _wrong_answers(self, worker: FaultWorker, findings: Findings) -> bool:
        await asyncio.to_thread(self._ask_all, worker, findings)
        return not findings.is_clean

    def _ask_all(self, worker: FaultWorker, findings: Findings) -> None:
        for kind, keys in (("classes", self.district.classes), ("teachers", self.district.teachers)):
            for key in keys:
                asked_at = time.monotonic()
                status, body = worker.get(f"/api/{kind}/{key}")
                right = stores.compare_answer(worker.name, kind, key, status, body, self.truth, findings)
                may_be_old = asked_at < self._load_ended + STALE_AFTER_SECONDS + history.SLACK_SECONDS
                if not right and status in history.GOOD and not body.get("stale") and not may_be_old:
                    self.findings.add("unflagged_stale", (kind, key), f"{worker.name} answers {status} {body}")

    # -- the verdict --------------------------------------------------------------------------

    def _judge(self, sent: Sequence[Send], read: Sequence[Read], caught_up_at: float) -> None:
        at = verdict.Moments(self._began_control, self.began_fault, self.healed, caught_up_at)
        bounds = verdict.Bounds(
            self.row.recovery_seconds,
            READS_PER_SECOND,
            ok_percent=self.row.ok_percent,
            ends_at_most=self.row.ends_at_most,
            redelivered_at_most=self._redelivered_at_most,
        )
        verdict.count(self.verdict, self.truth, self.findings)
        verdict.measure(self.verdict, read, sent, self._outages(), at)
        verdict.judge(self.verdict, read, at, bounds)

    def _outages(self) -> list[Outage]:
        return [outage for worker in self.workers for outage in worker.outages]

    def _all_down(self) -> list[str]:
        """That at one moment of the fault no worker could be asked, one of them having ended by itself."""
        outages = self._outages()
        for at in sorted(o.since for o in outages if o.since >= self.began_fault):
            out = [o for o in outages if o.since <= at and (o.until is None or o.until > at)]
            if len({o.worker for o in out}) == len(self.workers) and not all(o.planned for o in out):
                return [f"no worker could be asked {at - self.began_fault:.1f} s after the fault began"]
        return []

    # -- processes ----------------------------------------------------------------------------

    def _process(self, name: str, command: list[str]) -> Child:
        return Child(name, command, self.folder)

    def _sends_command(self) -> list[str]:
        row = self.row
        numbers = [str(row.events_per_second), str(self.folder / "sends.jsonl")]
        program = str(ROOT / "tests/faults/sends.py")
        seed = self.district.seed
        return [
            *(sys.executable, program, self.stage.brokers, seed),
            *(*numbers, str(row.poison_share), str(row.skew_seconds)),
        ]

    def _reads_command(self) -> list[str]:
        ports = [f"{w.name}={w.port}" for w in self.workers]
        out = str(self.folder / "reads.jsonl")
        program = str(ROOT / "tests/faults/reads.py")
        return [sys.executable, program, self.district.seed, str(READS_PER_SECOND), out, *ports]
