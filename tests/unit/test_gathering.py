"""What a consumer asks of the brokers, so that few records are not fetched one by one."""

from emis_streams.engine.fetch import gathering


def test_the_brokers_hold_a_fetch_back_for_the_linger_time() -> None:
    asked = gathering(0.04)
    assert asked["fetch_max_wait_ms"] == 40
    assert asked["fetch_min_bytes"] > 100_000


def test_without_linger_the_first_record_is_answered() -> None:
    assert gathering(0)["fetch_min_bytes"] == 1


def test_a_linger_below_a_millisecond_still_waits() -> None:
    assert gathering(0.0001)["fetch_max_wait_ms"] == 1
