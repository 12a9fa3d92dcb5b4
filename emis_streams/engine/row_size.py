"""How large a row may be: its changelog has to take it, as the only record of a batch."""

from collections.abc import Mapping

MOST_BATCH_BYTES = 1_000_000
"""Of a batch of rows. A changelog's `max.message.bytes` has to be as large; Kafka's default is."""
MOST_ROW_BYTES = MOST_BATCH_BYTES - 1_024
"""Key and row together. The rest is room for what Kafka adds to a batch and a record."""


class RowTooLarge(Exception):
    """Rows that their changelog would not take: nothing of the call was kept or sent."""

    def __init__(self, table: str, n_bytes_by_key: Mapping[bytes, int]) -> None:
        key, n_bytes = next(iter(n_bytes_by_key.items()))
        super().__init__(
            f"table {table}: {len(n_bytes_by_key)} row(s) too large, the first of {n_bytes:,} bytes under a key that "
            f"begins with {key[:40]!r}; key and row have {MOST_ROW_BYTES:,} bytes at most: refuse such records before "
            "they are written"
        )
        self.keys = tuple(n_bytes_by_key)


def fits(key: bytes, row: bytes) -> bool:
    """Whether a table takes the row."""
    return len(key) + len(row) <= MOST_ROW_BYTES


def require_sizes(table: str, rows: Mapping[bytes, bytes]) -> None:
    """Raises RowTooLarge. Two calls for a whole slice, where all rows are as small as most are."""
    if not rows or max(map(len, rows)) + max(map(len, rows.values())) <= MOST_ROW_BYTES:
        return
    too_large = {key: len(key) + len(row) for key, row in rows.items() if not fits(key, row)}
    if too_large:
        raise RowTooLarge(table, too_large)
