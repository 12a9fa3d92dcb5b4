"""A broker that takes questions and never answers does not hold a client up."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.client import AIOKafkaClient
from aiokafka.structs import BrokerMetadata

from emis_streams.engine.answers_in_time import limit_answers


@asynccontextmanager
async def a_broker_that_never_answers() -> AsyncIterator[int]:
    """Its port. Connections are taken, as the system does for a process that stands still."""
    gone = asyncio.Event()

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        gone.set()


async def test_a_broker_that_never_answers_is_given_up_in_time() -> None:
    async with a_broker_that_never_answers() as port:
        client = AIOKafkaClient(request_timeout_ms=180_000)
        client.cluster._brokers = {1: BrokerMetadata(1, "127.0.0.1", port, None)}
        limit_answers(client, 1.0)
        begun = time.monotonic()
        assert not await asyncio.wait_for(client.ready(1), 60)
        assert time.monotonic() - begun < 30
        await client.close()
