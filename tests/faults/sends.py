"""Sends a district's events at a fixed rate and writes down what became of each.

    python sends.py BROKERS SEED PER_SECOND OUT POISON_SHARE SKEW_SECONDS

A process of its own, so that what happens to it happens to nobody else. SIGTERM ends it: what is not
acknowledged soon then, as the fault is over, is written down as unknown.
"""

import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from confluent_kafka import Producer

from tests.faults.district import District, Sent

ACKNOWLEDGED_SECONDS = 60.0
"""Longer than any fault that brokers are given."""
LAST_SECONDS = 10.0
"""An idempotent producer does not get over a topic that was deleted and made anew (row 38)."""


@dataclass
class Log:
    """One line per record: `acked` is null when its outcome is not known."""

    out: IO[str]
    unknown: int = 0

    def sent(self, event: Sent, at: float) -> Any:
        self.unknown += 1

        def delivered(error: Any, message: Any) -> None:
            self.unknown -= 1
            self.write(event, at, error, None if error else message)

        return delivered

    def write(self, event: Sent, at: float, error: Any, message: Any) -> None:
        line = {
            "topic": event.topic,
            "key": event.key,
            "row_key": event.row_key,
            "us": event.time_us,
            "rank": event.rank,
            "event_id": event.event_id,
            "name": event.name,
            "bad": event.bad,
            "sent": at,
            "acked": None if message is None else time.monotonic(),
            "partition": None if message is None else message.partition(),
            "offset": None if message is None else message.offset(),
            "error": None if error is None else str(error),
        }
        self.out.write(json.dumps(line, ensure_ascii=False) + "\n")


def a_producer(brokers: str) -> Producer:
    return Producer(
        {
            "bootstrap.servers": brokers,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 5,
            "reconnect.backoff.max.ms": 500,
            "message.timeout.ms": int(ACKNOWLEDGED_SECONDS * 1000),
        }
    )


def send(producer: Producer, event: Sent, log: Log) -> None:
    headers: list[tuple[str, str | bytes | None]] = [("bad", b"1")] if event.bad else []
    done = log.sent(event, time.monotonic())
    while True:
        try:
            producer.produce(event.topic, event.value, event.key.encode(), headers=headers, on_delivery=done)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def main(brokers: str, seed: str, rate: float, out: str, poison_share: float, skew_seconds: float) -> None:
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    producer = a_producer(brokers)
    district = District(seed, poison_share, skew_seconds)
    with Path(out).open("a", encoding="utf-8", buffering=1) as file:
        log = Log(file)
        if poison_share < 1:
            for event in district.beginning():
                send(producer, event, log)
        begun = time.monotonic()
        for n, event in enumerate(district.life()):
            if stopped:
                break
            send(producer, event, log)
            producer.poll(max(0.0, begun + n / rate - time.monotonic()))
        if producer.flush(LAST_SECONDS):
            producer.purge()
            producer.flush()  # Tells what became of those, too.


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4], float(sys.argv[5]), float(sys.argv[6]))
