"""The least that a call over Kafka takes with aiokafka: no retries, breaker, deadline, keys, and nothing of ours.

`python -m benchmarks.calls_bare serve BROKER`, or `ask BROKER CONCURRENCY WARM-UP SECONDS`.
"""

import asyncio
import json
import signal
import sys
import time
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

REQUESTS, REPLIES = "bare.requests", "bare.replies"


async def serve(broker: str) -> None:
    consumer = AIOKafkaConsumer(REQUESTS, bootstrap_servers=broker, group_id="bare", auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all")
    await consumer.start()
    await producer.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    while not stop.is_set():
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                number = json.loads(record.value)["number"]
                reply = json.dumps({"square": number**2}).encode()
                await producer.send(REPLIES, reply, partition=0, headers=list(record.headers))
    await consumer.stop()
    await producer.stop()


class Asker:
    def __init__(self, broker: str) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all")
        self._consumer = AIOKafkaConsumer(bootstrap_servers=broker)
        self._pending: dict[bytes, asyncio.Future[Any]] = {}
        self._next = 0

    async def start(self) -> None:
        await self._producer.start()
        await self._consumer.start()
        replies = TopicPartition(REPLIES, 0)
        self._consumer.assign([replies])
        await self._consumer.seek_to_end()
        await self._consumer.position(replies)  # Known only then: earlier replies would be passed over.
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self._consumer.stop()
        await self._producer.stop()

    async def _read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    waiting = self._pending.pop(record.headers[0][1], None)
                    if waiting is not None:  # Else it is a reply of the turn before.
                        waiting.set_result(record.value)

    async def call(self, number: int) -> Any:
        self._next += 1
        correlation = b"%d" % self._next
        reply = self._pending[correlation] = asyncio.get_running_loop().create_future()
        value = json.dumps({"number": number}).encode()
        await self._producer.send(REQUESTS, value, headers=[("correlation-id", correlation)])
        return json.loads(await reply)

    async def round(self, concurrency: int, seconds: float) -> dict[str, Any]:
        took: list[float] = []
        began = time.perf_counter()
        until = began + seconds

        async def ask() -> int:
            errors = 0
            while time.perf_counter() < until:
                asked = time.perf_counter()
                errors += await self.call(7) != {"square": 49}
                took.append(1000 * (time.perf_counter() - asked))
            return errors

        errors = await asyncio.gather(*(ask() for _ in range(concurrency)))
        return {"took": took, "errors": sum(errors), "seconds": time.perf_counter() - began}


async def ask(broker: str, concurrency: int, warm_up_seconds: float, seconds: float) -> None:
    asker = Asker(broker)
    await asker.start()
    await asker.round(concurrency, warm_up_seconds)
    print(json.dumps(await asker.round(concurrency, seconds)), flush=True)
    await asker.stop()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        uvloop.run(serve(sys.argv[2]))
    else:
        uvloop.run(ask(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])))
