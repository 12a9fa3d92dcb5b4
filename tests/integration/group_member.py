"""A member of a consumer group as a process of its own: reads and commits; leaves the group at SIGTERM.

python -m tests.integration.group_member BROKERS GROUP TOPIC read_committed|read_uncommitted
"""

import asyncio
import signal
import sys

from aiokafka import AIOKafkaConsumer


async def main(brokers: str, group: str, topic: str, isolation_level: str) -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=brokers,
        group_id=group,
        client_id="group-member",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=45_000,
        isolation_level=isolation_level,
    )
    await consumer.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("joined", flush=True)
    while not ended.is_set():
        await consumer.getmany(timeout_ms=200)
        if consumer.assignment():
            await consumer.commit()  # Also past what is no record: markers, and what was aborted.
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
