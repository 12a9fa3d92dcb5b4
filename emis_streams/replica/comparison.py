"""Whether a row of the replica is the row of the changelog. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from emis_streams import topics
from emis_streams.errors import InvalidEvent
from emis_streams.replica.values import columns_of, values_of

Kind = Literal["missing", "older", "different", "newer", "extra"]
WAYS_OUT: dict[Kind, str] = {
    "missing": "in the table, not in the replica: `emis-streams replica rebuild`, or see the dead letters",
    "older": "a lower version than the table's: `emis-streams replica rebuild`, or see the dead letters",
    "different": "the table's version with other data, written by someone else: `emis-streams replica rebuild`",
    "newer": "a version that the table never had: `emis-streams replica rebuild --truncate`",
    "extra": "not in the table: `emis-streams replica rebuild --truncate`",
}
_NOT_COMPARED = frozenset({"LastSyncedAt", "ChangelogPartition"})
"""An equal version may have been written again, later."""

Found = Mapping[str, Any]
"""A row of the replica, by column."""


class Difference(msgspec.Struct, rename="camel", frozen=True):
    """A row of the replica that is not as the table has it."""

    kind: Kind
    key: str
    table_version: str | None
    replica_version: str | None
    columns: list[str]
    """Of `different`: which."""


def key_of(subject: topics.Subject, found: Found) -> bytes:
    """The changelog's key of a row of the replica."""
    if subject is topics.ASSIGNMENTS:
        return f"{found['TeacherId']}|{found['AssignmentId']}".encode()
    key: str = found["TeacherId" if subject is topics.TEACHERS else "ClassId"]
    return key.encode()


def difference(subject: topics.Subject, key: bytes, row: bytes | None, found: Found | None) -> Difference | None:
    """What differs between a changelog's row and the replica's, None if nothing does.

    Raises InvalidEvent if the changelog's row cannot be read, so that the replica cannot have it.
    """
    expected = None if row is None else _named(subject, key, row)
    here = None if found is None else str(found["Version"])
    there = None if expected is None else str(expected["Version"])
    kind, columns = _kind(expected, found, there, here)
    return None if kind is None else Difference(kind, key.decode(errors="replace"), there, here, columns)


def _kind(
    expected: Found | None, found: Found | None, there: str | None, here: str | None
) -> tuple[Kind | None, list[str]]:
    if expected is None or there is None:
        return (None if found is None else "extra"), []
    if found is None or here is None:
        return "missing", []
    if here != there:
        return ("older" if here < there else "newer"), []
    columns = [name for name, value in expected.items() if name not in _NOT_COMPARED and value != _plain(found[name])]
    return ("different" if columns else None), columns


def _named(subject: topics.Subject, key: bytes, row: bytes) -> Found:
    return dict(zip(columns_of(subject), values_of(subject, 0, key, row, 0), strict=True))


def _plain(value: Any) -> Any:
    """As `values_of` gives it."""
    return value.isoformat(" ", "microseconds") if isinstance(value, datetime) else value


def is_readable(subject: topics.Subject, key: bytes, row: bytes) -> bool:
    """Whether the replica can have this row."""
    try:
        values_of(subject, 0, key, row, 0)
    except InvalidEvent:
        return False
    return True
