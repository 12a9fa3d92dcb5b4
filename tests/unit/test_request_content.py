"""An idempotency key belongs to what is asked for, however its JSON is spelled."""

import hashlib
import json
import random
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.ids import with_canonical_ids
from emis_streams.services.request_content import are_same, content_of, fingerprint, is_fingerprint_of

ASKED = '{"title": "Phân số", "userId": "0c0000ab-0000-4000-8000-00000000000f", "pages": 3}'.encode()

SAME = {
    "order of members": '{"pages":3,"userId":"0c0000ab-0000-4000-8000-00000000000f","title":"Phân số"}',
    "escapes": '{"title": "Ph\\u00e2n s\\u1ed1", "userId": "0c0000ab-0000-4000-8000-00000000000f", "pages": 3}',
    "decomposed letters": unicodedata.normalize("NFD", ASKED.decode()),
    "null for what is absent": ASKED.decode()[:-1] + ', "description": null}',
    "id in capitals and braces": ASKED.decode().replace("0c0000ab", "{0C0000AB").replace("00f", "00F}"),
    "fraction of zero": ASKED.decode().replace("3}", "3.0}"),
    "said twice, the last the same": ASKED.decode()[:-1] + ', "pages": 3}',
}
OTHER = {
    "another value": ASKED.decode().replace("3}", "4}"),
    "a text for a number": ASKED.decode().replace("3}", '"3"}'),
    "another member": ASKED.decode()[:-1] + ', "description": ""}',
    "one member less": ASKED.decode().replace(', "pages": 3', ""),
    "capitals of a text": ASKED.decode().replace("Phân", "phân"),
    "blanks of a text": ASKED.decode().replace("Phân số", "Phân  số"),
    "true for one": ASKED.decode().replace("3}", "true}"),
    "in a list": f"[{ASKED.decode()}]",
    "no JSON": ASKED.decode() + "x",
}

_ID = "0c0000ab-0000-4000-8000-00000000000f"
ID_FORMS_OF_0_1_0 = {
    "canonical": ASKED.decode(),
    "in capitals": ASKED.decode().replace(_ID, _ID.upper()),
    "without hyphens": ASKED.decode().replace(_ID, _ID.replace("-", "")),
    "in capitals without hyphens": ASKED.decode().replace(_ID, _ID.replace("-", "").upper()),
}


@pytest.mark.parametrize("value", SAME.values(), ids=SAME)
def test_spelled_otherwise_it_is_the_same(value: str) -> None:
    assert are_same(ASKED, value.encode())
    assert is_fingerprint_of(fingerprint(ASKED), value.encode())


@pytest.mark.parametrize("value", OTHER.values(), ids=OTHER)
def test_other_content_is_not_the_same(value: str) -> None:
    assert not are_same(ASKED, value.encode())
    assert not is_fingerprint_of(fingerprint(ASKED), value.encode())


def test_what_an_older_release_kept_is_still_known() -> None:
    assert is_fingerprint_of(hashlib.sha256(ASKED).hexdigest(), ASKED)


@pytest.mark.parametrize("body", ID_FORMS_OF_0_1_0.values(), ids=ID_FORMS_OF_0_1_0)
def test_a_retry_through_a_new_gateway_is_the_request_that_an_old_one_passed_on(body: str) -> None:
    """A rolling upgrade: the first attempt met old instances, which pass ids on and keep them as they are written."""
    passed_on_by_old = msgspec.json.encode(msgspec.json.decode(body))
    passed_on_by_new = msgspec.json.encode(with_canonical_ids(msgspec.json.decode(body)))
    kept = hashlib.sha256(passed_on_by_old).hexdigest()
    assert is_fingerprint_of(kept, passed_on_by_new)
    assert not is_fingerprint_of(kept, passed_on_by_new.replace(b"Ph", b"ph"))
    assert not is_fingerprint_of(kept, passed_on_by_new.replace(b"0c0000ab", b"0c0000ac"))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def _shuffled(value: Any, by: random.Random) -> Any:
    if isinstance(value, dict):
        members = list(value.items())
        by.shuffle(members)
        return {name: _shuffled(member, by) for name, member in members}
    return [_shuffled(member, by) for member in value] if isinstance(value, list) else value


@given(_JSON, st.randoms(use_true_random=False), st.booleans(), st.sampled_from([None, 2]))
def test_any_json_is_the_same_in_any_order_and_with_any_escapes(
    value: Any, by: random.Random, ascii_only: bool, indent: int | None
) -> None:
    other = json.dumps(_shuffled(value, by), ensure_ascii=ascii_only, indent=indent)
    try:
        spelled = json.dumps(value, ensure_ascii=False).encode()
        other_bytes = other.encode()
    except UnicodeEncodeError:  # A lone surrogate is nothing that JSON in UTF-8 can say.
        return
    assert are_same(spelled, other_bytes)


@given(st.binary(max_size=60))
def test_content_is_total_and_its_own_content(value: bytes) -> None:
    assert content_of(content_of(value)) == content_of(value)
