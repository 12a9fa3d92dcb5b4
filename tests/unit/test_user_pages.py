"""Pages of progress and activity: a page at a time, with how old they can be."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from emis_streams.node import NODE, FollowerStatus, Node
from emis_streams.read_model.user_rows import UserRows
from emis_streams.settings import Settings
from emis_streams.topics import ACTIVITY, LESSON_AVAILABLE, PROGRESS, USER_ACTIVITY
from tests.unit.test_user_rows import USER, event, follow
from web import activity, progress, site

N_ROWS = 7
PAGES = {f"/progress/{USER}": ("lessons", "lessonId"), f"/users/{USER}/activity": ("activities", "activityId")}


class Following:
    """A follower at the end of its changelog."""

    def status(self) -> FollowerStatus:
        return FollowerStatus("read-model", True, {}, 0, None)


@asynccontextmanager
async def site_of_users(folder: Path) -> AsyncIterator[web.Application]:
    """Progress and activity of USER, so many of each."""
    copy = UserRows(folder / "read-model")
    await follow(copy, PROGRESS, *(event(LESSON_AVAILABLE, minutes=n) for n in range(N_ROWS)))
    await follow(copy, ACTIVITY, *(event(USER_ACTIVITY, minutes=n) for n in range(N_ROWS)))
    copy.note_caught_up()
    app = web.Application()
    app[NODE] = Node(settings=Settings(), roles=frozenset(), user_rows=copy, read_model_follower=Following())
    site.setup(app)
    app.add_routes(progress.routes)
    app.add_routes(activity.routes)
    yield app
    copy.close()


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[TestClient[Any, Any]]:
    async with site_of_users(tmp_path) as app, TestClient(TestServer(app)) as client:
        yield client


async def get(http: TestClient[Any, Any], path: str, **query: str) -> tuple[int, Any]:
    async with http.get(path, params=query) as response:
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize("path", PAGES, ids=("progress", "activity"))
async def test_pages_after_each_other_are_all_rows_in_order(http: TestClient[Any, Any], path: str) -> None:
    name, id_ = PAGES[path]
    _, whole = await get(http, path)
    assert (len(whole[name]), whole["nextAfter"]) == (N_ROWS, None)
    found, query = [], {"limit": "3"}
    while True:
        _, page = await get(http, path, **query)
        assert len(page[name]) <= 3
        found += page[name]
        if page["nextAfter"] is None:
            break
        assert page["nextAfter"] == page[name][-1][id_]
        query["after"] = page["nextAfter"]
    assert found == whole[name]


@pytest.mark.parametrize("path", PAGES, ids=("progress", "activity"))
@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "10000000"},
        {"limit": "ten"},
        {"limit": "01000000"},
        {"limit": "+5"},
        {"limit": " 5"},
        {"limit": "5_0"},
        {"limit": "٥"},
        {"limit": "1e1"},
        {"limit": "9" * 400},
        {"limit": ""},
        {"after": "x"},
        {"after": str(uuid.UUID(int=1))},
        {"x": "1"},
    ],
    ids=str,
)
async def test_a_page_that_there_is_not_is_refused(
    http: TestClient[Any, Any], path: str, query: dict[str, str]
) -> None:
    status, problem = await get(http, path, **query)
    assert status == problem["status"] == (404 if query.get("after") == str(uuid.UUID(int=1)) else 400)
    assert next(iter(query)) in problem["detail"]


@pytest.mark.parametrize("path", PAGES, ids=("progress", "activity"))
async def test_where_lag_is_not_known_an_answer_counts_as_stale(http: TestClient[Any, Any], path: str) -> None:
    _, answer = await get(http, path)
    assert (answer["ageSeconds"], answer["stale"]) == (None, True)
