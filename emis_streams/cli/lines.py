"""Lines of a file, a pipe or an address, as they come."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import BinaryIO

from emis_streams.errors import InvalidEvent

CHUNK_BYTES = 1024 * 1024
MAX_LINE_BYTES = 8 * 1024 * 1024
"""Several times what a topic takes as one record. A text without line breaks must not fill the memory."""
_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}


def lines_of(file: BinaryIO) -> AsyncIterator[Sequence[bytes]]:
    """Some lines of text at a time, without their line breaks; a slow pipe gives what is there."""
    return lines_of_blocks(_blocks(file))


def raw_lines_of(file: BinaryIO) -> AsyncIterator[Sequence[bytes]]:
    """Some lines of whatever bytes at a time, without their line breaks; of any length."""
    return _split(_blocks(file), sys.maxsize)


async def lines_of_blocks(
    blocks: AsyncIterable[bytes], max_line_bytes: int = MAX_LINE_BYTES
) -> AsyncIterator[Sequence[bytes]]:
    """The lines in blocks of bytes that end anywhere, without the byte order mark that editors put before UTF-8.

    Raises InvalidEvent for a line of more than `max_line_bytes`, and for UTF-16 and UTF-32.
    """
    n_lines = 0
    async for lines in _split(blocks, max_line_bytes):
        for number, line in enumerate(lines, n_lines + 1):
            if len(line) > max_line_bytes:
                raise InvalidEvent(f"line {number} is longer than {max_line_bytes:,} bytes: one JSON object per line")
        yield lines if n_lines else _without_mark(lines)
        n_lines += len(lines)


async def _split(blocks: AsyncIterable[bytes], max_line_bytes: int) -> AsyncIterator[list[bytes]]:
    """Some lines at a time; a line that is too long comes as soon as that is known, cut."""
    rest: list[bytes] = []
    n_rest_bytes = 0
    async for block in blocks:
        first, *lines = block.split(b"\n")
        rest.append(first)
        n_rest_bytes += len(first)
        if lines or n_rest_bytes > max_line_bytes:
            yield [b"".join(rest), *lines[:-1]]
            rest = lines[-1:]
            n_rest_bytes = len(b"".join(rest))
    if last := b"".join(rest):
        yield [last]


def _without_mark(lines: list[bytes]) -> list[bytes]:
    """The first lines of a text."""
    first = lines[0]
    for mark, encoding in _OTHER_MARKS.items():
        if first.startswith(mark):
            raise InvalidEvent(f"line 1 begins with the byte order mark of {encoding}: convert the text to UTF-8")
    return [first.removeprefix(_UTF8_MARK), *lines[1:]]


async def chunks_of(groups: AsyncIterable[Sequence[bytes]], most: int) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Lines that are not empty, with their numbers, at most so many at a time."""
    n_before = 0
    async for lines in groups:
        numbered = [(n, line) for n, line in enumerate(lines, n_before + 1) if line.strip()]
        n_before += len(lines)
        for start in range(0, len(numbered), most):
            yield numbered[start : start + most]


async def _blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    if _is_waited_for(file):
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        while block := await reader.read(CHUNK_BYTES):
            yield block
        return
    while block := file.read(CHUNK_BYTES):
        yield block


def _is_waited_for(file: BinaryIO) -> bool:
    """Whether reading may block for long: a pipe or a terminal, not a file on disk."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(file.fileno())
