"""What the lesson service is asked, of any bytes: it is what a pattern takes, or refused with a reason."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.services import messages
from emis_streams.services.errors import Refused
from emis_streams.services.lessons import NewLesson, WhichLesson, WhichLessons
from emis_streams.services.messages import Request

TYPES = (NewLesson, WhichLesson, WhichLessons)
NAMES = ("title", "userId", "description", "lessonId", "limit", "after")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.uuids().map(str)
OBJECTS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), LEAVES | st.lists(LEAVES, max_size=2))


def asked(value: bytes, type_: Any) -> Any:
    try:
        return messages.data_of(Request("any", "k", value), type_)
    except Refused as refusal:
        return refusal


@given(st.binary(max_size=60) | OBJECTS.map(msgspec.json.encode))
def test_any_value_is_taken_or_refused(value: bytes) -> None:
    for type_ in TYPES:
        found = asked(value, type_)
        assert isinstance(found, type_) or found.kind == "invalid"


HOSTILE = [
    b"[" * 100_000,
    b'{"title": ' * 50_000,
    b'{"limit": ' + b"9" * 5_000 + b"}",
    b'{"limit": 1e400}',
    b'{"limit": NaN}',
    b'{"title": "\\ud800", "userId": "0c000000-0000-4000-8000-000000000001"}',
    b'{"title": "\xff"}',
    b'{"after": "' + b"0" * 100_000 + b'"}',
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: value[:20].decode("ascii", "replace"))
@pytest.mark.parametrize("type_", TYPES)
def test_what_no_json_of_ours_is_gets_a_refusal(value: bytes, type_: Any) -> None:
    found = asked(value, type_)
    assert isinstance(found, (Refused, type_))
    assert not isinstance(found, NewLesson)
