"""Rows of both formats are read; what e687981 reads of format 2 is right; a format of the future is refused."""

from contextlib import suppress
from uuid import UUID
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams import rows, topics
from emis_streams.errors import InvalidEvent
from emis_streams.replica.values import values_of
from tests.replica_rows import id_of

EVENT_ID = UUID("11111111-2222-4333-8444-555555555555")
FIELDS = ("10A1", "Khối 10", None, 41, id_of(9), None)
encode = msgspec.msgpack.encode


def format_1(fields: tuple[object, ...] = FIELDS, event_id: UUID = EVENT_ID) -> bytes:
    body = encode(fields)
    version = (5_000_000).to_bytes(8, "big") + b"\x01" + event_id.bytes + crc32(body).to_bytes(4, "big")
    return version + (3_000_000).to_bytes(8, "big") + body


def format_2(fields: tuple[object, ...] = FIELDS, event_id: UUID = EVENT_ID, row_format: int = 2) -> bytes:
    content = encode(fields)
    decider = b"\xff" * 8 + (77).to_bytes(8, "big")
    version = (5_000_000).to_bytes(8, "big") + b"\x01" + decider + crc32(content).to_bytes(4, "big")
    return version + (3_000_000).to_bytes(8, "big") + encode((*fields, bytes([row_format]) + event_id.bytes))


MARKER = format_1()[:37]

texts = st.one_of(st.none(), st.text(max_size=60))
classes = st.tuples(st.text(max_size=200), texts, texts, st.none() | st.integers(0, 2**31 - 1), texts, texts)


@pytest.mark.parametrize("row", [format_1(), format_2()], ids=["format 1", "format 2"])
def test_both_formats_say_the_same(row: bytes) -> None:
    assert rows.body_of(row, rows.ClassRow) == rows.ClassRow(*FIELDS)
    assert rows.event_id(row) == str(EVENT_ID)
    assert rows.content_of(row) == encode(FIELDS)
    assert crc32(rows.content_of(row)).to_bytes(4, "big") == rows.content_hash(row)
    assert not rows.is_deleted(row)


def test_a_release_that_knows_format_1_only_reads_the_fields_of_format_2() -> None:
    """It decodes what follows the first 37 bytes, and ignores what the array has beside its fields."""
    assert msgspec.msgpack.decode(format_2()[37:], type=rows.ClassRow) == rows.ClassRow(*FIELDS)


def test_a_marker_of_a_delete_has_no_content_and_its_event_id_in_the_version() -> None:
    assert rows.is_deleted(MARKER)
    assert (rows.content_of(MARKER), rows.event_id(MARKER)) == (b"", str(EVENT_ID))


def test_at_equal_times_and_ranks_format_2_wins() -> None:
    assert rows.merged(format_1(event_id=UUID(int=2**120)), format_2()) == format_2()


@given(classes, st.uuids())
def test_no_row_of_format_1_is_taken_for_one_of_format_2(fields: tuple[object, ...], event_id: UUID) -> None:
    row = format_1(fields, event_id)
    assert not rows.has_trailer(row)
    assert rows.content_of(row) == encode(fields)


@given(classes, st.uuids())
def test_every_row_of_format_2_is_read_back(fields: tuple[object, ...], event_id: UUID) -> None:
    row = format_2(fields, event_id)
    assert rows.content_of(row) == encode(fields)
    assert rows.event_id(row) == str(event_id)


def test_a_format_of_the_future_is_refused_whoever_reads_it() -> None:
    row = format_2(row_format=3)
    for read in (rows.event_id, rows.content_of, lambda r: rows.body_of(r, rows.ClassRow)):
        with pytest.raises(rows.UnknownRowFormat, match="format 3: written by a newer release"):
            read(row)
    with pytest.raises(InvalidEvent, match="newer release"):
        values_of(topics.CLASSES, 0, id_of(1).encode(), row, 0)


@given(st.binary(max_size=80))
def test_bytes_that_are_no_row_have_some_content_or_are_refused(raw: bytes) -> None:
    with suppress(rows.UnknownRowFormat):
        assert isinstance(rows.content_of(raw), bytes)
