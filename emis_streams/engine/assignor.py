"""Which worker gets which partitions: the same numbers of all topics that belong together."""

from collections import defaultdict
from collections.abc import Iterable

from faust.assignor.partition_assignor import MemberSubscriptionMapping, PartitionAssignor


class CopartitioningAssignor(PartitionAssignor):
    """Faust's assignor, with topics grouped by *which* members subscribe.

    Faust groups by `tuple(set_of_members)`: two equal sets may iterate in different orders, and then
    topics with the same subscribers land in different groups and their partitions on different workers.
    """

    @classmethod
    def _group_co_subscribed(cls, topics: set[str], subscriptions: MemberSubscriptionMapping) -> Iterable[set[str]]:
        groups: dict[frozenset[str], set[str]] = defaultdict(set)
        for topic in sorted(topics):
            members = frozenset(member for member, subscribed in subscriptions.items() if topic in subscribed)
            groups[members].add(topic)
        return groups.values()
