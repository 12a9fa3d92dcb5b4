"""What was seen in the last half minute: the memory that rates, trends and states come from.

Durations are kept for longer than that: each observation says since when what it saw was so.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aiokafka import TopicPartition

from emis_streams import lag_rules
from emis_streams.lag_measurement import Measurement, Watched, partitions_of
from emis_streams.lag_report import State
from emis_streams.lag_rules import Observation, Verdict

WINDOW_SECONDS = 30.0
OBSERVED_IS_ENOUGH_SECONDS = 2.0
"""Up to here, when an end was seen tells a delay well enough; beyond, the record itself is asked."""
REBALANCING = ("PreparingRebalance", "CompletingRebalance")


@dataclass
class Watch:
    """Observations of every group's partitions and of every partition's end."""

    stale_after_seconds: float
    ends: dict[TopicPartition, deque[tuple[float, int]]] = field(default_factory=dict)
    seen: dict[tuple[str, TopicPartition], deque[Observation]] = field(default_factory=dict)
    _level_at: dict[tuple[str, TopicPartition], float] = field(default_factory=dict)
    _states: dict[tuple[str, TopicPartition | None], tuple[State, float]] = field(default_factory=dict)
    """The last state of each group (None) and partition that was not well, and since when it is in it."""

    def add(self, m: Measurement, watched: Watched) -> None:
        """Remember a measurement, and forget what left the window or the cluster."""
        self.ends = {tp: _appended(self.ends.get(tp), (m.at, end), m.at) for tp, end in m.ends.items()}
        seen: dict[tuple[str, TopicPartition], deque[Observation]] = {}
        for group in m.groups:
            for tp in partitions_of(group, m, watched):
                seen[group, tp] = self._observed(group, tp, m)
        self.seen = seen
        self._level_at = {key: at for key, at in self._level_at.items() if key in seen}
        self._states = {
            key: since for key, since in self._states.items() if key in seen or (key[1] is None and key[0] in m.groups)
        }

    def _observed(self, group: str, tp: TopicPartition, m: Measurement) -> deque[Observation]:
        facts = m.groups[group]
        owned = None if facts.members is None or facts.state in REBALANCING else tp in facts.owners
        now = Observation(m.at, facts.committed.get(tp), m.ends.get(tp), m.earliest.get(tp), owned)
        before = self.seen.get((group, tp), deque())
        now = replace(now, standing_since=lag_rules.standing_since(before[-1] if before else None, now))
        while before and before[0].at < m.at - WINDOW_SECONDS:
            before.popleft()
        before.append(now)
        return before

    def standing(self) -> set[TopicPartition]:
        """Partitions in which a group did not move between the last two looks, though there was something to read."""
        return {tp for (_, tp), seen in self.seen.items() if seen[-1].standing_since not in (None, seen[-1].at)}

    def note_stable(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The last stable offsets, as they were asked for after the last look."""
        for (_, tp), seen in self.seen.items():
            if tp in offsets and seen[-1].standing_since is not None:
                seen[-1] = replace(seen[-1], stable=offsets[tp])

    def standing_seconds(self, group: str, tp: TopicPartition) -> float:
        """How long the group stands at its offset, at least."""
        now = self.seen[group, tp][-1]
        return 0.0 if now.standing_since is None else now.at - now.standing_since

    def unread_from(self, group: str, tp: TopicPartition) -> int | None:
        """Where the group's unread records begin; None if nothing is unread, or it is not known."""
        now = self.seen[group, tp][-1]
        if now.end is None or now.earliest is None:
            return None
        position = max(now.committed if now.committed is not None else 0, now.earliest)
        return position if position < now.end else None

    def delay(self, tp: TopicPartition, position: int, now: float) -> float | None:
        """How old the oldest record from `position` on can be, as far as the watched ends tell."""
        return lag_rules.observed_delay(position, self.ends.get(tp, ()), now)

    def unsynced_seconds(self, group: str, tp: TopicPartition, lag_seconds: float | None, now: float) -> float | None:
        """How long the group was not seen level with the end (within the age that is not yet stale)."""
        key = (group, tp)
        if lag_seconds is not None and lag_seconds <= self.stale_after_seconds:
            self._level_at[key] = now
            return 0.0
        if key in self._level_at:
            return now - self._level_at[key]
        return lag_seconds

    def in_state_since(self, group: str, tp: TopicPartition | None, found: Verdict, now: float) -> float | None:
        """Since when a group (None) or a partition of it is in its state, in the time of `now`; None if that is ok."""
        if found.severity == "ok":
            self._states.pop((group, tp), None)
            return None
        state, since = self._states.get((group, tp), (None, now))
        if state != found.state:
            since = now
            self._states[group, tp] = found.state, now
        return since


def _appended(
    before: deque[tuple[float, int]] | None, point: tuple[float, int], now: float
) -> deque[tuple[float, int]]:
    points = before if before is not None else deque()
    while points and points[0][0] < now - WINDOW_SECONDS:
        points.popleft()
    points.append(point)
    return points
