"""Dead letters: records that could not be used, kept as they came, with where from and why.

A dead letter has the refused record's key, value and headers, and headers of ours that begin with
`dlq.`. Agents send them; the operator lists, shows, replays or corrects them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emis_streams import rows

Headers = Sequence[tuple[str, bytes]]

PREFIX = "dlq."
REPLAYED = "dlq.replayed"
"""On a record that was sent again from the dead letters: which one it was (partition:offset)."""
MAX_REASON_BYTES = 8_000
"""With the other headers well below the 64 KiB that the dead-letter topic has more than a source."""


def headers_for(
    topic: str, partition: int, offset: int, timestamp_ms: int, reason: str, now_ms: int
) -> list[tuple[str, bytes]]:
    """The headers that say where a refused record came from, why it was refused and when."""
    texts = {
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "timestamp": _time_text(timestamp_ms),
        "reason": reason,
        "time": _time_text(now_ms),
    }
    return [(PREFIX + name, _to_bytes(text)) for name, text in texts.items()]


def _to_bytes(text: str) -> bytes:
    """UTF-8 of any text, lone surrogates escaped, cut at a character."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= MAX_REASON_BYTES:
        return raw
    return raw[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode() + "…".encode()


def _time_text(ms: int) -> str:
    if ms < 0:
        return ""
    return rows.from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def original_headers(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The headers that the record had before it was refused."""
    return [(name, value) for name, value in headers if not name.startswith(PREFIX)]


@dataclass(frozen=True)
class DeadLetter:
    """A record of the dead-letter topic, read back."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    """All of them, ours too."""

    @property
    def place(self) -> str:
        """How the operator names it: `partition:offset` in the dead-letter topic."""
        return f"{self.partition}:{self.offset}"

    def said(self, name: str) -> str | None:
        """What our header of that name says (`topic`, `reason`, …); the last one, if refused twice."""
        values = [value for header, value in self.headers if header == PREFIX + name]
        return values[-1].decode("utf-8", "replace") if values else None

    @property
    def topic(self) -> str | None:
        return self.said("topic")

    @property
    def origin(self) -> str:
        """Source topic:partition:offset."""
        return ":".join(self.said(name) or "?" for name in ("topic", "partition", "offset"))

    @property
    def reason(self) -> str:
        return self.said("reason") or "no reason given"

    @property
    def time(self) -> datetime | None:
        """When it was refused; None if the header is missing or unreadable."""
        try:
            return datetime.fromisoformat(self.said("time") or "")
        except ValueError:
            return None

    def summary(self) -> dict[str, Any]:
        """What `dead-letters list` says of it."""
        return {
            "place": self.place,
            "topic": self.topic,
            "partition": self.said("partition"),
            "offset": self.said("offset"),
            "reason": self.reason,
            "time": self.said("time"),
            "key": None if self.key is None else self.key.decode("utf-8", "replace"),
            "bytes": len(self.value or b""),
        }
