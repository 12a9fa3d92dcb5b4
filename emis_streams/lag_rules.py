"""The rules of lag: pure functions of what was observed, with the clock passed in.

The order of the rules and most of their names come from Burrow (`evaluator/caching.go` of
linkedin/Burrow 1.9); what differs: seconds come from records, and a group whose lag shrinks is
`CATCHING_UP` instead of being warned of.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from emis_streams.engine.open_transactions import OpenTransaction
from emis_streams.lag_report import SEVERITIES, OpenTransactionLag, ReasonParams, Severity, State
from emis_streams.quantities import filled

STALLED_AFTER_SECONDS = 10.0
"""A committed offset that did not move for this long, with lag, is stalled."""
TREND_AFTER_SECONDS = 5.0
"""No trend is claimed from less."""

SEVERITY: dict[State, Severity] = {  # in the order in which a group's state is chosen
    "NEVER_COMMITTED": "warn",
    "OK": "ok",
    "CATCHING_UP": "ok",
    "UNKNOWN": "warn",
    "BEHIND": "warn",
    "REWIND": "warn",
    "STALLED": "error",
    "OPEN_TRANSACTION": "error",
    "STOPPED": "error",
    "LOST": "error",
    "AHEAD": "error",
}


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a group's partition."""

    at: float
    """Monotonic seconds, before the brokers were asked."""
    committed: int | None
    end: int | None
    earliest: int | None
    owned: bool | None
    """Whether a member has it; None if the brokers do not say."""
    standing_since: float | None = None
    """When the group was first seen at this offset with records to read; None if it is level."""
    stable: int | None = None
    """The last stable offset: readers of committed records get no further. None: not asked, as the group moves."""

    @property
    def position(self) -> int | None:
        """Where the group reads on; None if that is not known."""
        return self.committed if self.committed is not None else self.earliest


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state, why, and how bad that is."""

    state: State
    reason_key: str
    params: ReasonParams
    severity: Severity

    @property
    def reason(self) -> str:
        return filled(REASONS[self.reason_key], self.params)


REASONS = {
    "level": "Every record was read.",
    "within": "The oldest unread record is {seconds:.1f} s old, within the limit of {allowed:.0f} s.",
    "shrinking": "{lag:record|records} behind, decreasing by {rate:.0f} per second.",
    "growing": "{lag:record|records} behind; the lag grew by {grown} in the last {window:.0f} s.",
    "steady": "{lag:record|records} behind; the lag neither grows nor shrinks.",
    "trend_unknown": "{lag:record|records} behind; not observed for long enough to know the trend.",
    "stalled": (
        "The committed offset has stayed at {committed} for at least {seconds:.0f} s while "
        "{lag:record waits|records wait}."
    ),
    "open_transaction": (
        "An open transaction has held the last stable offset at {stable} (high watermark {end}) for at least "
        "{seconds:.0f} s: no reader gets past it until its producer commits or aborts."
    ),
    "stopped": "No member of the group reads this partition while {lag:record waits|records wait}.",
    "rewind": "The committed offset went back from {highest} to {committed}: records are read again.",
    "never_committed_empty": "Nothing was committed yet, and the log is empty.",
    "never_committed": "Nothing was committed yet; {waiting:record is|records are} in the log.",
    "never_committed_stopped": (
        "Nothing was committed yet and no member reads it; {waiting:record is|records are} in the log."
    ),
    "lost": "{lost:record|records} expired before being read: run `emis-streams sync`.",
    "ahead": "The committed offset {committed} is beyond the end {end}: the topic was recreated or truncated.",
    "no_partitions": "There is nothing to read: the topics of this group do not exist.",
    "end_unknown": "The end offset of the partition is not known: it has no leader, or the topic does not exist.",
}
"""English texts by reason key; pages translate by the key."""

ERRORS = {
    "no_broker": "No broker answers at {brokers}.",
    "refused": "The brokers at {brokers} cannot be asked: {reason}.",
}
"""Of a measurement that failed, by `LagReport.error_key`."""


def lag_of(committed: int | None, end: int | None) -> int | None:
    """End minus committed; 0 if a commit came after the end was asked; None if one is not known."""
    return None if committed is None or end is None else max(0, end - committed)


def verdict(seen: Sequence[Observation], lag_seconds: float | None, allowed_seconds: float) -> Verdict:
    """The state of a group's partition from observations, oldest first (at least one)."""
    now = seen[-1]
    if now.end is None or now.earliest is None:
        return _verdict("UNKNOWN", "end_unknown")
    if now.committed is None:
        return _held(seen, lag_seconds) or _never_committed(now.end - now.earliest, now.owned)
    return (
        _outside_the_log(seen, now.committed, now.end, now.earliest)
        or _moved_back(seen, now.committed)
        or _level(now.committed, now.end, lag_seconds, allowed_seconds)
        or _held(seen, lag_seconds)
        or _not_moving(seen, now.committed, now.end)
        or _trend(seen, now.end - now.committed)
    )


