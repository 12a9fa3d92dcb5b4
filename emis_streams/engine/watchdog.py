"""Ends a worker that makes no progress, from a thread that a stuck event loop cannot stop.

It tells waiting from being stuck: rows that wait for an acknowledgement of brokers that cannot be
reached, a group without a coordinator, and a follower that says what it waits for, are deliberate.
Not so a member that hears nothing of its group while the brokers answer everything else (row 14b of
the fault matrix: the cause, somewhere in aiokafka, was not found): it is over with the process.
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
from emis_streams.engine.options import options_of

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Watchdog(Service):
    """Looks once a second at the event loop, at rebalances, at catching up and at the slices under way.

    Every app of the engine has one, unless its options say none; one that does not ingest has its event loop watched.
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

    async def on_start(self) -> None:
        loop = asyncio.get_running_loop()
        # Faust makes its services when they are first asked for, on the asking thread's loop: were the
        # watchdog's thread the first (brokers away at the start), their waits would never end.
        if self._app.ingests:
            _ = self._app.tables.recovery, self._app.slice_consumer
        thread = threading.Thread(target=self._run, args=(loop, threading.get_ident()), name="watchdog", daemon=True)
        thread.start()

    async def on_stop(self) -> None:
        self._ended.set()

    def _run(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._see_loop)
            stuck = self._stuck(time.monotonic())
            if stuck is not None:
                frames = sys._current_frames().get(loop_thread)
                where = [f"{at.filename}:{at.lineno} in {at.name}" for at in traceback.extract_stack(frames)]
                logger.critical("the event loop is at: %s", "; ".join(where) if frames else "unknown")
                faulthandler.dump_traceback()  # Where the other threads are, the consumer's among them.
                fatal.end_process(self._app, stuck, code=fatal.EXIT_STALLED)

    def _see_loop(self) -> None:
        self._loop_seen = time.monotonic()

    def _stuck(self, now: float) -> str | None:
        """What makes no progress, or None."""
        limit = self._limit_seconds
        if now - self._loop_seen > limit:
            return f"the event loop has stood still for {limit:g} s"
        if not self._app.ingests:
            return None
        of_group = self._taking_over_stuck(now) or self._group_stuck(now)
        return of_group or self._slices_stuck(now) or self._fetching_stuck(now)

    def _taking_over_stuck(self, now: float) -> str | None:
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
        if catch_up.waiting.reason is not None or now - since <= self._limit_seconds:
            return None
        return f"a rebalance has made no progress for {now - since:.0f} s"

    def _group_stuck(self, now: float) -> str | None:
        """Only once: a process that never was a member waits for as long as it takes."""
        since, membership = self._app.tables.recovery.brokers_answer_since, self._app.slice_consumer.membership
        if since is None or not membership.last_heartbeat:
            return None
        silent_seconds: float = min(now - since, membership.seconds_since_heartbeat())
        if silent_seconds <= self._limit_seconds:
            return None
        return f"the brokers answer, but no heartbeat was answered for {silent_seconds:.0f} s"

    def _slices_stuck(self, now: float) -> str | None:
        """A slice that no agent has begun; one that was waits for its acknowledgement, as long as that takes."""
        waiting = [s for s in self._app.slice_consumer.slices_under_way() if not s.begun]
        if self._app.rebalancing or not waiting:
            return None
        oldest = min(waiting, key=lambda batch: batch.delivered_at)
        if now - oldest.delivered_at <= self._limit_seconds:
            return None
        return f"no agent has called done_when for {oldest!r} within {now - oldest.delivered_at:.0f} s"

    def _fetching_stuck(self, now: float) -> str | None:
        standing = self._app.slice_consumer.unfetched_since()
        if self._app.rebalancing or standing is None or now - standing[1] <= self._limit_seconds:
            return None
        return f"{standing[0]} has records to fetch and stands still for {now - standing[1]:.0f} s"
