"""A member of the ingesting group that comes and goes: `python rebalancer.py SECONDS`, settings by environment.

It joins as a worker does (Faust's assignor), and leaves a second later, whether it was given partitions or not.
It reads and commits nothing. Prints how often it had joined.
"""

import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer

import tables.assignments
import tables.classes
import tables.teachers  # noqa: F401 - the assignor wants to know the tables
from emis_streams import settings, topics
from emis_streams.app import app

_STAYS_SECONDS = 1.0


async def come_and_go() -> bool:
    """Whether it was given partitions meanwhile."""
    config = settings.current()
    consumer = AIOKafkaConsumer(
        **config.kafka_client(),
        group_id=topics.APP_ID,
        client_id="rebalancer",
        partition_assignment_strategy=[app.assignor],
        enable_auto_commit=False,
        session_timeout_ms=int(config.session_timeout_seconds * 1000),
        heartbeat_interval_ms=1000,
    )
    consumer.subscribe([topic.name for topic in topics.source_topics()])
    await consumer.start()
    await asyncio.sleep(_STAYS_SECONDS)
    was_given = bool(consumer.assignment())
    await consumer.stop()
    return was_given


async def main(seconds: float) -> None:
    until = time.monotonic() + seconds
    came = given = 0
    while time.monotonic() < until:
        given += await come_and_go()
        came += 1
    print(f"{came} {given}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
