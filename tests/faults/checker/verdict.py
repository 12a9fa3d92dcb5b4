"""The verdict on a row: its figures, and each bound that was not kept in words."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.checker import history
from tests.faults.checker.findings import KINDS, Findings
from tests.faults.checker.history import Read, Send
from tests.faults.checker.truth import Truth

LEAST_SHARE_ASKED = 0.8
"""Of the requests that are due at the readers' rate; with fewer the readers themselves were hindered."""


@dataclass
class Outage:
    """From when to when a worker could not be asked (None: still)."""

    worker: str
    since: float
    until: float | None = None
    planned: bool = True
    """Whether a row did it; else the worker ended by itself."""


@dataclass(frozen=True)
class Moments:
    """Of a course, on the monotonic clock."""

    control: float
    fault: float
    healed: float
    caught_up: float


@dataclass(frozen=True)
class Bounds:
    recovery_seconds: float
    reads_per_second: float
    ok_percent: float = 99.9
    p99_ms: float = 500.0
    redelivered_at_most: int | None = None
    ends_at_most: int | None = None


@dataclass
class Verdict:
    seed: int
    row: str
    n_events: int = 0
    n_keys: int = 0
    lost: int = 0
    dup_effect: int = 0
    reorder: int = 0
    resurrect: int = 0
    divergent: int = 0
    phantom: int = 0
    unflagged_stale: int = 0
    ok_pct: float = 0.0
    p99_ms: float | None = None
    rto_s: float | None = None
    valid: bool = False
    name: str = ""
    p99_control_ms: float | None = None
    alarm_count: int | None = None
    unplanned_ends: int = 0
    seconds: float = 0.0
    said: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Each promise that was not kept, in words."""
    slow: list[str] = field(default_factory=list)
    """Each bound of time that was not kept."""

    @property
    def right(self) -> bool:
        """Whatever the time it took: what machines with other work to do are held to."""
        return self.valid and not self.broken

    @property
    def green(self) -> bool:
        return self.right and not self.slow

    @property
    def found(self) -> dict[str, int]:
        """How many of each kind of finding there are, of those that there are."""
        return {kind: n for kind in KINDS if (n := getattr(self, kind))}

    def line(self) -> str:
        """What is printed: one JSON object."""
        names = [
            *("seed", "row", "n_events", "n_keys", *KINDS, "ok_pct", "p99_ms", "rto_s", "valid"),
            *(["alarm_count"] if self.alarm_count is not None else []),
        ]
        return json.dumps({name: asdict(self)[name] for name in names})


def count(verdict: Verdict, truth: Truth, findings: Findings) -> None:
    """What was found in the stores and in the history."""
    verdict.n_events, verdict.n_keys = truth.n_events, len(truth.expected)
    for kind in KINDS:
        setattr(verdict, kind, findings.count(kind))
    verdict.said.update(findings.notes)
    verdict.broken += findings.examples()


def measure(
    verdict: Verdict, read: Sequence[Read], sent: Sequence[Send], outages: Sequence[Outage], at: Moments
) -> None:
    """Availability, latency and recovery, of the answers of workers that could be asked."""
    asked = [one for one in read if could_serve(one, outages)]
    good = [one for one in asked if one.status in history.GOOD]
    verdict.ok_pct = round(100 * len(good) / len(asked), 3) if asked else 0.0
    verdict.p99_control_ms = _p99_ms(one for one in good if one.ended < at.fault)
    during = [one for one in good if at.fault <= one.due <= at.caught_up]
    verdict.p99_ms = _p99_ms(during)
    verdict.said["p50_ms"] = _ms(history.percentile([one.took for one in during], 0.5))
    recovered = recovery_seconds(read, sent, outages, at.healed)
    verdict.rto_s = None if recovered is None else round(recovered, 2)
    verdict.unplanned_ends = sum(not o.planned for o in outages if o.since >= at.control)


def recovery_seconds(
    read: Iterable[Read], sent: Sequence[Send], outages: Sequence[Outage], healed: float
) -> float | None:
    """As `history.recovery_seconds`, by good answers of workers that could be asked."""
    good = [one for one in read if one.ended >= healed and one.status in history.GOOD and could_serve(one, outages)]
    return history.recovery_seconds(good, sent, healed)


def judge(verdict: Verdict, read: Sequence[Read], at: Moments, bounds: Bounds) -> None:
    """Says which bounds were not kept, and whether the run can say anything at all."""
    broken, slow = verdict.broken, verdict.slow
    if verdict.ok_pct < bounds.ok_percent:
        broken.append(f"answers ok: {verdict.ok_pct} % < {bounds.ok_percent} %")
    if verdict.p99_ms is not None and verdict.p99_ms > bounds.p99_ms:
        slow.append(f"p99 during the fault: {verdict.p99_ms} ms > {bounds.p99_ms} ms")
    if verdict.rto_s is None:
        broken.append("of some partition nothing new was read after the fault")
    elif verdict.rto_s > bounds.recovery_seconds:
        slow.append(f"recovery: {verdict.rto_s} s, allowed are {bounds.recovery_seconds} s")
    if bounds.ends_at_most is not None and verdict.unplanned_ends > bounds.ends_at_most:
        broken.append(f"workers ended by themselves: {verdict.unplanned_ends}, allowed are {bounds.ends_at_most}")
    redelivered = verdict.said.get("redelivered", 0)
    if bounds.redelivered_at_most is not None and redelivered > bounds.redelivered_at_most:
        broken.append(f"delivered again: {redelivered}, in flight were {bounds.redelivered_at_most}")
    if not verdict.valid:
        broken.append(f"the fault did not bite: {verdict.said}")
    missing = _missing(verdict, read, at, bounds)
    verdict.valid = verdict.valid and not missing
    broken += missing


def _missing(verdict: Verdict, read: Sequence[Read], at: Moments, bounds: Bounds) -> list[str]:
    """Without these a run shows nothing: not that all is well either."""
    missing = []
    if not verdict.n_events:
        missing.append("nothing was sent")
    if verdict.p99_control_ms is None:
        missing.append("no answer before the fault: there is no control")
    n_read = sum(at.fault <= one.due <= at.caught_up for one in read)
    n_due = (at.caught_up - at.fault) * bounds.reads_per_second
    if n_read < LEAST_SHARE_ASKED * n_due:
        missing.append(f"the readers asked {n_read} times during the fault, due were {n_due:.0f}")
    return missing


def could_serve(one: Read, outages: Iterable[Outage]) -> bool:
    """Whether the worker ran and was ready all the time from when the request was due until it ended."""
    return not any(
        o.worker == one.worker and o.since <= one.ended and (o.until is None or o.until >= one.due) for o in outages
    )


def _p99_ms(read: Iterable[Read]) -> float | None:
    return _ms(history.percentile([one.took for one in read], 0.99))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
