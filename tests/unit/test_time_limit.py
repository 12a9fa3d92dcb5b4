"""A time limit of many tasks at once ends each of them as asyncio.timeout would."""

import asyncio

import pytest

from emis_streams.services.time_limit import TimeLimit

SECONDS = 0.05


async def limited(limit: TimeLimit, what: "asyncio.Future[None]") -> bool:
    """Whether its time was over."""
    task = limit.begin()
    try:
        await what
    except asyncio.CancelledError:
        if limit.end(task):
            return True
        raise
    return limit.end(task)


def never() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


async def test_a_task_that_takes_longer_is_cancelled_and_goes_on_afterwards() -> None:
    async def late() -> tuple[bool, int]:
        is_late = await limited(TimeLimit(SECONDS), never())
        await asyncio.sleep(0)  # Its cancellation does not come back.
        task = asyncio.current_task()
        assert task is not None
        return is_late, task.cancelling()

    assert await asyncio.wait_for(asyncio.create_task(late()), 10) == (True, 0)


async def test_each_of_many_has_its_own_time() -> None:
    limit = TimeLimit(SECONDS)
    first = asyncio.create_task(limited(limit, never()))
    await asyncio.sleep(0)
    ends = never()
    in_time = asyncio.create_task(limited(limit, ends))
    await asyncio.sleep(0)
    ends.set_result(None)
    assert await in_time is False
    later = asyncio.create_task(limited(limit, never()))
    assert await asyncio.wait_for(asyncio.gather(first, later), 10) == [True, True]


async def test_a_task_that_somebody_else_cancels_is_cancelled() -> None:
    task = asyncio.create_task(limited(TimeLimit(60), never()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_over_is_not_watched_any_more() -> None:
    limit = TimeLimit(SECONDS)
    done = never()
    done.set_result(None)
    assert await limited(limit, done) is False
    later = asyncio.create_task(limited(limit, never()))
    assert await asyncio.wait_for(later, 10) is True  # So late ones were looked for.
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
