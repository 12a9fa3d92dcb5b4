"""Which event wins: the pure rule of all tables, for a slice at a time.

A row is replaced by one with a higher version, and rewritten by one with the same: a replay must repair a changelog
that a crash cut short. Arrival order across topics does not matter: a late event that is the earliest of its key still
says when the thing was created. For the same reason its replay writes the row again, although it changes nothing: the
table may have kept the row before the crash, and the changelog not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from emis_streams.events import Decoded, created_of
from emis_streams.rows import BODY_AT, VERSION_BYTES

_RANK_AT = 8
_CREATED = slice(VERSION_BYTES, BODY_AT)


@dataclass(slots=True)
class Folded:
    rows: dict[bytes, bytes] = field(default_factory=dict)
    """The rows to keep, by row key."""
    superseded: int = 0
    """Events that lost against a higher version."""
    clock_skew: int = 0
    """Of those, the ones that are older than one of the same key on the same topic."""


def fold(events: Decoded, stored: Mapping[bytes, bytes | None]) -> Folded:
    """The rows that the events leave; `stored` has the row that is kept of each of `events.keys`."""
    folded = Folded()
    rows = folded.rows
    for key, version, body in zip(events.keys, events.versions, events.bodies, strict=True):
        row = rows[key] if key in rows else stored[key]
        if row is None:
            rows[key] = version + created_of(version) + body
        elif version >= row[:VERSION_BYTES]:
            rows[key] = version + row[_CREATED] + body
        else:
            folded.superseded += 1
            folded.clock_skew += version[_RANK_AT] == row[_RANK_AT]
            created = created_of(version)
            if created <= row[_CREATED]:
                rows[key] = row[:VERSION_BYTES] + created + row[BODY_AT:]
    return folded
