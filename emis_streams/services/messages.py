"""Requests and replies as they go over Kafka: topics, headers, and errors that travel back.

A request is a record of `emis.request.<service>`: its key is the idempotency key (so that a repeated one comes to the
same instance), its value JSON. A reply is a record of the asking instance's partition of `emis.reply.<service>`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec

from emis_streams import topics, tracing
from emis_streams.errors import UNREADABLE_JSON, InvalidEvent
from emis_streams.services.errors import CallFailed, Refused, ServiceBroken, ServiceOverloaded, ServiceUnavailable

T = TypeVar("T")
Header = tuple[str, bytes]
RawHeader = tuple[str, bytes | None]
"""As a record of a stranger may have it."""

PATTERN = "pattern"
CORRELATION_ID = "correlation-id"
REPLY_TOPIC = "reply-topic"
REPLY_PARTITION = "reply-partition"
TIMEOUT = "timeout-ms"
"""Milliseconds that the reply is still waited for when the request is sent; counted from when the brokers have it."""
DEADLINE = "deadline-ms"
"""Unix time in milliseconds when that ends, by the brokers' clock as far as the one who asks knows it. For versions
before `timeout-ms`, which send and read nothing else; not looked at where there is `timeout-ms`.
"""
IDEMPOTENCY_KEY = "idempotency-key"
ERROR = "error"
"""Only of a reply that is one: UNAVAILABLE, OVERLOADED, BROKEN, or the kind of a refusal."""

UNAVAILABLE = "unavailable"
OVERLOADED = "overloaded"
BROKEN = "broken"

MOST_HEADER_CHARACTERS = 255
"""Of pattern, idempotency key and the name of a reply topic."""
_MOST_CORRELATION_BYTES = 255
_LAST_PARTITION = 2**31 - 1
_LATEST_MS = 2**53
"""As far as a float is exact."""
_MOST_DIGITS = 16
_MOST_DETAIL_CHARACTERS = 2_000
"""Of what a reply says of an error: texts of strangers may be in it."""

_REQUEST_HEADERS = frozenset(
    (PATTERN, IDEMPOTENCY_KEY, TIMEOUT, DEADLINE, CORRELATION_ID, REPLY_TOPIC, REPLY_PARTITION)
)
_REPLY_HEADERS = frozenset((CORRELATION_ID, ERROR))

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class ErrorBody(msgspec.Struct):
    """The value of a reply that is an error."""

    detail: str


_decode_error = msgspec.json.Decoder(ErrorBody).decode


class ReplyTo(msgspec.Struct, frozen=True):
    """Where the one who asks waits."""

    topic: str
    partition: int


class Request(msgspec.Struct, frozen=True):
    """A struct, as made and copied for each call: a dataclass costs ten times as much."""

    pattern: str
    idempotency_key: str
    value: bytes
    """JSON; whoever carries it out says what it has to look like."""
    expires_at: float = math.inf
    """When nobody waits any more, by this process's monotonic clock. Sent as what is left until then."""
    correlation_id: bytes = b""
    reply_to: ReplyTo | None = None
    """None: nobody waits (`emit`)."""
    spread: int | None = None
    """Chooses the partition, where the sender does; not sent."""


class Arrival(NamedTuple):
    """When a request is looked at, and how long it has been on its way."""

    monotonic: float
    """Now, by this process's clock."""
    unix_seconds: float
    """Now, by the brokers' clock as far as it is known."""
    waited_seconds: float = 0.0
    """At least so long ago the brokers got it."""


