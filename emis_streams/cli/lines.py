"""Lines of a file, a pipe or an address, as they come."""

import asyncio
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import BinaryIO

CHUNK_BYTES = 1024 * 1024


def lines_of(file: BinaryIO) -> AsyncIterator[Sequence[bytes]]:
    """Some lines at a time, without their line breaks; a slow pipe gives what is there."""
    return lines_of_blocks(_blocks(file))


async def lines_of_blocks(blocks: AsyncIterable[bytes]) -> AsyncIterator[Sequence[bytes]]:
    """The lines in blocks of bytes that end anywhere."""
    rest: list[bytes] = []
    async for block in blocks:
        first, *lines = block.split(b"\n")
        rest.append(first)
        if lines:
            yield [b"".join(rest), *lines[:-1]]
            rest = [lines[-1]]
    if last := b"".join(rest):
        yield [last]


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
