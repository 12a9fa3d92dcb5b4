"""What topics have to be like for the tables that are made from them."""

from typing import Any

import pytest

from emis_streams.engine.cluster import Described
from emis_streams.engine.patience import Reminder
from emis_streams.engine.topic_checks import (
    TableTopics,
    differing,
    missing_topics,
    questionable_changelogs,
    unfit_changelogs,
)

TABLE = TableTopics("counts", ("clicks", "views"), "counts-changelog", 2)
ANY_NUMBER = TableTopics("counts", ("clicks", "views"), "counts-changelog")


def topics(clicks: int = 2, views: int = 2, changelog: int = 2, n_replicas: int = 3) -> dict[str, Described]:
    numbers = {"clicks": clicks, "views": views, "counts-changelog": changelog}
    return {name: Described("id", n, "cluster", n_replicas) for name, n in numbers.items()}


@pytest.mark.parametrize("table", [TABLE, ANY_NUMBER])
def test_topics_with_as_many_partitions_fit(table: TableTopics) -> None:
    assert [*differing([table], topics())] == []


@pytest.mark.parametrize(
    ("table", "found", "said"),
    [
        (
            TABLE,
            topics(changelog=1),
            "counts-changelog has another number of partitions than its table counts: 1, not 2",
        ),
        (
            TABLE,
            topics(changelog=3),
            "counts-changelog has another number of partitions than its table counts: 3, not 2",
        ),
        (TABLE, topics(views=3), "views has another number of partitions than its table counts: 3, not 2"),
        (ANY_NUMBER, topics(views=3), "views has another number of partitions than its table counts: 3, not 2"),
        (
            ANY_NUMBER,
            topics(changelog=1),
            "counts-changelog has another number of partitions than its table counts: 1, not 2",
        ),
    ],
)
def test_a_topic_with_another_number_is_named(table: TableTopics, found: dict[str, Described], said: str) -> None:
    assert [*differing([table], found)] == [said]


def test_each_table_has_its_own_number() -> None:
    other = TableTopics("orders", ("orders",), "orders-changelog")
    found = {**topics(), **{name: Described("id", 5, "cluster") for name in ("orders", "orders-changelog")}}
    assert [*differing([TABLE, other], found)] == []


def test_what_is_missing_is_named_with_its_table() -> None:
    assert [*missing_topics([TABLE], {"views", "counts-changelog"})] == [
        "counts-changelog, the changelog of table counts, is missing",
        "views, a source of table counts, is missing",
    ]


FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1"}
A_WEEK = {"retention.ms": "604800000", "retention.bytes": "-1"}


@pytest.mark.parametrize(
    ("config", "is_unfit"),
    [
        ({"cleanup.policy": "compact", **A_WEEK}, False),
        ({"cleanup.policy": "delete", **A_WEEK}, True),
        ({"cleanup.policy": "compact,delete", **A_WEEK}, True),
        ({"cleanup.policy": "compact, delete", "retention.ms": "-1", "retention.bytes": "1000"}, True),
        ({"cleanup.policy": "delete", **FOR_EVER}, False),
        ({"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}, False),
        ({}, False),
    ],
)
def test_a_changelog_that_deletes_rows_is_unfit(config: dict[str, str], is_unfit: bool) -> None:
    said = [*unfit_changelogs([TABLE], topics(), {"counts-changelog": config})]
    assert bool(said) is is_unfit
    assert all("which deletes rows of table counts: it has to be compact" in line for line in said)


def test_a_changelog_with_fewer_replicas_than_have_to_be_in_sync_is_unfit() -> None:
    configs = {"counts-changelog": {"min.insync.replicas": "2"}}
    assert [*unfit_changelogs([TABLE], topics(n_replicas=2), configs)] == []
    assert [*unfit_changelogs([TABLE], topics(n_replicas=1), configs)] == [
        "counts-changelog has fewer replicas (1) than min.insync.replicas=2: nothing can be written to it"
    ]


@pytest.mark.parametrize(("n_bytes", "is_unfit"), [("999999", True), ("1000000", False), ("1048588", False)])
def test_a_changelog_that_takes_no_full_batch_is_unfit(n_bytes: str, is_unfit: bool) -> None:
    said = [*unfit_changelogs([TABLE], topics(), {"counts-changelog": {"max.message.bytes": n_bytes}})]
    assert (
        said
        == [f"counts-changelog has max.message.bytes={n_bytes}: batches of rows of table counts have up to 1000000"]
        * is_unfit
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"cleanup.policy": "delete"}, "is not compacted"),
        ({"cleanup.policy": "compact", "min.compaction.lag.ms": "0"}, "min.compaction.lag.ms=0"),
        ({"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000"}, None),
    ],
)
def test_what_works_at_a_price_is_told(config: dict[str, str], said: str | None) -> None:
    found = [*questionable_changelogs([TABLE], {"counts-changelog": config})]
    assert len(found) == (said is not None)
    assert all(str(said) in line for line in found)


def test_configs_that_may_not_be_read_are_not_judged_and_that_is_told() -> None:
    assert [*unfit_changelogs([TABLE], topics(), {})] == []
    told = [*questionable_changelogs([TABLE], {})]
    assert told == ["whether counts-changelog keeps all rows is not checked: DescribeConfigs is not granted"]


def test_what_is_wrong_is_said_at_once_every_minute_and_soon_when_it_is_something_else() -> None:
    said: list[Any] = []
    now = [0.0]
    reminder = Reminder(lambda text: said.append((now[0], text)), lambda: now[0])
    for at, text in [(0, "a"), (1, "a"), (59, "a"), (60, "a"), (61, "b"), (66, "b"), (67, ""), (68, "b")]:
        now[0] = at
        reminder.note(text)
    assert said == [(0, "a"), (60, "a"), (66, "b"), (68, "b")]