def request_headers(request: Request, monotonic: float, unix_seconds: float) -> list[Header]:
    """Headers of a request that is sent now: by this process's monotonic clock, and by the brokers' as it knows it."""
    headers = [(PATTERN, request.pattern.encode()), (IDEMPOTENCY_KEY, request.idempotency_key.encode())]
    if request.expires_at != math.inf:
        left_ms = max(0, math.ceil((request.expires_at - monotonic) * 1000))
        headers += [(TIMEOUT, b"%d" % left_ms), (DEADLINE, b"%d" % (unix_seconds * 1000 + left_ms))]
    if request.reply_to is not None:
        headers += [
            (CORRELATION_ID, request.correlation_id),
            (REPLY_TOPIC, request.reply_to.topic.encode()),
            (REPLY_PARTITION, b"%d" % request.reply_to.partition),
        ]
    return headers + tracing.headers_of(tracing.traceparent())


def request_of(headers: Sequence[RawHeader], value: bytes | None, arrival: Arrival) -> Request:
    """The request of a record, whatever its bytes are; raises InvalidEvent with what is wrong with its headers."""
    found = _own_headers(headers, _REQUEST_HEADERS)
    return Request(
        pattern=_pattern(found.get(PATTERN)),
        idempotency_key=_text(IDEMPOTENCY_KEY, found.get(IDEMPOTENCY_KEY)),
        value=value or b"",
        expires_at=_expires_at(found, arrival),
        correlation_id=found.get(CORRELATION_ID, b""),
        reply_to=_reply_to(found),
    )


def _expires_at(found: Mapping[str, bytes], arrival: Arrival) -> float:
    """What is left counts from when the brokers got the request; a time of day is of askers that send nothing else."""
    if TIMEOUT in found:
        return arrival.monotonic - arrival.waited_seconds + _number(TIMEOUT, found[TIMEOUT], _LATEST_MS) / 1000
    if DEADLINE in found:
        return arrival.monotonic + _number(DEADLINE, found[DEADLINE], _LATEST_MS) / 1000 - arrival.unix_seconds
    return math.inf


def _reply_to(found: Mapping[str, bytes]) -> ReplyTo | None:
    if REPLY_TOPIC not in found:
        return None
    if CORRELATION_ID not in found or REPLY_PARTITION not in found:
        raise InvalidEvent(f"headers: {REPLY_TOPIC} without {CORRELATION_ID} and {REPLY_PARTITION}")
    if not 0 < len(found[CORRELATION_ID]) <= _MOST_CORRELATION_BYTES:
        raise InvalidEvent(f"header {CORRELATION_ID}: 1 to {_MOST_CORRELATION_BYTES} bytes")
    return _place_of_replies(found[REPLY_TOPIC], found[REPLY_PARTITION])


@lru_cache(maxsize=1024)
def _pattern(raw: bytes | None) -> str:
    """The same few in nearly all requests. Raises InvalidEvent."""
    return _text(PATTERN, raw)


@lru_cache(maxsize=1024)
def _place_of_replies(raw_topic: bytes, raw_partition: bytes) -> ReplyTo:
    """The same for all requests of one process. Raises InvalidEvent."""
    topic = _text(REPLY_TOPIC, raw_topic)
    if not topics.is_reply_topic(topic):
        raise InvalidEvent(f"header {REPLY_TOPIC}: {topic!r} is no topic of replies")
    return ReplyTo(topic, _number(REPLY_PARTITION, raw_partition, _LAST_PARTITION))


def _own_headers(headers: Sequence[RawHeader], names: frozenset[str]) -> dict[str, bytes]:
    """The headers of at least these names. Raises InvalidEvent for one of them that is null, or there more than once.

    Headers of other names may be anything.
    """
    together = dict(headers)
    if len(together) == len(headers) and None not in together.values():  # As in nearly all requests.
        return together  # type: ignore[return-value]
    found: dict[str, bytes] = {}
    for name, value in headers:
        if name not in names:
            continue
        if value is None:
            raise InvalidEvent(f"header {name}: null")
        if name in found:
            raise InvalidEvent(f"header {name}: more than once")
        found[name] = value
    return found


