"""Consumer groups of others that read our topics: which of them are shown, however many there are.

Anybody can have groups, thousands of them. Each that is shown costs requests to the brokers every second, space on the
page, and series of metrics for each of its partitions. So they are looked at some at a time, in rounds, and only the
most important ones are shown; how many others there are is counted (decision 0024).
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from emis_streams.brokers import GroupFacts

MOST_SHOWN = 10
MOST_PER_LOOK = 32
"""Groups that are described at one look, beside those that are shown: a look is made every second."""
ROUND_SECONDS = 30.0
"""How often a round begins. One over thousands of groups takes longer, and the next begins after it."""


@dataclass(frozen=True, slots=True)
class Importance:
    """Of a group that reads our topics."""

    has_members: bool
    """Somebody runs it now; else there are only offsets that it has committed."""
    n_partitions: int
    """Of our topics."""


def most_important(found: Mapping[str, Importance], most: int = MOST_SHOWN) -> dict[str, Importance]:
    """Those with members first, then those that read more of our partitions, then by name."""
    names = sorted(found, key=lambda n: (not found[n].has_members, -found[n].n_partitions, n))
    return {name: found[name] for name in names[:most]}


def importance_of(facts: GroupFacts) -> Importance:
    """From facts about our topics only; a group whose members are not known may have some."""
    return Importance(facts.members != 0, len(facts.committed.keys() | facts.owners.keys()))


class ForeignGroups:
    """What was found of them; asks nobody itself. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._round_at = float("-inf")
        self._unseen: deque[str] = deque()
        """Names that this round has not come to yet."""
        self._batch: set[str] = set()
        """Names that are its turn at this look."""
        self._last_round: dict[str, Importance] = {}
        self._this_round: dict[str, Importance] = {}
        """The most important groups that a round has found."""
        self._n_last_round = 0
        self._n_this_round = 0
        """Groups that read our topics."""

    @property
    def shown(self) -> frozenset[str]:
        return frozenset(most_important({**self._last_round, **self._this_round}))

    @property
    def n_left_out(self) -> int:
        """Groups that read our topics and are not shown."""
        return max(0, max(self._n_last_round, self._n_this_round) - len(self.shown))

    def is_due(self, now: float) -> bool:
        """Whether the names of all groups are to be asked for, for a round."""
        return not self._unseen and now - self._round_at >= ROUND_SECONDS

    def begin_round(self, names: Iterable[str], now: float) -> None:
        self._round_at = now
        self._unseen = deque(sorted(names))

    def to_look_at(self) -> set[str]:
        """Names to be described at this look: those that are shown, and the next ones of the round."""
        self._batch = {self._unseen.popleft() for _ in range(min(MOST_PER_LOOK, len(self._unseen)))}
        return self._batch | self.shown

    def note(self, readers: Mapping[str, GroupFacts]) -> None:
        """What the look has found; `readers`: those of the names that read our topics."""
        found = {name: importance_of(facts) for name, facts in readers.items()}
        of_batch = {name: importance for name, importance in found.items() if name in self._batch}
        gone = (self._batch | self.shown) - found.keys()
        self._last_round = _updated(self._last_round, found, gone)
        self._this_round = most_important({**_updated(self._this_round, found, gone), **of_batch})
        self._n_this_round += len(of_batch)
        if self._batch and not self._unseen:
            self._last_round, self._this_round = self._this_round, {}
            self._n_last_round, self._n_this_round = self._n_this_round, 0


def _updated(
    kept: Mapping[str, Importance], found: Mapping[str, Importance], gone: Collection[str]
) -> dict[str, Importance]:
    """What is kept of a round, after a look that found some groups and others no more."""
    return {name: found.get(name, importance) for name, importance in kept.items() if name not in gone}
