"""`emis-streams lag`: what is EMIS's own decides the exit code, what others do is only shown."""

import io

import msgspec
import pytest
from aiokafka import TopicPartition
from rich.console import Console

from emis_streams import lag_rules
from emis_streams.cli.lag import needs_a_look, view
from emis_streams.engine.open_transactions import OpenTransaction
from emis_streams.lag_measurement import watched
from emis_streams.lag_report import LagReport
from emis_streams.topics import APP_ID, REPLICA_GROUP
from tests.pages import a_report

OWN = watched(replicates=True).own


def with_lag_of(group_id: str) -> LagReport:
    """A report in which one more group is over the threshold."""
    report = a_report()
    over = msgspec.structs.replace(report.groups[0], group_id=group_id, alerts=("lag_over_threshold",))
    return msgspec.structs.replace(report, groups=(*report.groups, over))


@pytest.mark.parametrize(
    ("group_id", "exits_1"), [(APP_ID, True), (REPLICA_GROUP, True), ("analytics", False), (f"{APP_ID}-copy", False)]
)
def test_lag_of_a_group_changes_the_exit_code_only_if_it_is_our_own(group_id: str, exits_1: bool) -> None:
    assert needs_a_look(with_lag_of(group_id), OWN) is exits_1


def test_the_lag_of_others_is_shown_all_the_same() -> None:
    assert "analytics" in printed(with_lag_of("analytics"))


def test_a_transaction_that_holds_a_changelog_is_named_and_needs_a_look() -> None:
    held = lag_rules.open_transaction(OpenTransaction(TopicPartition("classes-changelog", 3), 7, 12, 64.0))
    report = msgspec.structs.replace(a_report(), open_transactions=(held,), severity="error")
    said = "classes-changelog-3: An open transaction has held the last stable offset at 7 (high watermark 12)"
    assert said in printed(report)
    assert needs_a_look(report, OWN)


def printed(report: LagReport) -> str:
    console = Console(file=io.StringIO(), width=250)
    console.print(view(report, show_all=False))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
