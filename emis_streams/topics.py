"""Every topic: its name, key, retention and what it carries.

The one place where topics are declared. `agents` consume the events, `engine` writes the
changelogs, `emis_streams.admin` makes and checks all of them on the brokers.
"""

from dataclasses import dataclass

from emis_streams.engine.topic_names import is_topic_name


def app_id(service: str) -> str:
    """Faust app id of a service, and so the consumer group of its workers."""
    return f"emis-{service}-service"


APP_ID = app_id("teacher")
"""Of the ingesting workers."""

REPLICA_GROUP = f"{APP_ID}-replica"
"""Shares partitions of the changelogs among the workers that write MySQL, and shows their lag."""

PARTITIONS = 10

DAY_MS = 24 * 60 * 60 * 1000
SOURCE_RETENTION_MS = 7 * DAY_MS
DEAD_LETTER_RETENTION_MS = 30 * DAY_MS
CHANGELOG_MIN_COMPACTION_LAG_MS = DAY_MS
MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default; also what the sources are created with."""
MAX_RECORD_BYTES = MAX_MESSAGE_BYTES - 1024
"""Key and value of a record that such a topic takes, unpacked; the rest is room for headers and what Kafka adds."""
DEAD_LETTER_MAX_MESSAGE_BYTES = MAX_MESSAGE_BYTES + 64 * 1024
"""Room for the headers, so that nothing is too big to be dead-lettered."""


@dataclass(frozen=True)
class Topic:
    """A topic as `emis-streams topics` makes it (RF and min ISR come from the settings)."""

    name: str
    key: str
    """What the record key holds, UTF-8 text."""
    about: str
    config: dict[str, str]
    partitions: int = PARTITIONS


@dataclass(frozen=True)
class Subject:
    """A thing with its own events, rows and versions: classes, teachers or assignments."""

    name: str
    events: tuple[str, ...]
    """Source topics; a topic's place is the rank of its events at equal timestamps."""
    service: str = "teacher"
    """Whose workers keep it."""

    @property
    def changelog(self) -> str:
        return f"{app_id(self.service)}-{self.name}-changelog"


CLASSES = Subject("classes", ("emis.class.created", "emis.class.updated", "emis.class.deleted"))
TEACHERS = Subject("teachers", ("emis.teacher.created", "emis.teacher.updated", "emis.teacher.deleted"))
ASSIGNMENTS = Subject("assignments", ("emis.assignment.created", "emis.assignment.deleted"))
SUBJECTS = (CLASSES, TEACHERS, ASSIGNMENTS)
"""Of the teacher service."""

LESSON_AVAILABLE = "emis.lesson-available"
"""From the lesson service for the progress service; key: UserId."""
USER_ACTIVITY = "emis.user-activity"
"""From the lesson service for the users service; key: UserId."""
PROGRESS = Subject("progress", (LESSON_AVAILABLE,), "progress")
ACTIVITY = Subject("activity", (USER_ACTIVITY,), "users")
LESSON_SUBJECTS = (PROGRESS, ACTIVITY)
"""Of the services that hear of lessons."""

SERVICES = ("gateway", "users", "lessons", "progress")
"""Those that call or are called over Kafka."""

DEAD_LETTER = "emis.dead-letter"

REGISTRY = "emis.registry"
"""Which instances of services there are; each tells it again and again."""
CALL_RETENTION_MS = 60 * 60 * 1000
"""Of requests and replies: nobody waits that long, but what was emitted waits for its service."""
_SHORT_SEGMENT_MS = 10 * 60 * 1000
"""Brokers delete and compact whole segments, and never the one that is written: by default that is one for a week."""

_KEYS = {"classes": "ClassId", "teachers": "TeacherId", "assignments": "TeacherId"}
CHANGELOG_KEYS = {
    **_KEYS,
    "assignments": "TeacherId|AssignmentId",
    "progress": "UserId|LessonId",
    "activity": "UserId|EventId",
}
"""What the keys of each subject's changelog hold."""


