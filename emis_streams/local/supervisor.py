"""Keeps children running: one that ended is started again, after a pause that grows."""

import random
import time
from collections.abc import Callable, Sequence

from emis_streams.local.errors import LocalStackError
from emis_streams.local.process import Child

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_AFTER_SECONDS = 60.0
_POLL_SECONDS = 0.2
WRONG_SETTING = 2
"""Exit code of a worker whose settings are wrong: starting it again would not help."""


class Backoff:
    """How long to wait before the next start: doubled each time, forgotten after a steady run."""

    def __init__(self) -> None:
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def next_seconds(self, ran_seconds: float) -> float:
        """The pause after a run of this length, with up to a fifth of jitter."""
        if ran_seconds >= _STEADY_AFTER_SECONDS:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        pause = self._pause_seconds
        self._pause_seconds = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return pause * random.uniform(0.9, 1.1)


class _Kept:
    def __init__(self, child: Child) -> None:
        self.child = child
        self.backoff = Backoff()
        self.started_at = time.monotonic()
        self.start_again_at: float | None = None


class Supervisor:
    """Runs in the main thread (see `local`); `say` is told each end and each start."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._kept: list[_Kept] = []

    @property
    def children(self) -> Sequence[Child]:
        return [kept.child for kept in self._kept]

    def all_run(self) -> bool:
        return all(kept.child.running for kept in self._kept)

    def keep(self, child: Child) -> None:
        """Start it, unless it runs already, and keep it running from now on."""
        if not child.running:
            child.start()
        self._kept.append(_Kept(child))

    def check(self) -> None:
        """Start again what ended and has paused; raises LocalStackError if that is of no use."""
        for kept in self._kept:
            if kept.child.running:
                continue
            if kept.start_again_at is None:
                self._note_end(kept)
            elif time.monotonic() >= kept.start_again_at:
                self._start_again(kept)

    def run(self) -> None:
        """Until an exception (a signal's) ends it."""
        while True:
            self.check()
            time.sleep(_POLL_SECONDS)

    def _note_end(self, kept: _Kept) -> None:
        child, code = kept.child, kept.child.returncode
        if code == WRONG_SETTING:
            raise LocalStackError(f"{child.name} refuses its settings:\n{child.log_tail(3)}")
        pause = kept.backoff.next_seconds(time.monotonic() - kept.started_at)
        kept.start_again_at = time.monotonic() + pause
        self._say(f"{child.name} ended ({_reason(code)}); starting it again in {pause:.1f} s; log: {child.log_path}")
        if last_line := child.log_tail(1):
            self._say(f"  {last_line}")

    def _start_again(self, kept: _Kept) -> None:
        kept.start_again_at = None
        kept.started_at = time.monotonic()
        kept.child.start()
        self._say(f"{kept.child.name} started again (pid {kept.child.pid})")


def _reason(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
