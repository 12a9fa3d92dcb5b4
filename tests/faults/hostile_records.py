"""Records that anybody with a producer, or a topic browser, can write; none of them is of use to whoever reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, auto
from uuid import uuid4

from emis_streams import topics

Header = tuple[str, bytes | None]

_NUMBERS = (b"", b"x", b"-1", b"\xff", b"1" * 400, b"1" * 5_000, b"10" + b"0" * 30)
_BYTES = (
    None,
    b"",
    b"hello",
    b"\xff\xfe",
    b"{}",
    b"[" * 20_000,
    b'{"eventId": "\\ud800"}',
    b"9" * 5_000,
    b"x" * 500_000,
)
_KEYS = (None, b"", b"test", b"\xff", b"k" * 100_000)
_HEADERS: tuple[tuple[Header, ...], ...] = (
    (("traceparent", None), ("", b"")),
    (("traceparent", b"00-" + b"f" * 400), ("dlq.replayed", None), ("dlq.topic", b"emis.class.created")),
    (("correlation-id", None), ("error", None)),
)
_ASKED: dict[str, bytes | None] = {
    "pattern": b"create-lesson",
    "idempotency-key": b"hostile",
    "timeout-ms": b"60000",
    "correlation-id": b"1",
    "reply-topic": b"emis.reply.gateway",
    "reply-partition": b"0",
}


class Outcome(StrEnum):
    """What has to become of a record."""

    DEAD_LETTER = auto()
    COUNTED = auto()
    """Left out by every reader of its topic, and counted by it."""
    USED = auto()
    """A null value of a compacted topic means something; a request that asks for nothing useful is answered."""
    LISTED = auto()
    """A record of the dead-letter topic itself: `dead-letters list` shows it."""
    UNREAD = auto()
    """No process reads its topic: requests to services that answer none, replies to services that ask nobody."""


@dataclass(frozen=True)
class Hostile:
    """A record."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    outcome: Outcome
    partition: int | None = None
    """None: as the key says."""


REFUSING = frozenset(topic.name for topic in (*topics.source_topics(), *topics.lesson_event_topics())) | {
    topics.request_topic("lessons")
}
"""Topics whose readers make dead letters."""
TEACHER_CHANGELOGS = frozenset(topic.name for topic in topics.changelog_topics())
SERVICE_CHANGELOGS = {subject.service: subject.changelog for subject in topics.LESSON_SUBJECTS}
"""By the service that follows it."""
COUNTING = TEACHER_CHANGELOGS | set(SERVICE_CHANGELOGS.values()) | {topics.REGISTRY}
"""Compacted topics, whose readers leave out and count."""
REPLIES = topics.reply_topic("gateway")
"""The gateway reads one partition of it."""
REPLY_PARTITION = 0


def _outcome(topic: str, value: bytes | None) -> Outcome:
    if topic in REFUSING:
        return Outcome.DEAD_LETTER
    if topic == REPLIES:
        return Outcome.COUNTED
    if topic == topics.DEAD_LETTER:
        return Outcome.LISTED
    if topic in COUNTING:
        return Outcome.USED if value is None else Outcome.COUNTED
    return Outcome.UNREAD


def of_every_topic() -> Iterator[Hostile]:
    """Several hundred."""
    for topic in topics.all_topics():
        for n, value in enumerate(_BYTES):
            for at in (n, n + 2):
                key, headers = _KEYS[at % len(_KEYS)], _HEADERS[at % len(_HEADERS)]
                partition = REPLY_PARTITION if topic.name == REPLIES else None
                yield Hostile(topic.name, key, value, headers, _outcome(topic.name, value), partition)
    yield from _requests()
    yield from _instances()


def _requests() -> Iterator[Hostile]:
    """Each with one header that is wrong."""
    wrong: list[Header] = [(name, None) for name in _ASKED]
    wrong += [(name, number) for name in ("reply-partition", "timeout-ms") for number in _NUMBERS]
    wrong += [("reply-topic", name) for name in (b"..", b"a b", b"x" * 300, b"emis.class.created", b"emis.registry")]
    wrong += [("idempotency-key", b"k" * 300), ("pattern", b"\xff")]
    topic = topics.request_topic("lessons")
    for name, value in wrong:
        yield Hostile(topic, b"k", b"{}", tuple({**_ASKED, name: value}.items()), Outcome.DEAD_LETTER)
    nowhere = {"reply-topic": b"emis.reply.nobody", "idempotency-key": str(uuid4()).encode()}
    for number in (b"77", b"2147483647"):
        yield Hostile(topic, b"k", b"{}", tuple({**_ASKED, **nowhere, "reply-partition": number}.items()), Outcome.USED)


def _instances() -> Iterator[Hostile]:
    """Of the registry: what no instance can be."""
    for port in (b"0", b"99999", b"1" * 400):
        value = (
            b'{"name":"progress","version":"1","host":"127.0.0.1","port":'
            + port
            + b',"startedAt":"2026-11-30T08:00:00Z"}'
        )
        yield Hostile(topics.REGISTRY, b"progress@127.0.0.1:" + port, value, (), Outcome.COUNTED)
