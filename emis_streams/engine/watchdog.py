"""Ends a worker that makes no progress, from a thread that a stuck event loop cannot stop.

It tells waiting from being stuck. Deliberate is: rows that wait for brokers that cannot be reached or do not take them,
a group without a coordinator, a follower or a part of the application (`App.waits`) that says what it waits for.
Stuck is: a client of the brokers whose background task has ended, a slice of which nothing is acknowledged though
nothing is waited for, what the application's parts say of themselves (`App.standstills`), and a member that hears
nothing of its group while the brokers answer everything else (row 14b of the fault matrix: the cause, somewhere in
aiokafka, was not found). Restarting the process clears it.
"""

import asyncio
import faulthandler
import logging
import sys
import threading
import time
import traceback
from typing import Any

from mode import Service

from emis_streams.engine import fatal
from emis_streams.engine.client_tasks import ended_task
from emis_streams.engine.options import options_of

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Watchdog(Service):
    """Looks once a second at the event loop, at clients of the brokers and at what the application says of its parts;
    of a member of the group also at rebalances, at catching up and at the slices under way.

    Every app of the engine has one, unless its options say none.
    """

    mundane_level = "debug"

    abstract = False

    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app
        limit_seconds = options_of(app).watchdog_timeout_seconds
        assert limit_seconds is not None, "without a limit there is no watchdog"
        self._limit_seconds = limit_seconds
        self._loop_seen = time.monotonic()
        self._ended = threading.Event()
        self._rebalancing_since: float | None = None
        self._task_ended: tuple[str, float] | None = None
        """Of a client, and when that was first seen (monotonic): one that is just being stopped is none."""

    async def on_start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._app.ingests:
            self._make_services()
        thread = threading.Thread(target=self._run, args=(loop, threading.get_ident()), name="watchdog", daemon=True)
        thread.start()

    def _make_services(self) -> None:
        # Faust makes its services when they are first asked for, on the asking thread's loop: were the
        # watchdog's thread the first (brokers away at the start), their waits would never end.
        _ = self._app.tables.recovery, self._app.slice_consumer

    async def on_stop(self) -> None:
        self._ended.set()

    def _run(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        try:
            self._watch(loop, loop_thread)
        except Exception as error:  # noqa: BLE001 - a thread that ends would end nothing but itself
            fatal.end_process(self._app, "the watchdog failed", error)

    def _watch(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._see_loop)
            stuck = self._stuck(time.monotonic(), self._limit_seconds)
            if stuck is not None:
                frames = sys._current_frames().get(loop_thread)
                where = [f"{at.filename}:{at.lineno} in {at.name}" for at in traceback.extract_stack(frames)]
                logger.critical("the event loop is at: %s", "; ".join(where) if frames else "unknown")
                if sys.__stderr__ is not None:  # Faust's worker puts loggers in the place of sys.stderr.
                    faulthandler.dump_traceback(sys.__stderr__)  # The other threads, the consumer's among them.
                fatal.end_process(self._app, stuck, code=fatal.EXIT_STALLED)

    def _see_loop(self) -> None:
        self._loop_seen = time.monotonic()

    def standstill(self) -> str | None:
        """What has made no progress for half of the time after which the process ends; for probes and `/health`."""
        return self._stuck(time.monotonic(), self._limit_seconds / 2)

    def _stuck(self, now: float, limit: float) -> str | None:
        """What makes no progress, or None."""
        if now - self._loop_seen > limit:
            return f"the event loop has stood still for {limit:g} s"
        return self._client_stuck(now) or self._member_stuck(now, limit) or self._part_stuck(now, limit)

    def _client_stuck(self, now: float) -> str | None:
        ended = ended_task()
        if ended is None:
            self._task_ended = None
            return None
        if self._task_ended is None or self._task_ended[0] != ended:
            self._task_ended = ended, now
        return ended if now - self._task_ended[1] >= _LOOK_SECONDS else None

    def _part_stuck(self, now: float, limit: float) -> str | None:
        found = (standstill(now, limit) for standstill in self._app.standstills)
        return next((reason for reason in found if reason is not None), None)

    def _member_stuck(self, now: float, limit: float) -> str | None:
        if not self._app.ingests:
            return None
        of_group = self._taking_over_stuck(now, limit) or self._group_stuck(now, limit)
        return of_group or self._slices_stuck(now, limit) or self._fetching_stuck(now, limit)

    def _taking_over_stuck(self, now: float, limit: float) -> str | None:
        catch_up = self._app.tables.recovery
        if not self._app.rebalancing:
            self._rebalancing_since = None
            return None
        membership = self._app.slice_consumer.membership
        if not membership.has_coordinator:
            self._rebalancing_since = None
            return None
        self._rebalancing_since = self._rebalancing_since or now
        since = max(self._rebalancing_since, membership.coordinator_lost_at)
        follower = catch_up.follower
        if follower is not None:
            if follower.waiting_for is not None:
                return None
            since = max(since, follower.last_progress)
        if catch_up.waiting.reason is not None or now - since <= limit:
            return None
        return f"a rebalance has made no progress for {now - since:.0f} s"

    def _group_stuck(self, now: float, limit: float) -> str | None:
        """Only once: a process that never was a member waits for as long as it takes."""
        since, membership = self._app.tables.recovery.brokers_answer_since, self._app.slice_consumer.membership
        if since is None or not membership.last_heartbeat:
            return None
        silent_seconds: float = min(now - since, membership.seconds_since_heartbeat())
        if silent_seconds <= limit:
            return None
        return f"the brokers answer, but no heartbeat was answered for {silent_seconds:.0f} s"

    def _slices_stuck(self, now: float, limit: float) -> str | None:
        """The oldest slice: one that no agent has begun, or of which nothing more is acknowledged."""
        under_way = self._app.slice_consumer.slices_under_way()
        if self._app.rebalancing or not under_way or self._waits(limit) is not None:
            return None
        waiting = [batch for batch in under_way if not batch.begun]
        oldest = min(waiting, key=lambda batch: batch.delivered_at, default=None)
        if oldest is not None and now - oldest.delivered_at > limit:
            return f"no agent has called done_when for {oldest} within {now - oldest.delivered_at:.0f} s"
        # What came later may well wait for what came before it.
        begun = min((b for b in under_way if b.begun), key=lambda batch: batch.delivered_at, default=None)
        if begun is not None and now - begun.progressed_at > limit:
            return f"{begun} was begun, and nothing of it was acknowledged for {now - begun.progressed_at:.0f} s"
        return None

    def _waits(self, limit: float) -> str | None:
        """What slices may wait for on purpose now."""
        if self._app.tables.recovery.brokers_answer_since is None:
            return "the brokers do not answer"
        reasons = (waits() for waits in self._app.waits)
        return self._app.tables.writer.waits_for(limit) or next((r for r in reasons if r is not None), None)

    def _fetching_stuck(self, now: float, limit: float) -> str | None:
        standing = self._app.slice_consumer.unfetched_since()
        if self._app.rebalancing or standing is None or now - standing[1] <= limit:
            return None
        return f"{standing[0]} has records to fetch and stands still for {now - standing[1]:.0f} s"
