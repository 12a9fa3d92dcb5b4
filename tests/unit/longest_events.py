"""The largest event of each contract: every text as long as it may be, of characters of four bytes."""

from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from emis_streams.events import Contract, camel

_NOW_MS = 1_800_000_000_000
_FOUR_BYTES = "𠀀"
_ID = "0a000000-0000-4000-8000-000000000001"


class LongestEvent(NamedTuple):
    key: bytes
    value: bytes
    timestamp_ms: int


def longest_event(contract: Contract) -> LongestEvent:
    """The event, and fields that the contract does not know."""
    fields: dict[str, Any] = {
        name: _longest(field) for field in inspect.type_info(contract.event).fields for name in [field.encode_name]
    }
    fields |= {"timestamp": "2026-11-30T08:57:00.123456+07:00", "eventType": contract.topic, "unknown": _FOUR_BYTES}
    fields |= {camel(name): _ID for name in (*contract.ids, *contract.optional_ids)}
    return LongestEvent(_ID.encode(), msgspec.json.encode(fields), _NOW_MS)


def _longest(field: Any) -> Any:
    kinds = getattr(field.type, "types", (field.type,))
    for kind in kinds:
        if isinstance(kind, inspect.StrType):
            return _FOUR_BYTES * (kind.max_length or 36)
        if isinstance(kind, inspect.IntType):
            return kind.le
    return None
