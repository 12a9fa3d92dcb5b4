"""Sends any record that brokers take, also one without key and value, which aiokafka's producer asserts not to be."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer


async def send_any(
    producer: AIOKafkaProducer,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    partition: int | None = None,
) -> "asyncio.Future[Any]":
    """The future resolves with the record's metadata. Raises aiokafka.errors.KafkaError."""
    if key is not None or value is not None:
        delivery: asyncio.Future[Any] = await producer.send(topic, value, key, partition, headers=list(headers))
        return delivery
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=None, headers=list(headers))
    if partition is None:
        partition = random.choice(sorted(await producer.partitions_for(topic)))
    return await producer.send_batch(batch, topic, partition=partition)
