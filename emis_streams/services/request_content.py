"""Whether two requests ask for the same: idempotency keys belong to what is asked for, not to how it is spelled."""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from emis_streams.errors import UNREADABLE_JSON
from emis_streams.ids import canonical_id, is_id_name

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="deterministic").encode
_encode_in_order = msgspec.json.Encoder().encode

_ID_FORMS_OF_0_1_0: tuple[Callable[[str], str], ...] = (
    str.upper,
    lambda id_: id_.replace("-", ""),
    lambda id_: id_.replace("-", "").upper(),
)
"""The forms of an id, beside the canonical one, that releases up to 0.1.0 accepted; mixed case is left out."""


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
    return _sha256(content_of(value))


def is_fingerprint_of(kept: str, value: bytes) -> bool:
    """Whether it was kept for this content, by this release or by one up to 0.1.0."""
    return kept == fingerprint(value) or kept in _fingerprints_of_0_1_0(value)


def _fingerprints_of_0_1_0(value: bytes) -> Iterator[str]:
    """Of the bytes as they came. A gateway of that release passed ids on as the client had written them."""
    yield _sha256(value)
    try:
        members = _decode(value)
    except UNREADABLE_JSON:
        return
    if isinstance(members, dict):
        for form in _ID_FORMS_OF_0_1_0:
            yield _sha256(_encode_in_order({name: _id_as(form, name, member) for name, member in members.items()}))


def _id_as(form: Callable[[str], str], name: str, value: Any) -> Any:
    return form(value) if is_id_name(name) and isinstance(value, str) and canonical_id(value) else value


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
