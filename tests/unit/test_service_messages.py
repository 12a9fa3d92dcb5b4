"""Requests and replies over Kafka: what is sent is what is read, and what is wrong is refused by name."""

import math
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.errors import InvalidEvent
from emis_streams.services import messages
from emis_streams.services.errors import Refused, ServiceBroken, ServiceUnavailable
from emis_streams.services.messages import Arrival, Header, ReplyTo, Request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: not name.endswith(" ")
)
REQUESTS = st.builds(
    Request,
    pattern=NAMES,
    idempotency_key=NAMES,
    value=JSON.map(messages.value_of),
    correlation_id=st.just(b"\x00\xff" * 12),
    reply_to=st.builds(
        ReplyTo, st.sampled_from(["emis.reply.gateway", "emis.reply.my-own"]), st.integers(0, 2**31 - 1)
    ),
)
ID = b"a-correlation-id"
NOW = 1_000.0
"""Monotonic, in seconds."""
NOON = 1_800_000_000.0
"""The brokers' time, in seconds since 1970."""
AT_ONCE = Arrival(NOW, NOON)
NAMED: list[Header] = [("pattern", b"get"), ("idempotency-key", b"k")]


def repr_of(value: object) -> str:
    return type(value).__name__


class Numbered(msgspec.Struct):
    number: int


@given(REQUESTS)
def test_a_request_is_read_as_it_was_sent(request: Request) -> None:
    assert messages.request_of(messages.request_headers(request, NOW, NOON), request.value, AT_ONCE) == request


def test_an_emitted_one_says_nothing_of_replies() -> None:
    emitted = Request("user-created", "k1", b"{}")
    assert messages.request_of(messages.request_headers(emitted, NOW, NOON), emitted.value, AT_ONCE) == emitted


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "pattern: missing"),
        ([("pattern", b"")], "pattern: missing"),
        ([("pattern", b"get")], "idempotency-key: missing"),
        ([("pattern", b"\xff"), ("idempotency-key", b"k")], "codec can't decode"),
        ([("pattern", b"get"), ("idempotency-key", b"k" * 256)], "256 characters"),
        ([("pattern", b"get"), ("idempotency-key", b"k" * 10_000_000)], "10000000 characters"),
        ([("pattern", b"get"), ("idempotency-key", b"k ")], "ends with a blank"),
        ([("pattern", b"get"), ("idempotency-key", b"k"), ("idempotency-key", b"k")], "more than once"),
        ([("pattern", b"get"), ("idempotency-key", b"k"), ("reply-topic", b"t")], "without correlation-id"),
    ],
)
def test_a_request_with_bad_headers_is_refused(headers: list[messages.RawHeader], said: str) -> None:
    with pytest.raises(InvalidEvent, match=said):
        messages.request_of(headers, b"{}", AT_ONCE)


ASKED = {
    "pattern": b"get",
    "idempotency-key": b"k",
    "timeout-ms": b"8000",
    "deadline-ms": b"1800000000000",
    "correlation-id": b"1",
    "reply-topic": b"emis.reply.gateway",
    "reply-partition": b"0",
}


@pytest.mark.parametrize("name", ASKED)
def test_a_null_header_is_refused(name: str) -> None:
    with pytest.raises(InvalidEvent, match=f"header {name}: null"):
        messages.request_of([*{**ASKED, name: None}.items()], b"{}", AT_ONCE)


NO_NUMBERS = [b"", b"soon", b"-1", b" 1", b"1_0", b"1e3", b"\xd9\xa1", b"1" * 400, b"1" * 5_000, b"1" + b"0" * 30]


@pytest.mark.parametrize("name", ["timeout-ms", "deadline-ms", "reply-partition"])
@pytest.mark.parametrize("number", NO_NUMBERS)
def test_what_is_no_number_of_that_size_is_refused(name: str, number: bytes) -> None:
    headers = {**ASKED, name: number}
    if name == "deadline-ms":
        del headers["timeout-ms"]  # Else nobody looks at it.
    with pytest.raises(InvalidEvent, match=f"header {name}: .* is no number"):
        messages.request_of([*headers.items()], b"{}", AT_ONCE)


@pytest.mark.parametrize(
    "topic",
    [
        *["emis.class.created", "emis.registry", "emis-teacher-service-classes-changelog", "__consumer_offsets"],
        *["emis.reply.", "emis.reply.a b", "emis.reply.\N{LATIN SMALL LETTER E WITH ACUTE}", "..", "x" * 300],
        *["emis.reply." + "x" * 240, "emis.reply.x\n", "EMIS.REPLY.gateway"],
    ],
)
def test_no_reply_is_written_to_a_topic_that_is_none_of_replies(topic: str) -> None:
    with pytest.raises(InvalidEvent, match="header reply-topic"):
        messages.request_of([*{**ASKED, "reply-topic": topic.encode()}.items()], b"{}", AT_ONCE)