def _text(name: str, raw: bytes | None) -> str:
    """A header's text. Its length is what the database of a service keeps (`services/database.py`)."""
    if not raw:
        raise InvalidEvent(f"header {name}: missing")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"header {name}: {error}") from None
    if len(text) > MOST_HEADER_CHARACTERS:
        raise InvalidEvent(f"header {name}: {len(text)} characters, {MOST_HEADER_CHARACTERS} at most")
    if "\0" in text or text[-1] == " ":  # Some databases pass over these when they compare.
        raise InvalidEvent(f"header {name}: has a NUL, or ends with a blank")
    return text


def _number(name: str, raw: bytes, most: int) -> int:
    """A header's decimal number. Its digits are counted first: Python refuses to read thousands of them."""
    if not (raw.isdigit() and len(raw) <= _MOST_DIGITS and int(raw) <= most):
        raise InvalidEvent(f"header {name}: {raw[:_MOST_DIGITS]!r} is no number from 0 to {most}")
    return int(raw)


def value_of(data: Any) -> bytes:
    """Raises TypeError for what JSON cannot say (a number of thousands of digits, half a character)."""
    try:
        return _encode(data)
    except UNREADABLE_JSON as error:
        raise TypeError(f"JSON cannot say it: {error}") from error


def data_of(request: Request, type_: type[T]) -> T:
    """What it asks for, as this type; raises Refused with what is wrong with it."""
    try:
        return msgspec.json.decode(request.value, type=type_)
    except UNREADABLE_JSON as error:
        raise Refused("invalid", str(error)) from None


def reply(correlation_id: bytes, result: Any) -> tuple[list[Header], bytes]:
    """Headers and value of a reply with a result; raises TypeError as `value_of` does."""
    return [(CORRELATION_ID, correlation_id)], value_of(result)


def is_error(headers: Sequence[Header]) -> bool:
    """Of a reply that this process made: it ends with that header."""
    return headers[-1][0] == ERROR


def error_reply(correlation_id: bytes, error: Exception) -> tuple[list[Header], bytes]:
    """Headers and value of a reply that tells an error; what is inside a service is not told to others."""
    kind, detail = _told(error)
    return [(CORRELATION_ID, correlation_id), (ERROR, _sayable(kind).encode())], _encode(ErrorBody(_sayable(detail)))


def _sayable(text: str) -> str:
    """Of any text what a reply can hold: halves of characters are escaped, and the end of a long one is cut off."""
    cut = text if len(text) <= _MOST_DETAIL_CHARACTERS else f"{text[:_MOST_DETAIL_CHARACTERS]}…"
    return cut.encode("utf-8", "backslashreplace").decode()


def _told(error: Exception) -> tuple[str, str]:
    if isinstance(error, Refused):
        return error.kind or "refused", error.detail
    if isinstance(error, ServiceUnavailable):
        return UNAVAILABLE, str(error)
    if isinstance(error, ServiceOverloaded):
        return OVERLOADED, str(error)
    return BROKEN, "the service failed; its log says why"


def correlation_id_of(headers: Sequence[RawHeader]) -> bytes | None:
    """Of a reply, whatever its headers are; None if it has none, a null one, or several."""
    found = [value for name, value in headers if name == CORRELATION_ID]
    return found[0] if len(found) == 1 else None


def result_of(headers: Sequence[RawHeader], value: bytes | None) -> Any:
    """The result that a reply brings, or its error, raised; ServiceBroken if it cannot be read."""
    try:
        found = _own_headers(headers, _REPLY_HEADERS)
        if ERROR not in found:
            return _decode(value or b"")
        error = _error_of(_text(ERROR, found.get(ERROR)), _decode_error(value or b"").detail)
    except (*UNREADABLE_JSON, InvalidEvent) as reason:
        raise ServiceBroken(f"its reply cannot be read: {reason}") from None
    raise error


def _error_of(kind: str, detail: str) -> Refused | CallFailed:
    if kind == UNAVAILABLE:
        return ServiceUnavailable(detail)
    if kind == OVERLOADED:
        return ServiceOverloaded(detail)
    return ServiceBroken(detail) if kind == BROKEN else Refused(kind, detail)
