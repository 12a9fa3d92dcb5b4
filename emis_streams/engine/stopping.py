"""Stopping a consumer whose fetches may just have failed."""

import asyncio

from aiokafka import AIOKafkaConsumer

from emis_streams.engine.client_tasks import forget

_AGAIN_SECONDS = 0.1


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stops it, whatever became of its fetches."""
    await end_fetches(consumer)
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
