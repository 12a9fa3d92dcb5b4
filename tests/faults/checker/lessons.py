"""What a service with an outbox must have told: each lesson that it keeps, on each topic, in the order of each user.

Nothing of the application is imported.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.faults.checker.findings import Findings

TOPICS = ("emis.lesson-available", "emis.user-activity")


class Accepted(NamedTuple):
    """A lesson that was answered with 201. Each user waits for the answer before the next lesson."""

    user_id: str
    lesson_id: str


class Published(NamedTuple):
    """A record of a topic."""

    topic: str
    key: str
    value: bytes


def check(accepted: Sequence[Accepted], kept: Iterable[str], published: Iterable[Published], findings: Findings) -> int:
    """Adds what is lost or out of order; returns how many records came again.

    `kept`: ids of the lessons in the database. `published`: by partition in the order of its log.
    """
    in_log: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in published:
        in_log[record.topic, record.key].append(json.loads(record.value)["lessonId"])
    _check_lost({lesson.lesson_id for lesson in accepted}, set(kept), in_log, findings)
    in_order: dict[str, list[str]] = defaultdict(list)
    for lesson in accepted:
        in_order[lesson.user_id].append(lesson.lesson_id)
    for user_id, lesson_ids in in_order.items():
        _check_order(user_id, lesson_ids, in_log, findings)
    return sum(len(lesson_ids) - len(set(lesson_ids)) for lesson_ids in in_log.values())


def _check_lost(
    accepted: set[str], kept: set[str], in_log: Mapping[tuple[str, str], Sequence[str]], findings: Findings
) -> None:
    for lesson_id in accepted - kept:
        findings.add("lost", lesson_id, "a lesson was answered with 201 and is not in the database")
    for topic in TOPICS:
        told = {lesson_id for (of_topic, _), ids in in_log.items() if of_topic == topic for lesson_id in ids}
        for lesson_id in (accepted | kept) - told:
            findings.add("lost", (topic, lesson_id), "a lesson that is kept has no event")
        for lesson_id in told - kept - accepted:
            findings.add("phantom", (topic, lesson_id), "an event tells of a lesson that is not kept")


def _check_order(
    user_id: str, lesson_ids: Sequence[str], in_log: Mapping[tuple[str, str], Sequence[str]], findings: Findings
) -> None:
    """Of first occurrences: what comes again, as some of its batch had been sent before, is allowed."""
    wanted = set(lesson_ids)
    for topic in TOPICS:
        first = [one for one in dict.fromkeys(in_log.get((topic, user_id), ())) if one in wanted]
        expected = [one for one in lesson_ids if one in set(first)]
        if first != expected:
            findings.add("reorder", (topic, user_id), f"lessons of a user came as {first}, and were made as {expected}")
