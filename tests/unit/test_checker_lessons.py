"""What the checker must find in the events of a service with an outbox, by mistakes made by hand."""

import json
from collections.abc import Callable, Sequence

import pytest

from tests.faults.checker.findings import Findings
from tests.faults.checker.lessons import TOPICS, Accepted, Published, check

ACCEPTED = [Accepted(user, f"{user}{n}") for n in range(3) for user in "ab"]


def event(topic: str, lesson_id: str) -> Published:
    return Published(topic, lesson_id[0], json.dumps({"lessonId": lesson_id}).encode())


RIGHT = [event(topic, lesson.lesson_id) for topic in TOPICS for lesson in ACCEPTED]


def found(published: Sequence[Published], kept: Sequence[str] | None = None) -> dict[str, int]:
    findings = Findings()
    check(ACCEPTED, [a.lesson_id for a in ACCEPTED] if kept is None else kept, published, findings)
    return {kind: len(things) for kind, things in findings.found.items() if things}


def test_all_events_once_and_in_order_are_right() -> None:
    assert found(RIGHT) == {}


def test_a_batch_that_comes_again_is_right_and_counted() -> None:
    findings = Findings()
    again = [*RIGHT[:4], *RIGHT]
    assert check(ACCEPTED, [a.lesson_id for a in ACCEPTED], again, findings) == 4
    assert findings.is_clean


Spoil = Callable[[list[Published]], object]


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("lost", lambda log: log.pop(0)),
        ("lost", lambda log: log.pop()),
        ("reorder", lambda log: log.insert(0, log.pop(2))),
        ("phantom", lambda log: log.append(event(TOPICS[0], "a9"))),
    ],
)
def test_one_mistake_is_found_once(kind: str, spoil: Spoil) -> None:
    log = list(RIGHT)
    spoil(log)
    assert found(log) == {kind: 1}


def test_a_lesson_that_was_accepted_and_is_not_kept_is_lost() -> None:
    assert found(RIGHT, [a.lesson_id for a in ACCEPTED[1:]]) == {"lost": 1}


def test_a_lesson_that_is_kept_and_was_not_answered_needs_its_events_too() -> None:
    kept = [*(a.lesson_id for a in ACCEPTED), "a9"]
    assert found(RIGHT, kept) == {"lost": len(TOPICS)}
    assert found([*RIGHT, *(event(topic, "a9") for topic in TOPICS)], kept) == {}
