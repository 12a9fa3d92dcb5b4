"""A member of a consumer group as a process of its own: reads and commits; leaves the group at SIGTERM.

python -m tests.integration.group_member BROKERS GROUP TOPIC
"""

import asyncio
import signal
import sys

from aiokafka import AIOKafkaConsumer


async def main(brokers: str, group: str, topic: str) -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=brokers,
        group_id=group,
        client_id="group-member",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=45_000,
    )
    await consumer.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("joined", flush=True)
    while not ended.is_set():
        if await consumer.getmany(timeout_ms=200):
            await consumer.commit()
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