def _verdict(state: State, key: str, severity: Severity | None = None, **params: int | float | str) -> Verdict:
    return Verdict(state, key, params, severity or SEVERITY[state])


def _never_committed(waiting: int, owned: bool | None) -> Verdict:
    if waiting == 0:
        return _verdict("NEVER_COMMITTED", "never_committed_empty", "ok")
    if owned is False:
        return _verdict("NEVER_COMMITTED", "never_committed_stopped", "error", waiting=waiting)
    return _verdict("NEVER_COMMITTED", "never_committed", waiting=waiting)


def _outside_the_log(seen: Sequence[Observation], committed: int, end: int, earliest: int) -> Verdict | None:
    if committed < earliest:
        return _verdict("LOST", "lost", lost=earliest - committed)
    # Commits and ends are asked side by side, so a busy group's commit may be newer than the end;
    # only one that is still ahead at the next look is.
    if committed > end and len(seen) > 1 and seen[-2].committed == committed:
        return _verdict("AHEAD", "ahead", committed=committed, end=end)
    return None


def _moved_back(seen: Sequence[Observation], committed: int) -> Verdict | None:
    highest = max(o.committed for o in seen if o.committed is not None)
    return _verdict("REWIND", "rewind", highest=highest, committed=committed) if committed < highest else None


def _level(committed: int, end: int, lag_seconds: float | None, allowed_seconds: float) -> Verdict | None:
    if committed >= end:
        return _verdict("OK", "level")
    if lag_seconds is not None and lag_seconds <= allowed_seconds:
        return _verdict("OK", "within", seconds=lag_seconds, allowed=allowed_seconds)
    return None


def _held(seen: Sequence[Observation], lag_seconds: float | None) -> Verdict | None:
    """The group has read all that is stable: what comes after belongs to a transaction that does not end.

    Transactions in the making hold every reader for a moment, so only one that lasts is named. The record at the last
    stable offset is its first one, hence its age is the transaction's.
    """
    now = seen[-1]
    seconds = max(_standing_seconds(now), lag_seconds or 0.0)
    if now.position is None or now.stable is None or now.end is None or now.stable > now.position:
        return None
    if now.stable >= now.end or now.owned is False or seconds < STALLED_AFTER_SECONDS:
        return None
    return _verdict("OPEN_TRANSACTION", "open_transaction", stable=now.stable, end=now.end, seconds=seconds)


def open_transaction(found: OpenTransaction) -> OpenTransactionLag:
    """What is said of a partition that nobody can read on."""
    return OpenTransactionLag(
        topic=found.tp.topic,
        partition=found.tp.partition,
        stable_offset=found.stable_offset,
        end_offset=found.end_offset,
        seconds=found.seconds,
        reason=filled(
            REASONS["open_transaction"],
            {"stable": found.stable_offset, "end": found.end_offset, "seconds": found.seconds},
        ),
    )


def standing_since(before: Observation | None, now: Observation) -> float | None:
    """Since when the group stands at its offset with records to read, also if that began before the window."""
    if now.end is None or now.position is None or now.end <= now.position:
        return None
    if before is None or before.standing_since is None or before.position != now.position:
        return now.at
    return before.standing_since


