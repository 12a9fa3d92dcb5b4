"""A dead letter says where it came from and why, whatever the refused record held."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka.errors import NotLeaderForPartitionError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from emis_streams import dead_letters, replays, topics
from emis_streams.cli.dead_letters import _line, _readable
from emis_streams.dead_letter_headers import CUT, CUT_BYTES, NAMES, OWN, as_dead_letter, headers_for, parse
from emis_streams.dead_letter_index import LetterIndex
from emis_streams.dead_letters import DeadLetter, replay_of
from emis_streams.errors import InvalidEvent, Unavailable
from emis_streams.replays import Replay
from emis_streams.settings import Settings

NOON_MS = int(datetime(2026, 9, 5, 12, tzinfo=UTC).timestamp() * 1000)


def a_letter(*, topic: str = "emis.class.created", reason: str = "because", key: bytes | None = b"key") -> DeadLetter:
    return refused(key, b"value", [("trace", b"1")], topic=topic, reason=reason)


def refused(
    key: bytes | None,
    value: bytes | None,
    headers: Any,
    *,
    topic: str = "emis.class.created",
    reason: str = "because",
    offset: int = 17,
) -> DeadLetter:
    ours = headers_for(topic, 3, 42, NOON_MS + 7, reason, NOON_MS)
    return DeadLetter(1, offset, *as_dead_letter(key, value, headers, ours))


def as_before(key: bytes | None, value: bytes | None, headers: Any) -> DeadLetter:
    """As e687981 wrote dead letters."""
    ours = headers_for("emis.class.created", 3, 42, NOON_MS + 7, "because", NOON_MS)
    return DeadLetter(1, 17, key, value, [*headers, *ours])


@contextmanager
def indexed(letters: list[DeadLetter], noted: list[Replay]) -> Iterator[LetterIndex]:
    """As a command has it once it has read the topic, some records at a time."""
    with LetterIndex() as index:
        for letter in letters:
            index.add([letter], [])
        index.add([], noted)
        index.complete()
        yield index


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


def test_own_headers_are_those_that_are_not_ours() -> None:
    assert a_letter().own_headers == [("trace", b"1")]


OWN_HEADERS: list[Any] = [
    [],
    [("dlq.replayed", b"1:17")],
    [("dlq.replayed", None)],
    [("dlq.topic", b"emis.teacher.created"), ("dlq.partition", b"9" * 400), ("dlq.offset", None)],
    [("dlq.cut", b"key of 3 bytes, value of 5 bytes, 0 headers")],
    [("dlq.cut", b"key of 3 bytes, value of 900000 bytes, 0 headers")],
    [("dlq.headers", b"0")],
    [("dlq.replays", b"1")],
    headers_for("emis.teacher.created", 1, 2, 0, "forged", 0),
    [*headers_for("emis.teacher.created", 1, 2, 0, "forged", 0), ("dlq.headers", b"0")],
    [("", b""), ("\\xff", b"\xff\xfe"), ("trace", None)],
]


@pytest.mark.parametrize("own", OWN_HEADERS)
def test_headers_of_a_record_are_kept_as_they_came_and_never_taken_for_ours(own: Any) -> None:
    letter = refused(b"key", b"value", own)
    assert letter.own_headers == own
    assert (letter.origin, letter.reason, letter.said("cut")) == ("emis.class.created:3:42", "because", None)
    replay = replay_of(letter)
    assert (replay.topic, replay.key, replay.value, replay.headers) == ("emis.class.created", b"key", b"value", own)


@pytest.mark.parametrize("own", [own for own in OWN_HEADERS if own[:1] != OWN_HEADERS[4]])
def test_letters_of_earlier_releases_are_read_on(own: Any) -> None:
    letter = as_before(b"key", b"value", own)
    assert (letter.own_headers, letter.origin, letter.reason) == (own, "emis.class.created:3:42", "because")
    assert replay_of(letter).topic == "emis.class.created"


def test_a_letter_that_an_earlier_release_cut_is_not_replayed() -> None:
    letter = as_before(b"key", b"x" * CUT_BYTES, [("dlq.cut", b"key of 3 bytes, value of 2000000 bytes, 2 headers")])
    assert letter.own_headers == []
    with pytest.raises(InvalidEvent, match="was cut when it was refused"):
        replay_of(letter)


header_lists = st.lists(
    st.tuples(
        st.sampled_from([*NAMES, CUT, OWN, "dlq.replays", "dlq.replayed", "trace"]) | st.text(max_size=5),
        st.none() | st.binary(max_size=12) | st.sampled_from([b"0", b"1", b"7", b"9" * 400, b"\xb2"]),
    ),
    max_size=10,
)
some_bytes = st.none() | st.binary(max_size=20)


@given(some_bytes, some_bytes, header_lists)
def test_any_record_of_the_topic_can_be_listed_shown_and_asked_for_a_replay(key: Any, value: Any, headers: Any) -> None:
    """As anybody may write one there."""
    letter = DeadLetter(1, 17, key, value, headers)
    _line(letter, False), _readable(key), letter.summary(), letter.time
    replays.noted(value, headers)
    try:
        replay = replay_of(letter)
    except InvalidEvent:
        return
    assert replay.partition is None or 0 <= replay.partition < 10**9


@given(some_bytes, some_bytes, header_lists)
def test_whatever_headers_a_record_has_they_are_told_from_ours(key: Any, value: Any, own: Any) -> None:
    letter = refused(key, value, own)
    assert letter.own_headers == own
    assert letter.origin == "emis.class.created:3:42"
    assert as_before(key, value, own).origin == "emis.class.created:3:42"
    assert DefaultRecordBatchBuilder.estimate_size_in_bytes(letter.key, letter.value, letter.headers)


def test_headers_of_no_dead_letter_are_all_its_own() -> None:
    assert parse(None, None, [("dlq.topic", b"t")]) == ([("dlq.topic", b"t")], {})


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


def test_a_replay_is_the_record_as_it_came() -> None:
    replay = replay_of(a_letter())
    assert (replay.topic, replay.key, replay.value) == ("emis.class.created", b"key", b"value")
    assert replay.headers == [("trace", b"1")]
    assert replay.partition is None


def test_a_replay_without_a_key_goes_to_its_old_partition() -> None:
    assert replay_of(a_letter(key=None)).partition == 3


@pytest.mark.parametrize("topic", [topics.CLASSES.changelog, topics.DEAD_LETTER, "someone.elses"])
def test_only_events_are_replayed(topic: str) -> None:
    with pytest.raises(InvalidEvent, match="not of a topic of events"):
        replay_of(a_letter(topic=topic))


@pytest.mark.parametrize("partition", [b"9" * 400, b"\xb2", b"-1", b"", b"1_0"])
def test_a_partition_that_is_no_number_is_left_to_the_key(partition: bytes) -> None:
    headers = [(name, partition if name == "dlq.partition" else value) for name, value in a_letter().headers]
    assert replay_of(DeadLetter(1, 17, None, b"value", headers)).partition is None


def test_what_came_back_from_a_replay_is_known_by_where_the_replay_went() -> None:
    first, other = refused(b"key", b"value", []), refused(b"key", b"2", [], offset=18)
    ours = headers_for("emis.class.created", 5, 99, 0, "because", 0)
    back = DeadLetter(2, 5, *as_dead_letter(b"key", b"value", [], ours))
    noted = [Replay("1:17", "emis.class.created", 5, 99), Replay("1:18", "emis.class.created", 5, 100)]
    with indexed([first, other, back], noted) as index:
        assert [index.refused_again(one) for one in (first, other, back)] == [True, False, False]
        assert [index.replayed(one) for one in (first, other, back)] == [True, True, False]


def test_a_record_that_says_it_was_replayed_marks_no_letter() -> None:
    forged = refused(b"key", b"value", [("dlq.replayed", b"1:17"), ("dlq.replays", b"1")], offset=18)
    honest = refused(b"key", b"value", [])
    with indexed([honest, forged], []) as index:
        assert not any(index.refused_again(one) or index.replayed(one) for one in (honest, forged))
    assert replays.noted(forged.value, forged.headers) is None


@given(header_lists)
def test_headers_of_a_letter_are_found_by_its_place(own: Any) -> None:
    with LetterIndex() as index:
        index.add_headers([refused(b"key", b"value", own)])
        assert index.headers_at("1:17") == own
        assert index.headers_at("1:18") is None


def test_a_full_disk_is_told_with_the_way_out() -> None:
    with LetterIndex() as index:
        index._db.execute("PRAGMA max_page_count = 10")
        with pytest.raises(Unavailable, match=r"no room for the temporary file .* set TMPDIR"):
            index.add([refused(b"key", b"value", [], reason="x" * n) for n in range(5_000)], [])


def test_replays_are_read_as_they_were_noted() -> None:
    given = [Replay(f"1:{n}", "emis.class.created", n % 10, n) for n in range(9_000)]
    notes = list(replays.notes_of(given))
    assert [replay for note in notes for replay in replays.noted(note.value, note.headers) or []] == given
    assert all(len(note.value) < topics.MAX_MESSAGE_BYTES / 2 for note in notes)


@pytest.mark.parametrize("value", [None, b"", b"hello", b"[[1, 2, 3, 4]]", b'[["1:1", "t", -1, 2]]', b"[" * 100_000])
def test_what_notes_no_replays_is_a_letter_like_any_other(value: bytes | None) -> None:
    assert replays.noted(value, [("dlq.replays", b"1")]) is None


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
    assert as_dead_letter(key, value, headers, []) == (key, value, [*headers, (OWN, b"%d" % len(headers))])


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
    kept_key, kept_value, kept_headers = as_dead_letter(key, value, headers, [])
    assert (kept_key, kept_value) == (key and key[:CUT_BYTES], value and value[:CUT_BYTES])
    sizes = f"key of {len(key or b'')} bytes, value of {len(value or b'')} bytes, {len(headers)} headers"
    assert kept_headers == [("dlq.cut", sizes.encode()), ("dlq.headers", b"0")]


def test_a_letter_that_was_cut_is_not_replayed() -> None:
    cut = refused(b"key", b"x" * 2_000_000, [("trace", b"1")])
    assert replay_of(a_letter()).value == b"value"
    with pytest.raises(InvalidEvent, match=r"was cut.*value of 2000000 bytes.*at emis\.class\.created:3:42"):
        replay_of(cut)


async def test_brokers_that_fail_while_a_letter_is_read_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the page answers 503, which comes back by itself, and not 500."""

    @asynccontextmanager
    async def failing(_settings: Settings) -> AsyncIterator[None]:
        raise NotLeaderForPartitionError
        yield

    monkeypatch.setattr(dead_letters, "reader", failing)
    with pytest.raises(Unavailable, match=r"emis\.dead-letter cannot be read"):
        await dead_letters.letter_at(Settings(), 0, 0)
