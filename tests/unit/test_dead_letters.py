"""A dead letter says where it came from and why, whatever the refused record held."""

from datetime import UTC, datetime

import pytest

from emis_streams import dead_letters, topics
from emis_streams.dead_letters import (
    CUT_BYTES,
    DeadLetter,
    fitting,
    headers_for,
    original_headers,
    refused_again,
    replay_of,
)
from emis_streams.errors import InvalidEvent

NOON_MS = int(datetime(2026, 9, 5, 12, tzinfo=UTC).timestamp() * 1000)


def a_letter(*, topic: str = "emis.class.created", reason: str = "because", key: bytes | None = b"key") -> DeadLetter:
    headers = [("trace", b"1"), *headers_for(topic, 3, 42, NOON_MS + 7, reason, NOON_MS)]
    return DeadLetter(1, 17, key, b"value", headers)


def test_the_headers_are_the_named_ones_in_utf_8() -> None:
    assert headers_for("emis.class.created", 3, 42, NOON_MS + 7, "tên quá dài", NOON_MS) == [
        ("dlq.topic", b"emis.class.created"),
        ("dlq.partition", b"3"),
        ("dlq.offset", b"42"),
        ("dlq.timestamp", b"2026-09-05T12:00:00.007Z"),
        ("dlq.reason", "tên quá dài".encode()),
        ("dlq.time", b"2026-09-05T12:00:00.000Z"),
    ]


@pytest.mark.parametrize("reason", ["\ud800", "x" * 1_000_000, "ế" * 1_000_000, "\x00", ""])
def test_any_reason_makes_headers_of_bounded_size(reason: str) -> None:
    headers = dict(headers_for("emis.class.created", 0, 0, NOON_MS, reason, NOON_MS))
    headers["dlq.reason"].decode()
    room = topics.DEAD_LETTER_MAX_MESSAGE_BYTES - topics.MAX_MESSAGE_BYTES
    assert sum(len(name) + len(value) for name, value in headers.items()) < room / 4


def test_a_record_without_a_time_says_none() -> None:
    assert dict(headers_for("t", 0, 0, -1, "", NOON_MS))["dlq.timestamp"] == b""


def test_original_headers_are_those_that_are_not_ours() -> None:
    assert original_headers(a_letter().headers) == [("trace", b"1")]


def test_a_letter_reads_its_headers() -> None:
    letter = a_letter(reason="tên quá dài")
    assert (letter.place, letter.origin, letter.reason) == ("1:17", "emis.class.created:3:42", "tên quá dài")
    assert letter.time == datetime(2026, 9, 5, 12, tzinfo=UTC)


def test_a_letter_without_our_headers_is_still_shown() -> None:
    letter = DeadLetter(0, 0, None, None, [])
    assert (letter.topic, letter.origin, letter.time) == (None, "?:?:?", None)
    assert letter.summary()["key"] is None
    with pytest.raises(InvalidEvent, match="of no known topic"):
        replay_of(letter)


def test_a_letter_refused_twice_tells_the_last_reason() -> None:
    letter = a_letter(reason="first")
    again = DeadLetter(1, 18, b"key", b"value", [*letter.headers, *headers_for("t", 0, 0, 0, "second", NOON_MS)])
    assert again.reason == "second"


def test_a_replay_has_the_original_headers_and_says_what_it_is() -> None:
    replay = replay_of(a_letter())
    assert (replay.topic, replay.key, replay.value) == ("emis.class.created", b"key", b"value")
    assert replay.headers == [("trace", b"1"), ("dlq.replayed", b"1:17")]
    assert replay.partition is None


def test_a_replay_without_a_key_goes_to_its_old_partition() -> None:
    assert replay_of(a_letter(key=None)).partition == 3


@pytest.mark.parametrize("topic", [topics.CLASSES.changelog, topics.DEAD_LETTER, "someone.elses"])
def test_only_events_are_replayed(topic: str) -> None:
    with pytest.raises(InvalidEvent, match="not of a topic of events"):
        replay_of(a_letter(topic=topic))


def test_what_came_back_from_a_replay_is_known_by_its_old_place() -> None:
    first = a_letter()
    back = DeadLetter(2, 5, b"key", b"value", [*first.headers, (dead_letters.REPLAYED, b"1:17")])
    assert refused_again([first, back]) == {"1:17"}


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"key", b"x" * 1_048_000, []),
        (b"x" * 1_048_000, None, []),
        (None, b"", [("trace", b"x" * 1_048_000)]),
        (b"key", b"value", [("h", b"")] * 10_000),
    ],
    ids=["value", "key", "header", "headers"],
)
def test_what_a_topic_takes_is_kept_whole(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    assert fitting(key, value, headers) == (key, value, headers)


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"key", b"x" * 30_000_000, []),
        (b"x" * 2_000_000, None, []),
        (None, b"", [("trace", b"x" * 2_000_000)]),
        (b"key", b"value", [("h", b"")] * 400_000),
    ],
    ids=["value", "key", "header", "headers"],
)
def test_what_was_larger_once_unpacked_is_cut_and_says_how_large_it_was(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    kept_key, kept_value, kept_headers = fitting(key, value, headers)
    assert (kept_key, kept_value) == (key and key[:CUT_BYTES], value and value[:CUT_BYTES])
    sizes = f"key of {len(key or b'')} bytes, value of {len(value or b'')} bytes, {len(headers)} headers"
    assert kept_headers == [("dlq.cut", sizes.encode())]


def test_a_letter_that_was_cut_is_not_replayed() -> None:
    whole = a_letter()
    key, value, headers = fitting(b"key", b"x" * 2_000_000, [])
    cut = DeadLetter(1, 17, key, value, [*headers, *headers_for("emis.class.created", 3, 42, 0, "because", 0)])
    assert replay_of(whole).value == b"value"
    with pytest.raises(InvalidEvent, match=r"1:17 was cut.*value of 2000000 bytes.*at emis\.class\.created:3:42"):
        replay_of(cut)
