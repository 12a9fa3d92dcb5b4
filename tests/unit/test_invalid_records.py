"""Records of changelogs that are no rows: health, lag page and JSON say in which partitions, and what to type."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientSession
from aiokafka import TopicPartition

from emis_streams.engine.fetch import Fetched
from emis_streams.engine.row_filter import RowFilter
from emis_streams.invalid_records import in_words, merged, of_filter
from emis_streams.lag_report import InvalidRecords
from emis_streams.node import FollowerStatus, Node
from emis_streams.services import health
from emis_streams.topics import ACTIVITY, CLASSES, TEACHERS
from tests.pages import ToldLag, a_node, a_report, serving
from tests.unit.test_health_checks import NOW, an_ingest, one

COMMAND = "emis-streams changelogs check --repair"
MARKUP = "key b'<script>' is not ClassId"


def met(count: int, topic: str = CLASSES.changelog, partition: int = 3, ago_seconds: float = 60.0) -> InvalidRecords:
    return InvalidRecords(
        topic=topic,
        partition=partition,
        count=count,
        last_offset=41,
        last_reason=MARKUP,
        last_read_at=NOW - timedelta(seconds=ago_seconds),
    )


class Reader:
    """A follower or an ingesting side."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def status(self) -> Any:
        return self._status


def follower(name: str, *found: InvalidRecords) -> Reader:
    return Reader(FollowerStatus(name, True, {}, 1_000, None, found))


def a_worker(*found: InvalidRecords) -> Node:
    """Whose tables, local copy and replica have met them."""
    return a_node(
        None,
        ToldLag(a_report()),
        ingest=Reader(an_ingest(invalid_records=found)),
        read_model_follower=follower("read-model", *found),
        replica_follower=follower("replica", *found[:1]),
    )


def test_what_several_readers_have_met_is_told_once_for_each_partition() -> None:
    assert a_worker(met(2), met(5, TEACHERS.changelog)).invalid_records() == (met(2), met(5, TEACHERS.changelog))
    assert merged([met(2), met(7), met(3), met(1, partition=1)]) == (met(1, partition=1), met(7))


def test_what_a_filter_has_counted_is_told_with_place_and_reason() -> None:
    found = RowFilter()
    for offset in (7, 9):
        record: Any = SimpleNamespace(key=None, value=b"1", offset=offset)
        found.places(Fetched(TopicPartition("changelog", 2), offset, offset + 1, [record]), "id")
    (told,) = of_filter(found)
    assert (told.topic, told.partition, told.count, told.last_offset) == ("changelog", 2, 2, 9)
    assert told.last_reason == "key None"
    assert datetime.now(UTC) - told.last_read_at < timedelta(minutes=5)


def test_a_line_names_the_partitions_with_most_of_them() -> None:
    text = in_words([met(n, partition=n) for n in range(1, 10)])
    assert text.startswith(f"{CLASSES.changelog}-9 (9), {CLASSES.changelog}-8 (8), ")
    assert text.endswith(", 4 more")


@pytest.mark.parametrize(
    ("invalid", "status", "count"),
    [([], "pass", 0), ([met(2), met(3, TEACHERS.changelog)], "warn", 5), ([met(4, ago_seconds=4_000)], "pass", 4)],
)
def test_health_warns_for_an_hour_after_the_last_one(
    invalid: Sequence[InvalidRecords], status: str, count: int
) -> None:
    check = one("changelogs", invalid=invalid)
    assert (check.status, check.observed_value) == (status, count)
    assert (COMMAND in check.output) == (status == "warn")
    assert all(f"{found.topic}-{found.partition} ({found.count})" in check.output for found in invalid)


async def test_a_service_with_tables_says_the_same() -> None:
    now = datetime.now(UTC)
    recent = InvalidRecords(
        topic=ACTIVITY.changelog, partition=0, count=1, last_offset=3, last_reason="null", last_read_at=now
    )
    assert (await health.changelogs(lambda: [])()).status == "pass"
    found = await health.changelogs(lambda: [recent])()
    assert found.status == "warn"
    assert f"{ACTIVITY.changelog}-0 (1)" in found.text
    assert COMMAND in found.text


async def test_lag_as_json_has_them_by_partition() -> None:
    async with serving(a_worker(met(2))) as server, ClientSession(server.make_url("/")) as client:
        async with client.get("/api/consumer-lag") as response:
            (told,) = (await response.json())["invalidRecords"]
        async with client.get("/health") as response:
            check = (await response.json())["checks"]["changelogs"]
    assert {told[name] for name in ("topic", "partition", "count", "lastOffset")} == {CLASSES.changelog, 3, 2, 41}
    assert check["observedValue"] == 2


@pytest.mark.parametrize("language", ["vi", "en"])
async def test_the_lag_page_has_them_with_what_to_type_and_only_if_there_are_any(language: str) -> None:
    pages = []
    for worker in (a_worker(), a_worker(met(1_234))):
        async with (
            serving(worker) as server,
            ClientSession(headers={"Accept": "text/html"}) as client,
            client.get(server.make_url(f"/consumer-lag?lang={language}")) as response,
        ):
            pages.append(await response.text())
    clean, page = pages
    assert 'id="invalid"' not in clean
    assert COMMAND in page
    assert {"en": "1,234", "vi": "1.234"}[language] in page
    assert "<script>'" not in page, "what a stranger wrote is text"
