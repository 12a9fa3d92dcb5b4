"""Dead letters as lines of NDJSON: exported, corrected with any tool, and read back."""

import base64
import re
from typing import Any

import msgspec

from emis_streams.dead_letters import DeadLetter
from emis_streams.errors import UNREADABLE_JSON, InvalidEvent

_PLACE = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)


def value_members(value: bytes | None) -> dict[str, Any]:
    """`event` if the value is a JSON object, `value` if it is other text or null, else `valueBase64`."""
    if value is None:
        return {"value": None}
    try:
        if isinstance(msgspec.json.decode(value), dict):
            return {"event": msgspec.Raw(msgspec.json.format(value, indent=-1))}
    except UNREADABLE_JSON:
        pass  # It is no JSON; what it is instead is looked at now.
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"valueBase64": base64.b64encode(value).decode()}


def line_of(letter: DeadLetter) -> bytes:
    """One line: where the letter is and came from, why it was refused, its key, and its value to be corrected."""
    about = {name: said for name, said in letter.summary().items() if name not in ("value", "valueBase64", "bytes")}
    return msgspec.json.encode(about | value_members(letter.value)) + b"\n"


class Correction(msgspec.Struct, frozen=True):
    """A line that was read back."""

    place: tuple[int, int]
    """Partition and offset in the dead-letter topic."""
    event: bytes
    """JSON."""


class _Line(msgspec.Struct):
    place: str
    event: msgspec.Raw = msgspec.Raw()
    value: str | None = None


_decode = msgspec.json.Decoder(_Line).decode


def correction_of(line: bytes) -> Correction:
    """What a corrected line says: `event`, or else `value` as text. Raises InvalidEvent with what is wrong with it."""
    try:
        read = _decode(line)
    except UNREADABLE_JSON as error:
        raise InvalidEvent(f"no line of `dead-letters export`: {error}") from None
    place = _PLACE.fullmatch(read.place)
    if place is None:
        raise InvalidEvent(f"place {read.place!a} is not PARTITION:OFFSET")
    if not bytes(read.event) and read.value is None:
        raise InvalidEvent("neither event nor value: write the corrected event as `event`")
    return Correction((int(place[1]), int(place[2])), bytes(read.event) or (read.value or "").encode())
