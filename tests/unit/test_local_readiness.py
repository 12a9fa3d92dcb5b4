"""When a teacher's page has something to show."""

import pytest

from emis_streams.local.ports import free_port
from emis_streams.local.readiness import ask, is_ready, shows_classes, teacher_to_show

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
