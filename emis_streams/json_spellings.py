"""Two spellings of JSON values that practitioners' libraries write, and that the decoder does not read.

- `42.0` for an integer: JSON Schema calls it an integer, and JavaScript, Lua and spreadsheets write it.
- `2026-11-30T08:57+07:00`: java.time leaves the seconds of a time out where they are zero.

Both mean one value only. Decoders try the value as it came first; this is the slow path of what they refuse.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode
_LARGEST_EXACT = 2**53
"""Up to here every integer has a floating-point number of its own."""
_WITHOUT_SECONDS = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d)([Zz]|[+-]\d\d:?\d\d)")


def respelled(value: bytes, integers: Sequence[str] = (), times: Sequence[str] = ()) -> bytes | None:
    """The same JSON object with these members as the decoder reads them; None if there is nothing to respell.

    `integers` and `times` are names of members. Raises one of UNREADABLE_JSON for what is no JSON object.
    """
    members = _decode(value)
    changed: dict[str, Any] = {name: int(members[name]) for name in integers if _is_integral(members.get(name))}
    for name in times:
        if found := _without_seconds(members.get(name)):
            changed[name] = f"{found[1]}:00{found[2]}"
    return _encode({**members, **changed}) if changed else None


def _is_integral(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT


def _without_seconds(value: Any) -> re.Match[str] | None:
    return _WITHOUT_SECONDS.fullmatch(value) if isinstance(value, str) else None
