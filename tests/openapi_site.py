"""Asking a real site whatever its OpenAPI document allows, and what it does not: Schemathesis, for both documents."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

import requests
import schemathesis
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, settings

_STARTED_SECONDS = 30


@contextmanager
def in_a_thread(site: AbstractAsyncContextManager[TestServer]) -> Iterator[str]:
    """Address of the site, which is served in a thread: Schemathesis asks and waits."""
    started, done = threading.Event(), asyncio.Event()
    url = ""
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        nonlocal url
        async with site as server:
            url = str(server.make_url(""))
            started.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(_STARTED_SECONDS)
    yield url
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


def answers_as_the_document_says(
    operations: schemathesis.BaseSchema, max_examples: int, excluded_checks: Sequence[Any] = ()
) -> Callable[..., None]:
    """A test of them, with the fixtures `url` and `session`; `max_examples` of each kind, good and bad.

    Each needs a name of its own: Schemathesis gives all tests one id, and pytest-xdist runs each id once.
    """

    @operations.parametrize()
    @settings(
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def test(case: schemathesis.Case, url: str, session: requests.Session) -> None:
        case.call_and_validate(
            base_url=url, session=session, allow_redirects=False, excluded_checks=list(excluded_checks)
        )

    return test
