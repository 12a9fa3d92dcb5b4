"""Lines of NDJSON as they come: in blocks that end anywhere, with the marks that editors put before them."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.cli.lines import chunks_of, lines_of_blocks
from emis_streams.errors import InvalidEvent


async def _async(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


def lines(*blocks: bytes, max_line_bytes: int = 100) -> list[bytes]:
    async def read() -> list[bytes]:
        return [line async for some in lines_of_blocks(_async(blocks), max_line_bytes) for line in some]

    return asyncio.run(read())


@given(st.lists(st.binary(max_size=20)))
def test_lines_do_not_depend_on_where_blocks_end(blocks: list[bytes]) -> None:
    whole = b"x" + b"".join(blocks)  # No byte order mark.
    expected = whole.split(b"\n")
    assert lines(b"x", *blocks, max_line_bytes=1_000) == (expected if expected[-1] else expected[:-1])


@pytest.mark.parametrize("blocks", [(b'\xef\xbb\xbf{"a": 1}\n{}',), (b"\xef", b'\xbb\xbf{"a"', b": 1}", b"\n{}\n")])
def test_the_byte_order_mark_of_utf_8_is_no_part_of_the_first_line(blocks: tuple[bytes, ...]) -> None:
    assert lines(*blocks) == [b'{"a": 1}', b"{}"]


def test_a_byte_order_mark_further_on_is_left_as_it_is() -> None:
    assert lines(b"{}\n", b"\xef\xbb\xbf{}") == [b"{}", b"\xef\xbb\xbf{}"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32-be"])
def test_another_encoding_is_named(encoding: str) -> None:
    text = "\ufeff{}\n" if encoding.endswith("be") else "{}\n"
    with pytest.raises(InvalidEvent, match=r"line 1 begins with the byte order mark of UTF-\d\d: convert"):
        lines(text.encode(encoding))


def test_a_line_without_an_end_is_refused_before_it_is_read_to_its_end() -> None:
    n_read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal n_read
        yield b"{}\n"
        while True:
            n_read += 1
            yield b"x" * 10

    async def read() -> None:
        async for _ in lines_of_blocks(endless(), 100):
            pass

    with pytest.raises(InvalidEvent, match="line 2 is longer than 100 bytes"):
        asyncio.run(read())
    assert n_read == 11


def test_a_long_line_between_others_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="line 2 is longer than 100 bytes"):
        lines(b"{}\n" + b"x" * 101 + b"\n{}\n")


def test_numbers_of_lines_count_the_empty_ones() -> None:
    async def read() -> list[list[tuple[int, bytes]]]:
        return [chunk async for chunk in chunks_of(lines_of_blocks(_async([b"a\n\n\r\nb\n", b"c"])), 2)]

    assert asyncio.run(read()) == [[(1, b"a"), (4, b"b")], [(5, b"c")]]
