"""A producer whose transaction does not end: readers of committed records get no further than its first record."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

from tests.services import unique

_TIMEOUT_SECONDS = 20


@contextmanager
def open_transaction(
    broker: str, topic: str, partition: int, n_records: int, key: bytes | None = None
) -> Iterator[None]:
    """Records of a transaction that is open until the block ends, and is aborted then. Compacted topics want a key."""
    producer = Producer({"bootstrap.servers": broker, "transactional.id": unique("hangs")})
    producer.init_transactions(_TIMEOUT_SECONDS)
    producer.begin_transaction()
    for _ in range(n_records):
        producer.produce(topic, b"{}", key, partition)
    assert producer.flush(_TIMEOUT_SECONDS) == 0
    try:
        yield
    finally:
        producer.abort_transaction(_TIMEOUT_SECONDS)
