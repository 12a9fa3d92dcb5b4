"""Which dead letters were sent again, and where to: noted in records of the dead-letter topic itself.

Where a replayed record stands in its source topic is known from the brokers only. A letter that came from there is the
replayed one, refused again. A header on the replayed record would say the same, but any producer could write it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from emis_streams.dead_letter_headers import Headers
from emis_streams.errors import UNREADABLE_JSON

REPLAYS = "dlq.replays"
"""The last header of such a record. A refused record cannot have it: the last headers of a dead letter are ours."""
_FORMAT = b"1"
_MOST_IN_RECORD = 4_000
"""Some 100 bytes each: well below what the topic takes."""

_Count = Annotated[int, Meta(ge=0)]


class Replay(msgspec.Struct, frozen=True, array_like=True):
    """A dead letter that was sent again, and the record that this made."""

    place: str
    """`partition:offset` of the letter in the dead-letter topic."""
    topic: str
    partition: _Count
    offset: _Count

    @property
    def origin(self) -> str:
        """What a dead letter of the new record says of where it came from."""
        return f"{self.topic}:{self.partition}:{self.offset}"


class Note(NamedTuple):
    """A record for the dead-letter topic; it has no key."""

    value: bytes
    headers: list[tuple[str, bytes]]


_decode = msgspec.json.Decoder(list[Replay]).decode


def notes_of(replays: Iterable[Replay]) -> Iterator[Note]:
    """The records that note these replays."""
    left = iter(replays)
    while some := list(islice(left, _MOST_IN_RECORD)):
        yield Note(msgspec.json.encode(some), [(REPLAYS, _FORMAT)])


def noted(value: bytes | None, headers: Headers) -> Sequence[Replay] | None:
    """The replays that a record of the dead-letter topic notes; None if it is no such record."""
    if not headers or headers[-1] != (REPLAYS, _FORMAT) or value is None:
        return None
    try:
        return _decode(value)
    except UNREADABLE_JSON:
        return None
