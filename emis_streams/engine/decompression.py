"""Compressed batches of records: none is decompressed beyond a bound.

Brokers bound the compressed size of a batch only. A batch of 9 kB, which every producer may send, can stand for 300 MB
(zstd: up to 32 GB in 1 MB): aiokafka decompresses it at once, and the process ends for lack of memory, at each start.

aiokafka has no setting for it, so its decompression functions are replaced, in the parsers of batches. Snappy needs no
bound: it makes data at most 22 times as long, and `max.message.bytes` of our topics is about 1 MB.
"""

import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import cramjam
from aiokafka.record import default_records, legacy_records
from aiokafka.record._crecords import default_records as compiled_default_records
from aiokafka.record._crecords import legacy_records as compiled_legacy_records

MAX_BATCH_BYTES = 32 * 1024 * 1024
"""Of the records of a batch: about 30 times `max.message.bytes`, more than events of JSON gain by compression."""
_LEAST_BUFFER_BYTES = 256 * 1024
_USUAL_RATIO = 16
"""Most batches gain less: one attempt is enough for them."""
_GZIP = 31
"""zlib's name for the gzip format."""
_PARSERS: tuple[ModuleType, ...] = (
    default_records,
    legacy_records,
    compiled_default_records,
    compiled_legacy_records,
)


class BatchTooLarge(Exception):
    """A batch has more than MAX_BATCH_BYTES of records, or cannot be decompressed at all."""

    def __init__(self) -> None:
        super().__init__(f"it cannot be decompressed to at most {MAX_BATCH_BYTES:,} bytes")


def bound_decompression() -> None:
    """Makes aiokafka's parsers raise BatchTooLarge; to be called again does nothing."""
    for parser in _PARSERS:
        for name, decode in (("gzip_decode", gunzip), ("lz4_decode", unpack_lz4), ("zstd_decode", unpack_zstd)):
            if hasattr(parser, name):
                setattr(parser, name, decode)


def gunzip(payload: Any, limit: int | None = None) -> bytes:
    """The bytes of all gzip members, one after the other; `limit` in bytes. Raises BatchTooLarge."""
    limit = MAX_BATCH_BYTES if limit is None else limit
    parts: list[bytes] = []
    left, packed = limit, bytes(payload)
    while packed:
        member = zlib.decompressobj(wbits=_GZIP)
        try:
            parts.append(member.decompress(packed, left + 1))
        except zlib.error:
            raise BatchTooLarge from None
        left -= len(parts[-1])
        if left < 0 or not member.eof:
            raise BatchTooLarge
        packed = member.unused_data.lstrip(b"\0")
    return b"".join(parts)


def unpack_lz4(payload: bytes, limit: int | None = None) -> bytes:
    """The bytes of an LZ4 frame; `limit` in bytes. Raises BatchTooLarge."""
    return _unpack(cramjam.lz4.decompress_into, payload, limit)


def unpack_zstd(payload: bytes, limit: int | None = None) -> bytes:
    """The bytes of zstd frames; `limit` in bytes. Raises BatchTooLarge."""
    return _unpack(cramjam.zstd.decompress_into, payload, limit)


def _unpack(decompress_into: Callable[[bytes, bytearray], int], payload: bytes, limit: int | None) -> bytes:
    """Into a buffer, which is made larger up to the limit: the length is nowhere said reliably."""
    limit = MAX_BATCH_BYTES if limit is None else limit
    size = min(limit, max(_LEAST_BUFFER_BYTES, _USUAL_RATIO * len(payload)))
    while True:
        buffer = bytearray(size)
        try:
            n_bytes = decompress_into(payload, buffer)
            return bytes(memoryview(buffer)[:n_bytes])
        except cramjam.DecompressionError:
            if size >= limit:
                raise BatchTooLarge from None
            size = min(limit, 8 * size)
