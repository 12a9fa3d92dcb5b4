"""Puts events on the topics before anything is measured, and keeps sending at a rate while something is."""

import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, Message, Producer

from benchmarks.data import Record

_REPORT_EVERY = 500_000


def producer(bootstrap: str, linger_ms: int = 50) -> Producer:
    """As the services' own: idempotent, acks=all, and Java's partitioner."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 2,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": linger_ms,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
        }
    )


def send_all(bootstrap: str, records: Iterable[Record], say: Callable[[str], None]) -> int:
    """Send as fast as possible; returns how many the brokers acknowledged. Raises RuntimeError if any was not."""
    sender = producer(bootstrap)
    failures: list[str] = []

    def note_failure(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(str(error))

    count = 0
    begin = time.monotonic()
    for topic, key, value in records:
        _produce(sender, topic, key, value, note_failure)
        count += 1
        if count % 5_000 == 0:
            sender.poll(0)
        if count % _REPORT_EVERY == 0:
            say(f"{count:,} events sent, {count / (time.monotonic() - begin):,.0f}/s")
    left = sender.flush(120)
    if left or failures:
        raise RuntimeError(f"{left} events not acknowledged, {len(failures)} refused: {failures[:1]}")
    return count


def send_at_rate(bootstrap: str, records: Iterable[Record], per_second: float, seconds: float) -> int:
    """Send evenly for some time; returns how many were sent."""
    sender = producer(bootstrap, linger_ms=5)
    begin = time.monotonic()
    count = 0
    for topic, key, value in records:
        due = begin + count / per_second
        if due - begin > seconds:
            break
        while (wait := due - time.monotonic()) > 0:
            sender.poll(0)
            time.sleep(min(wait, 0.005))
        _produce(sender, topic, key, value, None)
        count += 1
    sender.flush(30)
    return count


def _produce(
    sender: Producer, topic: str, key: str, value: str, noted: Callable[[KafkaError | None, Message], None] | None
) -> None:
    while True:
        try:
            if noted is None:
                sender.produce(topic, value, key)
            else:
                sender.produce(topic, value, key, on_delivery=noted)
            return
        except BufferError:
            sender.poll(0.1)