def _standing_seconds(now: Observation) -> float:
    return 0.0 if now.standing_since is None else now.at - now.standing_since


def _not_moving(seen: Sequence[Observation], committed: int, end: int) -> Verdict | None:
    now = seen[-1]
    if now.owned is False:
        return _verdict("STOPPED", "stopped", lag=end - committed)
    seconds = _standing_seconds(now)
    if seconds < STALLED_AFTER_SECONDS:
        return None
    return _verdict("STALLED", "stalled", committed=committed, seconds=seconds, lag=end - committed)


def _trend(seen: Sequence[Observation], lag: int) -> Verdict:
    first = seen[0]
    before = lag_of(first.committed, first.end)
    window = seen[-1].at - first.at
    if before is None or window < TREND_AFTER_SECONDS:
        return _verdict("BEHIND", "trend_unknown", lag=lag)
    if lag < before:
        return _verdict("CATCHING_UP", "shrinking", lag=lag, rate=(before - lag) / window)
    if lag > before:
        return _verdict("BEHIND", "growing", lag=lag, grown=lag - before, window=window)
    return _verdict("BEHIND", "steady", lag=lag)


NOTHING_TO_READ = _verdict("UNKNOWN", "no_partitions")


def badness(found: Verdict) -> tuple[int, int]:
    """Orders verdicts: the worst has the most."""
    return SEVERITIES.index(found.severity), _ORDER[found.state]


_ORDER = {state: place for place, state in enumerate(SEVERITY)}


def worst_severity(severities: Iterable[Severity]) -> Severity:
    return max(severities, key=SEVERITIES.index, default="ok")


def rate(points: Sequence[tuple[float, int | None]]) -> float | None:
    """Growth per second between the first and the last known of (time, offset); None from less than two."""
    known = [(at, offset) for at, offset in points if offset is not None]
    if len(known) < 2 or known[-1][0] <= known[0][0]:
        return None
    return max(0.0, (known[-1][1] - known[0][1]) / (known[-1][0] - known[0][0]))


def catch_up_seconds(lag: int | None, produce_rate: float | None, consume_rate: float | None) -> float | None:
    """Time until the lag is gone at these rates; None if it will not be, or is not known."""
    if lag is None or produce_rate is None or consume_rate is None:
        return None
    if lag == 0:
        return 0.0
    return lag / (consume_rate - produce_rate) if consume_rate > produce_rate else None


def observed_delay(position: int, ends: Sequence[tuple[float, int]], now: float) -> float | None:
    """Upper bound on how old the oldest unread record is, from when which end was seen (oldest first).

    Whatever was in the log when an end at or below the position was asked, was read. None if the
    position is below all ends that are remembered.
    """
    for at, end in reversed(ends):
        if end <= position:
            return max(0.0, now - at)
    return None


def watched_age(position: int, ends: Sequence[tuple[float, int]], now: float, by_its_time: float) -> float:
    """The age of the record at a position: by its time, within what was seen by this process's monotonic clock.

    A record's time is of the brokers' clock, or of its producer's, which this process may not know: behind by an hour,
    nothing would ever look old. What was seen to be there has waited since.
    """
    least = next((now - at for at, end in ends if end > position), 0.0)
    most = observed_delay(position, ends, now)
    age = max(0.0, by_its_time, least)
    return age if most is None else min(age, most)


def total_delay(delays: Iterable[float | None]) -> float | None:
    """The worst delay; None as soon as one of them is not known; 0 of none."""
    worst_so_far = 0.0
    for delay in delays:
        if delay is None:
            return None
        worst_so_far = max(worst_so_far, delay)
    return worst_so_far


@dataclass(frozen=True, slots=True)
class AgeBasis:
    """A complete measurement: how old an answer could be when it was begun."""

    measured_at: float
    delay_seconds: float

    def age_seconds(self, now: float) -> float:
        """What the answer's age can be now: nothing that was read can be unread again."""
        return self.delay_seconds + max(0.0, now - self.measured_at)
