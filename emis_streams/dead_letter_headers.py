"""The headers of a dead letter: those of the refused record, as they came, and behind them ours.

A producer gives its records headers of any name, `dlq.topic` too. So which headers are ours is a matter of place, which
no producer of source records can choose: ours are the last ones, and the very last says how many stand before them.
Pure; reading raises nothing, whatever the headers are.

Dead letters of e687981 and before end with the six headers of `NAMES`; one that was cut begins with `dlq.cut`.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emis_streams import rows, topics

Header = tuple[str, bytes | None]
Headers = Sequence[Header]

PREFIX = "dlq."
NAMES = tuple(PREFIX + name for name in ("topic", "partition", "offset", "timestamp", "reason", "time"))
CUT = "dlq.cut"
"""On a dead letter that is not whole: how large the refused record was."""
OWN = "dlq.headers"
"""The last one: how many headers of the refused record stand before ours."""
MAX_REASON_BYTES = 8_000
"""With the other headers well below the 64 KiB that the dead-letter topic has more than a source."""
CUT_BYTES = 64 * 1024
"""So much is left of key and value of a record that is cut."""

_SIZES = "key of {} bytes, value of {} bytes, {} headers"
_WRITTEN_SIZES = re.compile(_SIZES.replace("{}", "([0-9]{1,12})"))
_NUMBER = re.compile("[0-9]{1,9}")


class Parsed(NamedTuple):
    """Headers of a record of the dead-letter topic."""

    own: list[Header]
    """Of the refused record; all headers, if the record is not a dead letter of ours."""
    ours: dict[str, bytes]
    """By name without prefix: `topic`, `reason`, …; `cut` only if the letter is not whole."""


def headers_for(
    topic: str, partition: int, offset: int, timestamp_ms: int, reason: str, now_ms: int
) -> list[tuple[str, bytes]]:
    """The headers that say where a refused record came from, why it was refused and when."""
    texts = (topic, str(partition), str(offset), _time_text(timestamp_ms), reason, _time_text(now_ms))
    return [(name, _to_bytes(text)) for name, text in zip(NAMES, texts, strict=True)]


def _to_bytes(text: str) -> bytes:
    """UTF-8 of any text, lone surrogates escaped, cut at a character."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= MAX_REASON_BYTES:
        return raw
    return raw[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode() + "…".encode()


LATEST_MS = 253_402_300_799_999
"""The end of year 9999."""


def _time_text(ms: int) -> str:
    if ms < 0:
        return ""
    if ms > LATEST_MS:  # Of a topic whose records have the times of producers.
        return f"{ms} ms after 1970"
    return rows.from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_dead_letter(
    key: bytes | None, value: bytes | None, headers: Headers, ours: Headers
) -> tuple[bytes | None, bytes | None, list[Header]]:
    """Key, value and headers of the dead letter of a refused record; `ours` as `headers_for` makes them.

    The brokers' limit is for packed batches: what was in one may be many times larger than the dead-letter
    topic takes. Of such a record the beginnings of key and value are left, and a header that says so.
    """
    n_bytes = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, list(headers))
    if n_bytes <= topics.MAX_MESSAGE_BYTES:
        return key, value, [*headers, *ours, (OWN, str(len(headers)).encode())]
    sizes = _SIZES.format(len(key or b""), len(value or b""), len(headers)).encode()
    return key and key[:CUT_BYTES], value and value[:CUT_BYTES], [*ours, (CUT, sizes), (OWN, b"0")]


def parse(key: bytes | None, value: bytes | None, headers: Headers) -> Parsed:
    """Tells the headers of the refused record from ours."""
    names = tuple(name for name, _ in headers)
    if names[-1:] == (OWN,):
        n_own = _number(headers[-1][1])
        if n_own is not None and names[n_own:-1] in (NAMES, (*NAMES, CUT)):
            return _parsed(headers, n_own, headers[n_own:-1])
    elif names == (CUT, *NAMES) and _was_cut(key, value, headers[0][1]):
        return _parsed(headers, 0, headers)
    elif names[-len(NAMES) :] == NAMES:
        n_own = len(names) - len(NAMES)
        return _parsed(headers, n_own, headers[n_own:])
    return Parsed(list(headers), {})


def _parsed(headers: Headers, n_own: int, ours: Headers) -> Parsed:
    return Parsed(list(headers[:n_own]), {name.removeprefix(PREFIX): value or b"" for name, value in ours})


def _number(raw: bytes | None) -> int | None:
    text = (raw or b"").decode("ascii", "replace")
    return int(text) if _NUMBER.fullmatch(text) else None


def _was_cut(key: bytes | None, value: bytes | None, sizes: bytes | None) -> bool:
    """Whether sizes that stand first, where a record could have put them as well, are those of what is left."""
    found = _WRITTEN_SIZES.fullmatch((sizes or b"").decode("ascii", "replace"))
    if found is None:
        return False
    n_key, n_value, _ = map(int, found.groups())
    return (len(key or b""), len(value or b"")) == (min(n_key, CUT_BYTES), min(n_value, CUT_BYTES))
