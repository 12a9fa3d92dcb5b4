"""Partition n of all sources is always one worker's, whoever joins and leaves: a class's events meet in one table."""

import itertools
from collections import Counter

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given, settings
from hypothesis import strategies as st

from emis_streams import topics
from emis_streams.engine.app import App
from emis_streams.engine.options import Options

SOURCES = {name for subject in topics.SUBJECTS for name in subject.events}
N_PARTITIONS = 10


class Cluster:
    """As much of the brokers' metadata as an assignor asks for."""

    def __init__(self, n_partitions: int = N_PARTITIONS) -> None:
        self._n_partitions = n_partitions

    def topics(self) -> set[str]:
        return SOURCES

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return set(range(self._n_partitions))


class Member:
    """A worker of the group, with what it remembers of its last assignment."""

    def __init__(self, number: int) -> None:
        app = App(f"worker-{number}", engine_options=Options(), broker="slices://127.0.0.1:1", datadir="never-made")
        self.assignor = app.assignor
        self.owned: dict[str, set[int]] = {}

    def metadata(self) -> ConsumerProtocolMemberMetadata:
        return self.assignor.metadata(SOURCES)

    def take(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        self.assignor.on_assignment(assignment)
        self.owned = {topic: set(partitions) for topic, partitions in assignment.assignment}


def rebalance(members: dict[str, Member], cluster: Cluster | None = None) -> None:
    leader = next(iter(members.values()))
    shared_out = leader.assignor.assign(cluster or Cluster(), {name: m.metadata() for name, m in members.items()})
    for name, member in members.items():
        member.take(shared_out[name])


def assert_shared_out_well(members: dict[str, Member]) -> None:
    owners: Counter[tuple[str, int]] = Counter()
    for member in members.values():
        of_topics = [member.owned.get(topic, set()) for topic in SOURCES]
        assert all(owned == of_topics[0] for owned in of_topics), member.owned
        owners.update((topic, n) for topic, owned in member.owned.items() for n in owned)
    assert owners == Counter(dict.fromkeys(itertools.product(SOURCES, range(N_PARTITIONS)), 1))


@settings(max_examples=25)
@given(st.lists(st.sets(st.integers(0, 4), min_size=1), min_size=1, max_size=5))
def test_partitions_stay_together_and_have_one_owner_whoever_joins_and_leaves(generations: list[set[int]]) -> None:
    known: dict[int, Member] = {}
    for present in generations:
        known = {number: known.get(number) or Member(number) for number in present}
        members = {f"member-{number}": member for number, member in known.items()}
        rebalance(members)
        assert_shared_out_well(members)


def test_partitions_that_are_no_more_are_forgotten() -> None:
    """Topics that were widened, then made anew as they had been."""
    members = {"member-0": Member(0), "member-1": Member(1)}
    for n_partitions in (N_PARTITIONS, N_PARTITIONS + 2, N_PARTITIONS):
        rebalance(members, Cluster(n_partitions))
    assert_shared_out_well(members)
