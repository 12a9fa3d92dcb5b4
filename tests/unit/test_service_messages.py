"""Requests and replies over Kafka: what is sent is what is read, and what is wrong is refused by name."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.errors import InvalidEvent
from emis_streams.services import messages
from emis_streams.services.errors import Refused, ServiceBroken, ServiceUnavailable
from emis_streams.services.messages import ReplyTo, Request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(min_size=1, max_size=20)
REQUESTS = st.builds(
    Request,
    pattern=NAMES,
    idempotency_key=NAMES,
    value=JSON.map(messages.value_of),
    deadline_ms=st.none() | st.integers(0, 2**53),
    correlation_id=st.just(b"\x00\xff" * 12),
    reply_to=st.builds(ReplyTo, NAMES, st.integers(0, 2**31 - 1)),
)
ID = b"a-correlation-id"


class Numbered(msgspec.Struct):
    number: int


@given(REQUESTS)
def test_a_request_is_read_as_it_was_sent(request: Request) -> None:
    assert messages.request_of(messages.request_headers(request), request.value) == request


def test_an_emitted_one_says_nothing_of_replies() -> None:
    emitted = Request("user-created", "k1", b"{}")
    assert messages.request_of(messages.request_headers(emitted), emitted.value) == emitted


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "pattern: missing"),
        ([("pattern", b"")], "pattern: missing"),
        ([("pattern", b"get")], "idempotency-key: missing"),
        ([("pattern", b"\xff"), ("idempotency-key", b"k")], "codec can't decode"),
        ([("pattern", b"get"), ("idempotency-key", b"k"), ("deadline-ms", b"soon")], "invalid literal"),
        ([("pattern", b"get"), ("idempotency-key", b"k"), ("reply-topic", b"t")], "without correlation-id"),
        (
            [
                *[("pattern", b"get"), ("idempotency-key", b"k"), ("reply-topic", b"t")],
                *[("correlation-id", b"1"), ("reply-partition", b"-1")],
            ],
            "reply-partition: -1",
        ),
    ],
)
def test_a_request_with_bad_headers_is_refused(headers: list[messages.Header], said: str) -> None:
    with pytest.raises(InvalidEvent, match=said):
        messages.request_of(headers, b"{}")


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b"[]", b'{"number": "7"}', b"[" * 100_000])
def test_what_is_asked_for_has_to_be_of_the_right_type(value: bytes) -> None:
    with pytest.raises(Refused) as told:
        messages.data_of(Request("get", "k", value), Numbered)
    assert told.value.kind == "invalid"


def test_what_is_asked_for_is_handed_over_as_its_type() -> None:
    assert messages.data_of(Request("get", "k", b'{"number": 7}'), Numbered) == Numbered(7)


@given(JSON)
def test_a_result_comes_back_as_it_was(result: object) -> None:
    assert messages.result_of(*messages.reply(ID, result)) == result


def test_a_refusal_comes_back_with_its_kind() -> None:
    with pytest.raises(Refused, match="no lesson 7") as told:
        messages.result_of(*messages.error_reply(ID, Refused("not-found", "no lesson 7")))
    assert told.value.kind == "not-found"


def test_a_service_that_lacks_what_it_needs_says_so() -> None:
    with pytest.raises(ServiceUnavailable, match="no database"):
        messages.result_of(*messages.error_reply(ID, ServiceUnavailable("no database")))


def test_what_failed_inside_of_a_service_stays_there() -> None:
    with pytest.raises(ServiceBroken) as told:
        messages.result_of(*messages.error_reply(ID, KeyError("secret")))
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("headers", "value"),
    [([], b"{"), ([], None), ([("error", b"not-found")], b"[]"), ([("error", b"\xff")], b'{"detail": "x"}')],
)
def test_a_reply_that_cannot_be_read_is_a_failure(headers: list[messages.Header], value: bytes | None) -> None:
    with pytest.raises(ServiceBroken, match="cannot be read"):
        messages.result_of(headers, value)


def test_a_request_expires_at_its_deadline() -> None:
    assert Request("get", "k", b"", messages.deadline_in(-0.001)).has_expired
    assert not Request("get", "k", b"", messages.deadline_in(60)).has_expired
    assert not Request("get", "k", b"").has_expired
