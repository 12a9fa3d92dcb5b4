"""Requests and replies as they go over Kafka: topics, headers, and errors that travel back.

A request is a record of `emis.request.<service>`: its key is the idempotency key (so that a repeated one comes to the
same instance), its value JSON. A reply is a record of the asking instance's partition of `emis.reply.<service>`.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from emis_streams import tracing
from emis_streams.errors import InvalidEvent
from emis_streams.services.errors import CallFailed, Refused, ServiceBroken, ServiceUnavailable

T = TypeVar("T")
Header = tuple[str, bytes]

PATTERN = "pattern"
CORRELATION_ID = "correlation-id"
REPLY_TOPIC = "reply-topic"
REPLY_PARTITION = "reply-partition"
DEADLINE = "deadline-ms"
"""Unix time in milliseconds, by the asking machine's clock: from then on nobody waits for the reply."""
IDEMPOTENCY_KEY = "idempotency-key"
ERROR = "error"
"""Only of a reply that is one: UNAVAILABLE, BROKEN, or the kind of a refusal."""

UNAVAILABLE = "unavailable"
BROKEN = "broken"

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
    deadline_ms: int | None = None
    correlation_id: bytes = b""
    reply_to: ReplyTo | None = None
    """None: nobody waits (`emit`)."""
    spread: int | None = None
    """Chooses the partition, where the sender does; not sent."""

    @property
    def seconds_left(self) -> float:
        """Until nobody waits any more; infinite without a deadline."""
        return math.inf if self.deadline_ms is None else self.deadline_ms / 1000 - time.time()

    @property
    def has_expired(self) -> bool:
        return self.seconds_left <= 0


def deadline_in(seconds: float) -> int:
    """As the header has it."""
    return math.ceil((time.time() + seconds) * 1000)


def request_headers(request: Request) -> list[Header]:
    headers = [(PATTERN, request.pattern.encode()), (IDEMPOTENCY_KEY, request.idempotency_key.encode())]
    if request.deadline_ms is not None:
        headers.append((DEADLINE, b"%d" % request.deadline_ms))
    if request.reply_to is not None:
        headers += [
            (CORRELATION_ID, request.correlation_id),
            (REPLY_TOPIC, request.reply_to.topic.encode()),
            (REPLY_PARTITION, b"%d" % request.reply_to.partition),
        ]
    return headers + tracing.headers_of(tracing.traceparent())


def request_of(headers: Sequence[Header], value: bytes | None) -> Request:
    """The request of a record; raises InvalidEvent with what is wrong with its headers."""
    found = dict(headers)
    for name in (PATTERN, IDEMPOTENCY_KEY):
        if not found.get(name):
            raise InvalidEvent(f"header {name}: missing")
    try:
        return Request(
            pattern=found[PATTERN].decode(),
            idempotency_key=found[IDEMPOTENCY_KEY].decode(),
            value=value or b"",
            deadline_ms=int(found[DEADLINE]) if DEADLINE in found else None,
            correlation_id=found.get(CORRELATION_ID, b""),
            reply_to=_reply_to(found),
        )
    except ValueError as error:
        raise InvalidEvent(f"request: {error}") from None


def _reply_to(headers: dict[str, bytes]) -> ReplyTo | None:
    if REPLY_TOPIC not in headers:
        return None
    if not headers.get(CORRELATION_ID) or REPLY_PARTITION not in headers:
        raise InvalidEvent(f"headers: {REPLY_TOPIC} without {CORRELATION_ID} and {REPLY_PARTITION}")
    partition = int(headers[REPLY_PARTITION])
    if partition < 0:
        raise InvalidEvent(f"header {REPLY_PARTITION}: {partition}")
    return ReplyTo(headers[REPLY_TOPIC].decode(), partition)


def value_of(data: Any) -> bytes:
    """Raises TypeError or msgspec.MsgspecError for what JSON cannot say."""
    return _encode(data)


def data_of(request: Request, type_: type[T]) -> T:
    """What it asks for, as this type; raises Refused with what is wrong with it."""
    try:
        return msgspec.json.decode(request.value, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("invalid", str(error)) from None


def reply(correlation_id: bytes, result: Any) -> tuple[list[Header], bytes]:
    """Headers and value of a reply with a result."""
    return [(CORRELATION_ID, correlation_id)], _encode(result)


def error_reply(correlation_id: bytes, error: Exception) -> tuple[list[Header], bytes]:
    """Headers and value of a reply that tells an error; what is inside a service is not told to others."""
    kind, detail = _told(error)
    return [(CORRELATION_ID, correlation_id), (ERROR, kind.encode())], _encode(ErrorBody(detail))


def _told(error: Exception) -> tuple[str, str]:
    if isinstance(error, Refused):
        return error.kind, error.detail
    if isinstance(error, ServiceUnavailable):
        return UNAVAILABLE, str(error)
    return BROKEN, "the service failed; its log says why"


def result_of(headers: Sequence[Header], value: bytes | None) -> Any:
    """The result that a reply brings, or its error, raised; ServiceBroken if it cannot be read."""
    kind = dict(headers).get(ERROR)
    try:
        if kind is None:
            return _decode(value or b"")
        raise _error_of(kind.decode(), _decode_error(value or b"").detail)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
        raise ServiceBroken(f"its reply cannot be read: {error}") from None


def _error_of(kind: str, detail: str) -> Refused | CallFailed:
    if kind == UNAVAILABLE:
        return ServiceUnavailable(detail)
    return ServiceBroken(detail) if kind == BROKEN else Refused(kind, detail)
