"""Which records of a changelog are rows. Anybody with a producer can write to a topic: what is no row is left out."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from emis_streams.engine.fetch import Fetched

logger = logging.getLogger(__name__)

RESERVED_KEYS = frozenset([b"\x00position", b"\x00checked"])
"""Stores keep their own notes under these, beside the rows."""

Refusals = Callable[[str, Sequence[Any]], list[tuple[int, str]]]
"""Topic and records to place and reason of those that are no rows. Must not raise, whatever the bytes are."""


def no_rows_of_any_table(_topic: str, records: Sequence[Any]) -> list[tuple[int, str]]:
    """What cannot be a row, whatever the table holds: null keys and values, and the keys of the store's own notes."""
    return [
        (place, f"key {record.key!r}" if record.value is not None else "null value")
        for place, record in enumerate(records)
        if record.value is None or record.key is None or record.key in RESERVED_KEYS
    ]


@dataclass(frozen=True)
class RowCheck:
    """How an application tells rows from other records of its changelogs."""

    refusals: Refusals = no_rows_of_any_table
    way_out: str = ""
    """What operators can do about records that are no rows; the end of a log line."""


@dataclass
class Invalid:
    """The records of one partition that were read and are no rows."""

    n: int
    last_offset: int
    last_reason: str
    last_read_at: float
    """Unix seconds."""


class RowFilter:
    """Finds the records that are no rows, counts them, and logs the first of each partition.

    Tombstones (a key without a value) are no rows either, but are neither counted nor logged: that a row of this key
    is gone from the log is for the owner of the partition to see, who sends it again.
    """

    def __init__(self, check_of: Callable[[str], RowCheck] = lambda _topic: RowCheck()) -> None:
        """`check_of`: topic of a changelog to the check of its records."""
        self._check_of = check_of
        self._seen: dict[tuple[str, int, str], int] = {}
        """Next offset by topic, partition and topic id: records that are read twice are counted once."""
        self.invalid: dict[tuple[str, int], Invalid] = {}
        """By topic and partition, since the start."""

    @property
    def n_invalid(self) -> int:
        """Of all partitions."""
        return sum(invalid.n for invalid in self.invalid.values())

    def places(self, fetched: Fetched, topic_id: str) -> frozenset[int]:
        """Places of the records that are no rows."""
        check = self._check_of(fetched.tp.topic)
        refused = check.refusals(fetched.tp.topic, fetched.records)
        if not refused:
            return frozenset()
        self._note(fetched, topic_id, refused, check.way_out)
        return frozenset([place for place, _ in refused])

    def _note(self, fetched: Fetched, topic_id: str, refused: Sequence[tuple[int, str]], way_out: str) -> None:
        tp, records = fetched.tp, fetched.records
        place_of = (tp.topic, tp.partition, topic_id)
        seen = self._seen.get(place_of)
        new = [
            (records[place].offset, reason)
            for place, reason in refused
            if (records[place].value is not None or records[place].key is None) and records[place].offset >= (seen or 0)
        ]
        if not new:
            return
        n_before = invalid.n if (invalid := self.invalid.get((tp.topic, tp.partition))) else 0
        self.invalid[tp.topic, tp.partition] = Invalid(n_before + len(new), *new[-1], last_read_at=time.time())
        self._seen[place_of] = new[-1][0] + 1
        if seen is None:
            offset, reason = new[0]
            text = "%s:%d:%d is no row: %s. It is left out; more of them in this partition are only counted%s"
            logger.warning(text, tp.topic, tp.partition, offset, reason, f". {way_out}" if way_out else "")
