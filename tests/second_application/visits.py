"""How often each user was seen, in two topics: exact, whatever is killed, since a row says what it has counted.

A row holds, for each source topic, how far its records are counted and how many these were. Records that are read again
after a crash are passed over; of two rows of a user the one that is further counts, for each topic by itself.
"""

import json
import os
from collections.abc import AsyncIterable
from typing import Any

from emis_streams.engine import App, Options, Slice, Table, fits

NAME = os.environ["VISITS_NAME"]
PARTITIONS = 4
TOPICS = (f"{NAME}-pages", f"{NAME}-logins")
"""Key: user. Whatever the value is, it is one visit. A key that is too long for a row is no user's."""
_LONGEST_ROW = json.dumps(dict.fromkeys(TOPICS, (2**63, 2**63))).encode()

app = App(
    NAME,
    broker=f"slices://{os.environ['VISITS_BROKERS']}",
    datadir=os.environ["VISITS_DATADIR"],
    engine_options=Options(slice_records=100, watchdog_timeout_seconds=30.0),
    broker_session_timeout=6.0,
    broker_heartbeat_interval=0.5,
    broker_commit_interval=1.0,
)

Seen = dict[str, tuple[int, int]]
"""By topic: the offset behind the last record that is counted, and how many are."""


def merge(row: bytes, stored: bytes | None) -> bytes:
    """The same whichever comes first, and nothing new where a row comes again."""
    if stored is None:
        return row
    one, other = parse(row), parse(stored)
    return pack({topic: max(one.get(topic, (0, 0)), other.get(topic, (0, 0))) for topic in one | other})


def pack(seen: Seen) -> bytes:
    return json.dumps(seen, sort_keys=True).encode()


def parse(row: bytes) -> Seen:
    """What the row says; nothing if somebody else wrote it."""
    try:
        return {topic: (int(offset), int(n)) for topic, (offset, n) in json.loads(row).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


visits: Table = app.Table("visits", topics=TOPICS, merge=merge)


@app.agent(app.slices(*TOPICS))
async def count(slices: AsyncIterable[Slice]) -> None:
    async for batch in slices:
        batch.done_when(visits.write(batch, counted(batch)))


def counted(batch: Slice) -> dict[bytes, bytes]:
    """The rows of the users in the slice, with what of it they have not counted yet."""
    keyed = [record for record in batch.records if record.key is not None and fits(record.key, _LONGEST_ROW)]
    rows = {key: parse(row or b"{}") for key, row in visits.stored(batch, [record.key for record in keyed]).items()}
    for record in keyed:
        _count(rows[record.key], batch.topic, record)
    return {key: pack(seen) for key, seen in rows.items()}


def _count(seen: Seen, topic: str, record: Any) -> None:
    next_offset, n = seen.get(topic, (0, 0))
    if record.offset >= next_offset:
        seen[topic] = (record.offset + 1, n + 1)


__all__ = ["PARTITIONS", "TOPICS", "app", "count", "merge", "parse", "visits"]