def test_headers_of_others_may_be_anything() -> None:
    others: list[messages.RawHeader] = [("traceparent", None), ("traceparent", b"\xff"), ("error", None), ("", None)]
    honest = messages.request_of([*ASKED.items()], b"{}", AT_ONCE)
    assert messages.request_of([*ASKED.items(), *others], b"{}", AT_ONCE) == honest


BYTES = st.none() | st.binary(max_size=300) | st.sampled_from([*ASKED.values(), *NO_NUMBERS, b"\xff", b"x" * 100_000])
HEADERS = st.lists(
    st.tuples(st.sampled_from([*ASKED, "error", "traceparent"]) | st.text(max_size=5), BYTES), max_size=9
)


@given(HEADERS, BYTES)
def test_whatever_a_record_is_it_is_a_request_or_refused_with_a_reason(
    headers: list[messages.RawHeader], value: bytes | None
) -> None:
    try:
        request = messages.request_of(headers, value, AT_ONCE)
    except InvalidEvent as refused:
        reason = str(refused)
    else:
        reason = ""
        assert len(request.pattern) <= 255
        assert len(request.idempotency_key) <= 255
        assert request.reply_to is None or request.reply_to.topic.startswith("emis.reply.")
    assert len(reason) < 1_000


@given(HEADERS, BYTES)
def test_whatever_a_reply_is_it_is_a_result_or_an_error_of_the_call(
    headers: list[messages.RawHeader], value: bytes | None
) -> None:
    messages.correlation_id_of(headers)
    with suppress(Refused, ServiceBroken, ServiceUnavailable):
        messages.result_of(headers, value)


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
    [
        *[([], b"{"), ([], None), ([], b"[1e400]"), ([], b"[" * 100_000), ([], b'"\\ud800"'), ([], b"9" * 5_000)],
        *[([("error", b"not-found")], b"[]"), ([("error", b"\xff")], b'{"detail": "x"}')],
        *[([("error", None)], b"{}"), ([("error", b"")], b"{}"), ([("error", b"x"), ("error", b"y")], b"{}")],
    ],
)
def test_a_reply_that_cannot_be_read_is_a_failure(headers: list[messages.RawHeader], value: bytes | None) -> None:
    with pytest.raises(ServiceBroken, match="cannot be read"):
        messages.result_of(headers, value)


def test_a_refusal_of_any_text_can_be_sent() -> None:
    told = Refused("half-\ud800", "x" * 2_000_000 + "\udfff")
    _, value = messages.error_reply(ID, told)
    assert len(value) < 10_000
    with pytest.raises(Refused) as read:
        messages.result_of(*messages.error_reply(ID, told))
    assert read.value.kind == "half-\\ud800"


@pytest.mark.parametrize("result", [10**5_000, "\ud800", object(), {(1, 2): 3}], ids=repr_of)
def test_a_result_that_json_cannot_say_is_an_error_of_the_service(result: object) -> None:
    with pytest.raises(TypeError):
        messages.reply(ID, result)


def seconds_left(headers: Sequence[Header], arrival: Arrival) -> float:
    return messages.request_of(headers, b"", arrival).expires_at - arrival.monotonic


@pytest.mark.parametrize("senders_unix_seconds", [NOON, NOON - 700, NOON + 8 * 86_400, 0.0])
@pytest.mark.parametrize(("waited", "left"), [(0.0, 8.0), (3.0, 5.0), (8.0, 0.0), (60.0, -52.0)])
def test_what_is_left_counts_from_when_the_brokers_have_the_request_whatever_time_of_day_the_sender_has(
    senders_unix_seconds: float, waited: float, left: float
) -> None:
    headers = messages.request_headers(Request("get", "k", b"", expires_at=508.0), 500.0, senders_unix_seconds)
    assert seconds_left(headers, Arrival(NOW, NOON, waited)) == pytest.approx(left, abs=0.002)


def test_what_is_over_when_it_is_sent_is_over_when_it_comes() -> None:
    headers = messages.request_headers(Request("get", "k", b"", expires_at=499.0), 500.0, NOON)
    assert seconds_left(headers, AT_ONCE) == 0.0


def test_a_time_of_day_as_versions_up_to_1_0_send_it_is_taken_by_the_brokers_clock() -> None:
    assert seconds_left([*NAMED, ("deadline-ms", b"%d" % (1000 * (NOON + 8)))], AT_ONCE) == 8.0
    assert seconds_left([*NAMED, ("deadline-ms", b"%d" % (1000 * (NOON - 1)))], AT_ONCE) == -1.0


def test_versions_up_to_1_0_find_the_time_of_day_in_what_is_sent() -> None:
    headers = dict(messages.request_headers(Request("get", "k", b"", expires_at=508.0), 500.0, NOON))
    assert int(headers["deadline-ms"]) == 1000 * (NOON + 8)


def test_without_a_deadline_nothing_expires() -> None:
    assert seconds_left(NAMED, Arrival(NOW, NOON, 1e6)) == math.inf
