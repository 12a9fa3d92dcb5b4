"""When a teacher's page has something to show, and nothing of what was there before is on its way any more."""

from typing import Any

import msgspec
import pytest

from emis_streams.local.ports import free_port
from emis_streams.local.readiness import ask, health_in_words, is_ready, lag_is_level, shows_classes, teacher_to_show
from tests.pages import a_report

KNOWN = {"known": True, "deleted": False}
UNKNOWN = {"known": False, "deleted": False}
DELETED = {"known": True, "deleted": True}


@pytest.mark.parametrize(
    ("entries", "shown"),
    [
        ([KNOWN], True),
        ([KNOWN, DELETED], True),
        ([KNOWN, UNKNOWN], False),
        ([DELETED], False),
        ([], False),
    ],
)
def test_a_page_shows_classes_when_one_has_data_and_none_is_unknown(
    entries: list[dict[str, bool]], shown: bool
) -> None:
    assert shows_classes({"classAssignments": entries}) is shown


def test_a_port_where_nothing_answers_is_not_ready() -> None:
    port = free_port()
    assert ask("127.0.0.1", port, "/") is None
    assert not is_ready("127.0.0.1", port)
    assert teacher_to_show("127.0.0.1", port) is None
    assert health_in_words("127.0.0.1", port) == "no answer from /health"


def a_lag_report(**of_first_group: Any) -> dict[str, Any]:
    report: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(a_report()))
    report["groups"][0] |= of_first_group
    return report


@pytest.mark.parametrize(
    ("group", "is_level"),
    [
        ({}, True),
        ({"state": "NEVER_COMMITTED", "severity": "ok"}, True),
        ({"state": "CATCHING_UP", "severity": "ok"}, False),
        ({"state": "BEHIND", "severity": "warn"}, False),
        ({"state": "STALLED", "severity": "error"}, False),
        ({"state": "OK", "severity": "ok", "totalLag": 13_612}, False),
        ({"groupId": "of-somebody-else"}, False),
    ],
)
def test_groups_of_ours_are_level_when_they_read_what_there_is(group: dict[str, Any], is_level: bool) -> None:
    assert lag_is_level(a_lag_report(**group)) is is_level


def test_groups_of_others_are_not_waited_for() -> None:
    report = a_lag_report()
    report["groups"].append({**report["groups"][0], "groupId": "of-somebody-else", "severity": "error"})
    assert lag_is_level(report)


@pytest.mark.parametrize("changes", [{"caughtUp": False}, {"delaySeconds": 5.1}, {"totalLag": 1_001}])
def test_a_local_copy_that_is_behind_is_waited_for(changes: dict[str, Any]) -> None:
    report = a_lag_report()
    report["followers"][0] |= changes
    assert not lag_is_level(report)
