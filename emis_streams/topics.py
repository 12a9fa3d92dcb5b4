"""Every topic: its name, key, retention and what it carries.

The one place where topics are declared. `agents` consume the events, `engine` writes the
changelogs, `emis_streams.admin` makes and checks all of them on the brokers.
"""

from dataclasses import dataclass


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

DEAD_LETTER = "emis.dead-letter"

_KEYS = {"classes": "ClassId", "teachers": "TeacherId", "assignments": "TeacherId"}
_CHANGELOG_KEYS = {**_KEYS, "assignments": "TeacherId|AssignmentId"}


def source_topics() -> list[Topic]:
    """The eight topics that services produce to.

    Records are stamped by the brokers: a producer whose clock is ahead stamps record and event alike, so
    that only the brokers' time can tell that the event is of the future.
    """
    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(SOURCE_RETENTION_MS),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime",
    }
    return [
        Topic(name, _KEYS[subject.name], f"events of {subject.name}", config)
        for subject in SUBJECTS
        for name in subject.events
    ]


def changelog_topics() -> list[Topic]:
    """The whole state, for ever: compacted, never deleted; markers of deletes stay in it.

    Stamped by the brokers, as the sources: they refuse records of a worker whose clock is more than an hour
    ahead (Kafka 4), which then could not write at all.
    """
    config = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(CHANGELOG_MIN_COMPACTION_LAG_MS),
        "max.message.bytes": str(DEAD_LETTER_MAX_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime",
    }
    return [
        Topic(s.changelog, _CHANGELOG_KEYS[s.name], f"changelog of the table of {s.name}", config) for s in SUBJECTS
    ]


def dead_letter_topic() -> Topic:
    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(DEAD_LETTER_RETENTION_MS),
        "max.message.bytes": str(DEAD_LETTER_MAX_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime",
    }
    return Topic(DEAD_LETTER, "the refused record's key", "records that could not be used, as they came", config)


def all_topics() -> list[Topic]:
    return [*source_topics(), *changelog_topics(), dead_letter_topic()]