_SOURCE_CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": str(SOURCE_RETENTION_MS),
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
    "message.timestamp.type": "LogAppendTime",
}
"""Records are stamped by the brokers: a producer whose clock is ahead stamps record and event alike, so that only the
brokers' time can tell that the event is of the future.
"""

_CHANGELOG_CONFIG = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(CHANGELOG_MIN_COMPACTION_LAG_MS),
    "max.message.bytes": str(DEAD_LETTER_MAX_MESSAGE_BYTES),
    "message.timestamp.type": "LogAppendTime",
}
"""The whole state, for ever: compacted, never deleted; markers of deletes stay in it.

Stamped by the brokers, as the sources: they (Kafka 4) refuse records of a worker whose clock is over an hour ahead,
which then could not write at all.
"""


def source_topics() -> list[Topic]:
    """The eight topics that services produce to."""
    return [
        Topic(name, _KEYS[subject.name], f"events of {subject.name}", _SOURCE_CONFIG)
        for subject in SUBJECTS
        for name in subject.events
    ]


def changelog_topics() -> list[Topic]:
    return [_changelog(subject) for subject in SUBJECTS]


def _changelog(subject: Subject) -> Topic:
    about = f"changelog of the table of {subject.name}"
    return Topic(subject.changelog, CHANGELOG_KEYS[subject.name], about, _CHANGELOG_CONFIG)


def dead_letter_topic() -> Topic:
    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(DEAD_LETTER_RETENTION_MS),
        "max.message.bytes": str(DEAD_LETTER_MAX_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime",
    }
    return Topic(DEAD_LETTER, "the refused record's key", "records that could not be used, as they came", config)


def teacher_topics() -> list[Topic]:
    """Those of the teacher service."""
    return [*source_topics(), *changelog_topics(), dead_letter_topic()]


def call_topics(service: str) -> list[Topic]:
    """Requests to a service, and replies to it as the one that asks."""
    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(CALL_RETENTION_MS),
        "segment.ms": str(_SHORT_SEGMENT_MS),
        "message.timestamp.type": "LogAppendTime",
    }
    return [
        Topic(request_topic(service), "idempotency key", f"requests to {service}", config),
        Topic(reply_topic(service), "idempotency key", f"replies to what {service} asked", config),
    ]


_REQUEST_PREFIX, _REPLY_PREFIX = "emis.request.", "emis.reply."


def request_topic(service: str) -> str:
    return f"{_REQUEST_PREFIX}{service}"


def reply_topic(service: str) -> str:
    """Where replies to this service, as the one that asks, go."""
    return f"{_REPLY_PREFIX}{service}"


def is_reply_topic(name: str) -> bool:
    """Whether a request may name it as the topic of its reply: nothing else is ever written by a requester's word."""
    return len(name) > len(_REPLY_PREFIX) and name.startswith(_REPLY_PREFIX) and is_topic_name(name)


def is_service_name(name: str) -> bool:
    """Whether its topics, its group and its app can be called after it."""
    return bool(name) and all(is_topic_name(topic) for topic in (request_topic(name), reply_topic(name), app_id(name)))


def outbox_transactional_ids(service: str) -> str:
    """How the transactional ids of a service's outboxes begin: each database has one of its own."""
    return f"emis.outbox.{service}."


def outbox_transactional_id(service: str, outbox_id: str) -> str:
    return outbox_transactional_ids(service) + outbox_id


def lesson_event_topics() -> list[Topic]:
    """What the lesson service tells of lessons."""
    return [
        Topic(name, "UserId", f"events for {s.service}", _SOURCE_CONFIG) for s in LESSON_SUBJECTS for name in s.events
    ]


def service_topics() -> list[Topic]:
    """Those of the other services."""
    registry = {**_CHANGELOG_CONFIG, "min.compaction.lag.ms": "0", "segment.ms": str(_SHORT_SEGMENT_MS)}
    return [
        *lesson_event_topics(),
        *(_changelog(subject) for subject in LESSON_SUBJECTS),
        *(topic for service in SERVICES for topic in call_topics(service)),
        Topic(REGISTRY, "name@host:port", "instances of services", registry, partitions=1),
    ]


def all_topics() -> list[Topic]:
    return [*teacher_topics(), *service_topics()]
