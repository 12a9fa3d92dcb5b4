"""Stopping a consumer whose fetches may just have failed, or whose owner is cancelled meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer

from emis_streams.engine.client_tasks import forget

_AGAIN_SECONDS = 0.1
_CANCELLED_SECONDS = 5.0


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stops it, whatever became of its fetches. Cancelled meanwhile, it stops it first: see `to_the_end`."""
    await to_the_end(_stop(consumer))


async def to_the_end(closing: Coroutine[Any, Any, None]) -> None:
    """Awaits it; cancelled meanwhile, it waits a few seconds more for it, and raises CancelledError then.

    What is half closed has no owner any more: its connections would stay open until the process ends.
    """
    task = asyncio.ensure_future(closing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_CANCELLED_SECONDS)
        raise


async def _stop(consumer: AIOKafkaConsumer) -> None:
    try:
        await end_fetches(consumer)
    finally:
        await consumer.stop()


async def end_fetches(consumer: AIOKafkaConsumer) -> None:
    """Ends the tasks that fetch, for `AIOKafkaConsumer.stop` to find none.

    It would cancel them and wait for each. One that failed a moment ago waits to be sent again, and being cancelled
    there raises CancelledError out of `stop`: connections stay open, and whoever stops it seems to be cancelled
    himself. The fetcher's own task takes a cancellation for that of a fetch it waits for; so they are asked again.
    """
    forget(consumer)
    fetcher = consumer._fetcher
    if fetcher is None:
        return
    running = {fetcher._fetch_task, *fetcher._pending_tasks}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_AGAIN_SECONDS)
    fetcher._pending_tasks.clear()
