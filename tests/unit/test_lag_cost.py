"""What an answer about lag costs is bounded by what it shows, also where topics have thousands of partitions."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import msgspec
import pytest
from aiohttp import ClientSession

from emis_streams.lag_report import LagReport
from emis_streams.topics import APP_ID, REPLICA_GROUP
from tests.pages import ToldLag, a_node, a_report, serving
from web.lag_page import MOST_ROWS

N_PARTITIONS = 5_000


def a_large_report() -> LagReport:
    """Two groups and a follower of 5,000 partitions each."""
    report = a_report(behind=True)
    template = report.groups[0].partitions[0]
    partitions = tuple(msgspec.structs.replace(template, partition=n, lag=n) for n in range(N_PARTITIONS))
    groups = tuple(
        msgspec.structs.replace(report.groups[0], group_id=name, partitions=partitions)
        for name in (APP_ID, REPLICA_GROUP)
    )
    followed = tuple(
        msgspec.structs.replace(report.followers[0].partitions[0], partition=n) for n in range(N_PARTITIONS)
    )
    follower = msgspec.structs.replace(report.followers[0], partitions=followed)
    return msgspec.structs.replace(report, groups=groups, followers=(follower,), groups_left_out=990)


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with (
        serving(a_node(None, ToldLag(a_large_report()))) as server,
        ClientSession(server.make_url("/"), headers={"Accept": "text/html"}) as session,
    ):
        yield session


async def test_a_table_of_the_page_has_some_rows_and_says_of_how_many(http: ClientSession) -> None:
    async with http.get("consumer-lag?lang=en&open=partitions-1,partitions-2,follower-1") as response:
        page = await response.text()
    assert len(re.findall(r'<th scope="row"(?: role="rowheader"| class="nowrap")>', page)) == 3 * MOST_ROWS
    assert page.count("The first 200 of 5,000 rows") == 3
    assert "990 more consumer groups read these topics." in page


async def test_the_rows_are_those_that_were_asked_for(http: ClientSession) -> None:
    async with http.get("consumer-lag?sort=lag&open=partitions-1&lang=en") as response:
        page = await response.text()
    assert re.search(r"<td [^>]*class=\"num\"[^>]*>4999</td>", page)


async def test_the_json_has_all_partitions(http: ClientSession) -> None:
    async with http.get("api/consumer-lag") as response:
        report = await response.json()
    assert [len(group["partitions"]) for group in report["groups"]] == [N_PARTITIONS] * 2
    assert report["groupsLeftOut"] == 990


async def test_metrics_of_many_partitions_are_made_in_a_thread(http: ClientSession) -> None:
    """40,000 series take half a second of CPU: what runs on the loop meanwhile has many turns."""
    asked = asyncio.create_task(http.get("metrics"))
    turns = [time.monotonic()]
    while not asked.done():
        await asyncio.sleep(0)
        turns.append(time.monotonic())
    async with asked.result() as response:
        assert response.status == 200
        assert (await response.read()).count(b"kafka_consumergroup_group_lag{") == 2 * N_PARTITIONS
    longest = max(after - before for before, after in pairwise(turns))
    assert longest < 0.5 * (turns[-1] - turns[0]), "most of the time nothing else could run"
