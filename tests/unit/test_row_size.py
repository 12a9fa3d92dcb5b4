"""How large a row may be, and that no event makes a larger one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams import rows
from emis_streams.engine.row_size import MOST_ROW_BYTES, RowTooLarge, fits, require_sizes
from emis_streams.events import CONTRACTS, Contract, decode
from tests.unit.longest_events import longest_event

SMALL_ROW_BYTES = 4_096


@given(st.dictionaries(st.binary(max_size=8), st.integers(0, 2 * MOST_ROW_BYTES).map(bytes), max_size=3))
def test_what_does_not_fit_is_refused_by_its_keys(given_rows: dict[bytes, bytes]) -> None:
    too_large = [key for key, row in given_rows.items() if not fits(key, row)]
    if not too_large:
        require_sizes("kept", given_rows)
        return
    with pytest.raises(RowTooLarge, match="table kept: ") as refused:
        require_sizes("kept", given_rows)
    assert list(refused.value.keys) == too_large


@pytest.mark.parametrize(
    ("key", "row", "is_allowed"),
    [
        (b"k", bytes(MOST_ROW_BYTES - 1), True),
        (b"k", bytes(MOST_ROW_BYTES), False),
        (bytes(MOST_ROW_BYTES), b"", True),
        (bytes(MOST_ROW_BYTES + 1), b"", False),
    ],
    ids=["row fits", "row does not", "key fits", "key does not"],
)
def test_key_and_row_count_together(key: bytes, row: bytes, is_allowed: bool) -> None:
    assert fits(key, row) is is_allowed


def test_a_large_row_beside_a_long_key_is_no_mistake() -> None:
    require_sizes("kept", {b"k": bytes(MOST_ROW_BYTES - 1), bytes(500_000): b"row"})


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_the_largest_row_of_each_event_is_small(contract: Contract) -> None:
    """So agents need not ask `fits`."""
    event = longest_event(contract)
    found = decode(contract, [event.key], [event.value], [event.timestamp_ms])
    assert not found.refused, found.refused
    (key,), (version,), (body,) = found.keys, found.versions, found.bodies
    assert len(key) + len(rows.pack(version, version[:8], body)) < SMALL_ROW_BYTES
