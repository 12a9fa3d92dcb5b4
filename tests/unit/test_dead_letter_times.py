"""A dead letter is made of a record of any time: a producer may have given it one that no calendar has."""

import pytest

from emis_streams.dead_letter_headers import headers_for


@pytest.mark.parametrize(
    ("timestamp_ms", "said"),
    [(-1, b""), (0, b"1970-01-01T00:00:00.000Z"), (9 * 10**18, b"9000000000000000000 ms after 1970")],
)
def test_the_time_of_the_record_is_told_whatever_it_is(timestamp_ms: int, said: bytes) -> None:
    headers = dict(headers_for("emis.class.created", 0, 0, timestamp_ms, "reason", 0))
    assert headers["dlq.timestamp"] == said
