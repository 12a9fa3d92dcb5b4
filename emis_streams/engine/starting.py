"""Starting a client of the brokers that may not be wanted any more before it has started."""

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from emis_streams.engine.client_tasks import watch

_LAST_SECONDS = 1.0


async def start(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Connects it (see `connect`), and has its background tasks watched (`client_tasks.py`)."""
    await connect(client)
    watch(client)


async def connect(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient) -> None:
    """Starts it. Cancelled meanwhile, it waits a moment for it, so that closing it closes all that it opened.

    aiokafka forgets the connection by which it asks who the brokers are, if it is cancelled there.
    Raises aiokafka.errors.KafkaError, OSError.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(KafkaError, OSError):  # Nobody waits for it any more; OSError is a time-out, too.
            await asyncio.wait_for(starting, _LAST_SECONDS)
        raise
