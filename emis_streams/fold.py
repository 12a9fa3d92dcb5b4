"""Which event wins: the pure rule of all tables, for a slice at a time.

A row is replaced by one with a higher version, and rewritten by one with the same: a replay must
repair a changelog that a crash cut short (design, 2.2). Arrival order does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from emis_streams.events import Decoded, created_of
from emis_streams.rows import CREATED_BYTES, VERSION_BYTES

_RANK_AT = 8
_CREATED = slice(VERSION_BYTES, VERSION_BYTES + CREATED_BYTES)


@dataclass(slots=True)
class Folded:
    rows: dict[bytes, bytes] = field(default_factory=dict)
    """The rows to keep, by row key."""
    superseded: int = 0
    """Events that lost against a higher version."""
    clock_skew: int = 0
    """Of those, the ones that are older than one of the same key on the same topic."""


def fold(events: Decoded, stored: Sequence[bytes | None]) -> Folded:
    """The rows that the events leave; `stored` are the rows kept of `events.keys`, in that order."""
    folded = Folded()
    rows = folded.rows
    for key, version, body, kept in zip(events.keys, events.versions, events.bodies, stored, strict=True):
        row = rows.get(key, kept)
        if row is None:
            rows[key] = version + created_of(version) + body
        elif version >= row[:VERSION_BYTES]:
            rows[key] = version + row[_CREATED] + body
        else:
            folded.superseded += 1
            folded.clock_skew += version[_RANK_AT] == row[_RANK_AT]
    return folded
