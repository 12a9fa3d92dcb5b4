"""Whether two requests ask for the same: idempotency keys belong to what is asked for, not to how it is spelled."""

import hashlib
import unicodedata
from typing import Any

import msgspec

from emis_streams.errors import UNREADABLE_JSON
from emis_streams.ids import canonical_id, is_id_name

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def content_of(value: bytes) -> bytes:
    """The one spelling of a request's JSON: members in order, absent ones for null, composed letters, canonical ids.

    What is no JSON is its own content.
    """
    try:
        return _encode(_canonical(_decode(value)))
    except UNREADABLE_JSON:
        return value


def _canonical(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _canonical(member, key) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_canonical(member) for member in value]
    if isinstance(value, str):
        text = unicodedata.normalize("NFC", value)
        return canonical_id(text) or text if is_id_name(name) else text
    return int(value) if isinstance(value, float) and value.is_integer() else value


def are_same(value: bytes, other: bytes) -> bool:
    return value == other or content_of(value) == content_of(other)


def fingerprint(value: bytes) -> str:
    """SHA-256 of what is asked for, in hexadecimal."""
    return hashlib.sha256(content_of(value)).hexdigest()


def is_fingerprint_of(kept: str, value: bytes) -> bool:
    """Whether it was kept for this content. Releases up to 0.1.0 kept that of the bytes as they came."""
    return kept in (fingerprint(value), hashlib.sha256(value).hexdigest())
