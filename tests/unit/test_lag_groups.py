"""Groups of others that read our topics: a few are asked about at each look, and the most important ones shown."""

from collections import deque

from aiokafka import TopicPartition

from emis_streams.brokers import ABSENT, GroupFacts
from emis_streams.lag_assembly import Assembly
from emis_streams.lag_foreign_groups import (
    MOST_PER_LOOK,
    MOST_SHOWN,
    ROUND_SECONDS,
    ForeignGroups,
    Importance,
    most_important,
)
from emis_streams.lag_measurement import Measurement, RecordTimes, Watched, watched_by
from emis_streams.lag_watch import Watch
from tests.pages import THRESHOLDS

TOPIC = "emis.class.created"
NAMES = [f"stranger-{number:04}" for number in range(1_000)]


def reader(n_partitions: int = 1, members: int | None = 0) -> GroupFacts:
    return GroupFacts("Empty", members, committed={TopicPartition(TOPIC, n): 7 for n in range(n_partitions)})


def look(groups: ForeignGroups, there: dict[str, GroupFacts], now: float) -> set[str]:
    """One look of the lag monitor, at what the brokers have of groups; the names that it asked for."""
    if groups.is_due(now):
        groups.begin_round(there, now)
    asked = groups.to_look_at()
    groups.note({name: there[name] for name in asked if name in there and there[name].committed})
    return asked


def a_round(groups: ForeignGroups, there: dict[str, GroupFacts], begin: float) -> list[set[str]]:
    n_looks = max(1, -(-len(there) // MOST_PER_LOOK))
    return [look(groups, there, begin + number) for number in range(n_looks)]


def test_groups_with_members_come_first_then_those_that_read_most_then_by_name() -> None:
    found = {
        "b": Importance(has_members=False, n_partitions=3),
        "a": Importance(has_members=False, n_partitions=3),
        "many": Importance(has_members=False, n_partitions=90),
        "live": Importance(has_members=True, n_partitions=1),
    }
    assert list(most_important(found, 3)) == ["live", "many", "a"]


def test_of_a_thousand_groups_ten_are_shown_and_the_others_counted() -> None:
    groups, there = ForeignGroups(), {name: reader() for name in NAMES} | {"live": reader(2, members=1)}
    looks = a_round(groups, there, 0.0)
    assert groups.shown == {"live", *NAMES[: MOST_SHOWN - 1]}
    assert groups.n_left_out == 1_001 - MOST_SHOWN
    assert max(map(len, looks)) <= MOST_PER_LOOK + MOST_SHOWN
    assert set.union(*looks) == there.keys(), "each has its turn in a round"


def test_what_is_remembered_of_a_thousand_groups_is_ten() -> None:
    groups, there = ForeignGroups(), {name: reader() for name in NAMES}
    a_round(groups, there, 0.0)
    assert sum(len(value) for value in vars(groups).values() if isinstance(value, (dict, deque))) <= 2 * MOST_SHOWN


def test_few_groups_are_all_shown_at_the_first_look() -> None:
    groups = ForeignGroups()
    look(groups, {"a": reader(), "b": reader(), "reads other topics": GroupFacts("Stable", 1)}, 0.0)
    assert (groups.shown, groups.n_left_out) == ({"a", "b"}, 0)


def test_a_group_that_is_gone_is_not_shown_at_the_next_look() -> None:
    groups = ForeignGroups()
    look(groups, {"a": reader(), "b": reader()}, 0.0)
    look(groups, {"a": reader()}, 1.0)
    assert groups.shown == {"a"}


def test_groups_that_are_gone_are_not_counted_after_the_next_round() -> None:
    groups = ForeignGroups()
    a_round(groups, {name: reader() for name in NAMES}, 0.0)
    few = {name: reader() for name in NAMES[:12]}
    a_round(groups, few, ROUND_SECONDS)
    assert (len(groups.shown), groups.n_left_out) == (10, 2)


def test_a_group_that_becomes_important_takes_the_place_of_another_within_a_round() -> None:
    groups, there = ForeignGroups(), {name: reader() for name in NAMES}
    a_round(groups, there, 0.0)
    there[NAMES[-1]] = reader(members=3)
    a_round(groups, there, 100.0)
    assert NAMES[-1] in groups.shown
    assert groups.n_left_out == 1_000 - MOST_SHOWN


def test_a_round_begins_only_after_the_last_one() -> None:
    groups, there = ForeignGroups(), {name: reader() for name in NAMES}
    look(groups, there, 0.0)
    assert not groups.is_due(10 * ROUND_SECONDS)


def measured(watched: Watched, *groups: str) -> Measurement:
    tp = TopicPartition(watched.sources[0], 0)
    facts = {name: GroupFacts("Empty", 0, committed={tp: 5}) for name in groups}
    return Measurement(1.0, 1.0, None, 1, {}, facts, 0, {tp: 9}, {tp: 0})


def test_how_long_a_group_was_not_level_is_forgotten_with_the_group() -> None:
    watched, watch = watched_by("lessons"), Watch(stale_after_seconds=5.0)
    tp = TopicPartition(watched.sources[0], 0)
    for number in range(1_000):
        name = f"stranger-{number}"
        watch.add(measured(watched, name), watched)
        watch.unsynced_seconds(name, tp, 0.0, 1.0)
    assert len(watch._level_at) == len(watch.seen) == 1


def test_a_group_and_its_partitions_say_since_when_they_are_in_a_state_that_is_not_well() -> None:
    watched, watch = watched_by("lessons"), Watch(stale_after_seconds=5.0)
    tp = TopicPartition(watched.sources[0], 0)
    found = []
    for at, committed in ((100.0, 5), (101.0, 5), (102.0, 9), (103.0, 5)):
        facts = {"emis-lessons-service": GroupFacts("Empty", 0, committed={tp: committed})}
        m = Measurement(at, at, None, 1, {}, facts, 0, {tp: 9}, {tp: 0})
        watch.add(m, watched)
        [group] = Assembly(m, watched, watch, (), RecordTimes(), THRESHOLDS).groups()
        [partition] = group.partitions
        assert partition.since == group.since
        found.append((group.state, group.since and group.since.timestamp()))
    assert found == [("STOPPED", 100.0), ("STOPPED", 100.0), ("OK", None), ("REWIND", 103.0)]
    watch.add(Measurement(104.0, 104.0, None, 1, {}, {}, 0, {tp: 9}, {tp: 0}), watched)
    assert watch._states == {}, "what is gone is forgotten"


def test_an_absent_group_of_ours_is_not_one_of_others() -> None:
    assert not ABSENT.committed
    assert watched_by("users").own == {"emis-users-service"}
