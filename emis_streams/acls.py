"""What each user of the brokers needs, and no more: for brokers with an authorizer that denies by default."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from emis_streams import topics

Kind = Literal["topic", "group", "transactional-id"]


@dataclass(frozen=True)
class Grant:
    """Operations on a topic, a group, or all transactional ids that begin so (Read and Write imply Describe)."""

    operations: tuple[str, ...]
    kind: Kind
    name: str


OFFSETS_TOPIC = "__consumer_offsets"
"""Only described: that it is there tells that there are groups, whose lag can be asked."""

_ASKING = "gateway"
"""The one service of ours that sends requests to others."""

_SOURCES = [topic.name for topic in topics.source_topics()]
_CHANGELOGS = [topic.name for topic in topics.changelog_topics()]
_ALL = [topic.name for topic in topics.all_topics()]
_GROUPS = (topics.APP_ID, topics.REPLICA_GROUP)


def _topics(names: Sequence[str], *operations: str) -> list[Grant]:
    return [Grant(operations, "topic", name) for name in names]


def _groups(names: Sequence[str], *operations: str) -> list[Grant]:
    return [Grant(operations, "group", name) for name in names]


_LOOKING = [
    *_topics(_SOURCES, "Read"),
    *_topics(_CHANGELOGS, "Read"),
    *_topics([topics.DEAD_LETTER], "Read"),
    *_topics([OFFSETS_TOPIC], "Describe"),
    *_groups(_GROUPS, "Describe"),
]
"""Lag and its age, in records and seconds: every worker shows it, and `emis-streams lag`."""

_REGISTERING = _topics([topics.REGISTRY], "Read", "Write")
"""Telling others of itself, and finding them."""


def _hearing(subject: topics.Subject) -> list[Grant]:
    """A service that keeps what events of others tell it, and shows how far it is behind."""
    return [
        *_REGISTERING,
        *_topics(subject.events, "Read"),
        *_topics([subject.changelog], "Read", "Write", "DescribeConfigs"),
        *_topics([topics.DEAD_LETTER], "Read", "Write"),
        *_topics([OFFSETS_TOPIC], "Describe"),
        *_groups([topics.app_id(subject.service)], "Read"),
    ]


GRANTS: dict[str, list[Grant]] = {
    "emis-ingest": [
        *_LOOKING,
        *_topics(_CHANGELOGS, "Write", "DescribeConfigs"),
        *_topics([topics.DEAD_LETTER], "Write"),
        *_groups([topics.APP_ID], "Read"),
    ],
    "emis-replicate": [
        *_LOOKING,
        *_topics([topics.DEAD_LETTER], "Write"),
        *_groups([topics.REPLICA_GROUP], "Read"),
    ],
    "emis-serve": _LOOKING,
    "emis-gateway": [
        *_REGISTERING,
        *_topics([topics.request_topic("lessons")], "Write"),
        *_topics([topics.reply_topic(_ASKING)], "Read"),
    ],
    "emis-lessons": [
        *_REGISTERING,
        *_topics([topics.request_topic("lessons")], "Read"),
        *_topics([topics.reply_topic(_ASKING)], "Write"),
        *_topics([topic.name for topic in topics.lesson_event_topics()], "Write"),
        *_topics([topics.DEAD_LETTER], "Write"),
        *_topics([OFFSETS_TOPIC], "Describe"),
        *_groups([topics.app_id("lessons")], "Read"),
        Grant(("Write",), "transactional-id", topics.outbox_transactional_ids("lessons")),
    ],
    "emis-progress": _hearing(topics.PROGRESS),
    "emis-users": _hearing(topics.ACTIVITY),
    "emis-producer": _topics(_SOURCES, "Write"),
    "emis-operator": [
        *_LOOKING,
        *_topics(_SOURCES, "Write"),
        *_topics([topics.DEAD_LETTER], "Write"),
        *_topics(_CHANGELOGS, "Write"),
        *_topics(_ALL, "Create", "Describe", "DescribeConfigs"),
    ],
}
"""By user: workers of each role, each service, who sends events, and who types commands (topics, lag, sync, replay,
`changelogs check --repair`).

A worker of several roles needs what each of them needs; with REGISTER, also Read and Write of the registry's topic.
"""


def lines(bootstrap: str) -> Iterator[str]:
    """The commands of Kafka's own tool that make these grants."""
    for user, grants in GRANTS.items():
        for operations, kind in dict.fromkeys((grant.operations, grant.kind) for grant in grants):
            names = [grant.name for grant in grants if (grant.operations, grant.kind) == (operations, kind)]
            what = [f"--operation {operation}" for operation in operations] + [f"--{kind} {name}" for name in names]
            what += ["--resource-pattern-type prefixed"] if kind == "transactional-id" else []
            yield f"kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal User:{user} {' '.join(what)}"
