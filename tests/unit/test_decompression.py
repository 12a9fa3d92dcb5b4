"""Compressed batches: what honest producers send is read, what would fill the memory is not."""

import gzip
from collections.abc import Callable

import cramjam
import pytest
from aiokafka import codec
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.engine import decompression
from emis_streams.engine.decompression import BatchTooLarge, bound_decompression, gunzip, unpack_lz4, unpack_zstd
from tests.integration.raw_batches import GZIP, LZ4, SNAPPY, ZSTD, RawRecord, batch_of

Unpack = Callable[..., bytes]
CODECS: dict[str, tuple[Callable[[bytes], bytes], Unpack]] = {
    "gzip": (gzip.compress, gunzip),
    "lz4": (codec.lz4_encode, unpack_lz4),
    "zstd": (lambda raw: bytes(cramjam.zstd.compress(raw)), unpack_zstd),
}
MiB = 1024 * 1024

every_codec = pytest.mark.parametrize("name", CODECS)


@every_codec
@given(raw=st.binary(max_size=2_000), times=st.integers(1, 2_000))
def test_what_was_compressed_comes_out_again(name: str, raw: bytes, times: int) -> None:
    compress, unpack = CODECS[name]
    assert unpack(compress(raw * times)) == raw * times


@every_codec
def test_the_limit_is_exact(name: str) -> None:
    compress, unpack = CODECS[name]
    packed = compress(bytes(MiB))
    assert len(unpack(packed, limit=MiB)) == MiB
    with pytest.raises(BatchTooLarge):
        unpack(packed, limit=MiB - 1)


@every_codec
@given(raw=st.binary(max_size=200))
def test_what_is_not_compressed_is_refused(name: str, raw: bytes) -> None:
    _, unpack = CODECS[name]
    try:
        unpack(raw)
    except BatchTooLarge:
        return


def test_gzip_members_one_after_the_other_count_together() -> None:
    packed = gzip.compress(bytes(MiB)) * 2
    assert len(gunzip(packed, limit=2 * MiB)) == 2 * MiB
    with pytest.raises(BatchTooLarge):
        gunzip(packed, limit=2 * MiB - 1)


@pytest.mark.parametrize("records", [MemoryRecords, _MemoryRecordsPy], ids=["compiled", "python"])
@pytest.mark.parametrize("number", [GZIP, LZ4, ZSTD], ids=["gzip", "lz4", "zstd"])
def test_aiokafkas_parsers_are_bounded(
    number: int, records: type[MemoryRecords], monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_decompression()
    monkeypatch.setattr(decompression, "MAX_BATCH_BYTES", MiB)
    honest, bomb = (batch_of([RawRecord(b"k", bytes(n))], number) for n in (MiB // 2, 2 * MiB))
    assert [len(record.value or b"") for record in records(honest).next_batch()] == [MiB // 2]
    with pytest.raises(BatchTooLarge):
        list(records(bomb).next_batch())


def test_snappy_cannot_reach_the_limit_within_the_size_of_a_batch() -> None:
    compressed = len(batch_of([RawRecord(b"k", bytes(16 * MiB))], SNAPPY))
    assert 16 * MiB / compressed < decompression.MAX_BATCH_BYTES / (MiB + 64 * 1024)
