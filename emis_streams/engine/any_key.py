"""The partition of a record that goes on as a stranger wrote it, whose key may be of any length.

aiokafka hashes keys in Python, a quarter of a microsecond a byte: for a key of 1 MB, its process answers nobody for
a quarter of a second. Keys as they should be are short, and stay where every other producer puts them.
"""

from collections.abc import Sequence
from zlib import crc32

from aiokafka.partitioner import DefaultPartitioner

_MOST_HASHED_BYTES = 256
_by_murmur2 = DefaultPartitioner()


def partition_of_any(key: bytes | None, all_partitions: Sequence[int], available: Sequence[int]) -> int:
    """One of these partitions, as aiokafka's producers ask for it: by murmur2, and by CRC-32 for long keys."""
    if key is None or len(key) <= _MOST_HASHED_BYTES:
        by_murmur2: int = _by_murmur2(key, all_partitions, available)
        return by_murmur2
    return all_partitions[crc32(key) % len(all_partitions)]
