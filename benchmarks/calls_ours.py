"""`send` of the service layer: the service that is asked, and the process that asks, which is this one run.

Everything is on, as by default: breaker, deadline, retries, idempotency keys, headers.
"""

import asyncio
import json
import sys
import time
from typing import Any

import msgspec
import uvloop

from emis_streams import topics
from emis_streams.services.client import ServiceClient
from emis_streams.services.kafka_carrier import KafkaCarrier, Sender
from emis_streams.services.messages import ReplyTo, Request
from emis_streams.services.replies import Replies
from emis_streams.services.service import Service, answers

ASKER = "asker"


class Number(msgspec.Struct):
    number: int


class SquareService(Service):
    name = "squares"
    port = 8020
    asks = False

    @answers("square", Number)
    async def square(self, asked: Number, _request: Request) -> dict[str, int]:
        return {"square": asked.number**2}


async def ask(client: ServiceClient, until: float, took: list[float]) -> int:
    """Calls one after the other; how many were not answered as they should."""
    errors = 0
    while time.perf_counter() < until:
        began = time.perf_counter()
        answer: Any = await client.send(SquareService.name, "square", {"number": 7})
        took.append(1000 * (time.perf_counter() - began))
        errors += answer != {"square": 49}
    return errors


async def one_round(client: ServiceClient, concurrency: int, seconds: float) -> dict[str, Any]:
    took: list[float] = []
    began = time.perf_counter()
    errors = await asyncio.gather(*(ask(client, began + seconds, took) for _ in range(concurrency)))
    return {"took": took, "errors": sum(errors), "seconds": time.perf_counter() - began}


async def main(broker: str, concurrency: int, warm_up_seconds: float, seconds: float) -> None:
    kafka = {"bootstrap_servers": broker}
    sender = Sender(kafka)
    await sender.start()
    replies = Replies(kafka, ReplyTo(topics.reply_topic(ASKER), 0))
    reading = asyncio.create_task(replies.run())
    client = ServiceClient(KafkaCarrier(sender, replies))
    await one_round(client, concurrency, warm_up_seconds)
    print(json.dumps(await one_round(client, concurrency, seconds)), flush=True)
    reading.cancel()
    await asyncio.wait([reading])
    await sender.stop()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
