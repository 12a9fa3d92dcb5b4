"""Leases of the registry: they run by the clock of who reads, whatever times the records have."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.services.leases import LONGEST_GAP_SECONDS, MOST_INSTANCES, Leases
from emis_streams.services.registry import ServiceInfo, info_of, record_of

NOON_MS = 1_800_000_000_000
DAY_SECONDS = 86_400
LEASE_SECONDS = 10.0
BEATS = 3
"""Seconds."""


def info(name: str = "lessons", port: int = 8002) -> ServiceInfo:
    return ServiceInfo(name=name, version="1.0.0", host="127.0.0.1", port=port, started_at=datetime.now(UTC))


def tell(leases: Leases, told: ServiceInfo, seconds: float, stamped: float | None = None) -> None:
    """A heartbeat that is read after so many seconds, and stamped at the same time or at another."""
    stamp = NOON_MS + round(1000 * (seconds if stamped is None else stamped))
    leases.apply(told.instance.encode(), msgspec.json.encode(told), stamp, seconds)


def beat(leases: Leases, told: ServiceInfo, since: int, until: int) -> None:
    for seconds in range(since, until + 1):
        tell(leases, told, seconds)


@pytest.fixture
def leases() -> Leases:
    """Whose reader has read all that was there."""
    found = Leases(LEASE_SECONDS)
    found.start_timing(0.0)
    return found


@pytest.fixture
def reading() -> Leases:
    """Whose reader has just begun with the log."""
    return Leases(LEASE_SECONDS)


def test_an_instance_is_there_from_its_first_heartbeat(leases: Leases) -> None:
    assert leases.holding() == []
    one = info()
    tell(leases, one, 0)
    assert leases.holding() == [one]


def test_its_lease_runs_out_when_the_heartbeats_of_others_go_on_without_its_own(leases: Leases) -> None:
    lost, other = info("lessons"), info("users", 8001)
    tell(leases, lost, 0)
    beat(leases, other, 0, 10)
    assert leases.holding() == [lost, other]
    tell(leases, other, 10.001)
    assert leases.holding() == [other]


def test_it_is_there_again_with_its_next_heartbeat(leases: Leases) -> None:
    back, other = info("lessons"), info("users", 8001)
    tell(leases, back, 0)
    beat(leases, other, 0, 60)
    assert leases.holding() == [other]
    tell(leases, back, 61)
    assert leases.holding() == [back, other]


def test_while_no_heartbeat_of_anybody_comes_nobody_is_given_up(leases: Leases) -> None:
    one, other = info("lessons"), info("users", 8001)
    tell(leases, one, 0)
    tell(leases, other, 1)
    tell(leases, other, 3600)  # The brokers were away meanwhile.
    assert leases.holding() == [one, other]
    beat(leases, other, 3601, 3601 + int(LEASE_SECONDS))
    assert leases.holding() == [other]


def test_one_that_goes_is_gone_at_once(leases: Leases) -> None:
    one = info()
    tell(leases, one, 0)
    leases.apply(one.instance.encode(), None, NOON_MS, 0.0)
    assert leases.holding() == []


def test_a_restart_takes_the_place_of_what_was_before(leases: Leases) -> None:
    tell(leases, info(), 0)
    again = info()
    tell(leases, again, 1)
    assert leases.holding() == [again]


@pytest.mark.parametrize("skew", [12, -12, 700, -700, 8 * DAY_SECONDS, -8 * DAY_SECONDS])
def test_a_wrong_clock_of_one_instance_ends_nobodys_lease(leases: Leases, skew: int) -> None:
    """On a topic that somebody made with CreateTime, each record has the time of its sender."""
    wrong, right = info("lessons"), info("users", 8001)
    for seconds in range(0, 60, BEATS):
        tell(leases, wrong, seconds, seconds + skew)
        tell(leases, right, seconds + 0.1)
        assert leases.holding() == [wrong, right] if seconds else True


@pytest.mark.parametrize("jump", [-8 * DAY_SECONDS, -12, 12, 8 * DAY_SECONDS])
def test_a_brokers_clock_that_is_set_ends_nobodys_lease(leases: Leases, jump: int) -> None:
    one, other = info("lessons"), info("users", 8001)
    tell(leases, one, 0)
    tell(leases, other, 0)
    for seconds in range(BEATS, 30, BEATS):
        tell(leases, one, seconds, seconds + jump)
        assert leases.holding() == [one, other]
        tell(leases, other, seconds, seconds + jump)


def test_who_went_without_a_word_before_the_reader_came_is_not_there(reading: Leases) -> None:
    lost, other = info("lessons"), info("users", 8001)
    tell(reading, lost, 0, stamped=-60)
    tell(reading, other, 0, stamped=0)
    assert reading.holding() == [other]
    reading.start_timing(0.0)
    assert reading.holding() == [other]


def test_who_told_of_itself_just_before_the_reader_came_is_there(reading: Leases) -> None:
    one, other = info("lessons"), info("users", 8001)
    tell(reading, one, 0, stamped=-BEATS)
    tell(reading, other, 0, stamped=0)
    reading.start_timing(0.0)
    assert reading.holding() == [one, other]


@pytest.mark.parametrize("jump", [-8 * DAY_SECONDS, 8 * DAY_SECONDS])
def test_records_of_before_a_brokers_clock_was_set_are_trusted_for_one_lease_at_most(
    reading: Leases, jump: int
) -> None:
    lost, other = info("lessons"), info("users", 8001)
    tell(reading, lost, 0, stamped=0)
    tell(reading, other, 0, stamped=jump)
    reading.start_timing(0.0)
    beat(reading, other, 0, int(LEASE_SECONDS) + 1)
    assert reading.holding() == [other]


def test_a_reader_that_stood_still_gives_nobody_up_before_it_has_read_what_came_meanwhile(leases: Leases) -> None:
    one, other = info("lessons"), info("users", 8001)
    tell(leases, one, 0)
    tell(leases, other, 0)
    tell(leases, other, 600)
    assert leases.holding() == [one, other]
    assert LEASE_SECONDS > LONGEST_GAP_SECONDS


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b'{"name": 7}', b"[" * 100_000])
def test_what_cannot_be_read_changes_nothing(leases: Leases, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    one = info()
    tell(leases, one, 0)
    leases.apply(b"\xffstrange", value, NOON_MS, 0.0)
    leases.apply(None, value, NOON_MS, 0.0)
    assert leases.holding() == [one]
    assert leases.left_out == 2
    assert caplog.text.count("left out") == 1  # Said once; the rest is counted.


def record(**changes: object) -> tuple[bytes, bytes]:
    """An honest record with members changed; its key is what the instance would then be called."""
    members = {**msgspec.to_builtins(info()), **changes}
    key = f"{members['name']}@{members['host']}:{members['port']}"
    return key.encode("utf-8", "backslashreplace"), msgspec.json.encode(members)


HOSTILE = [
    *({"port": port} for port in (0, -1, 70_000, 10**18, "8002", None)),
    *({"host": host} for host in ("", "a b", "127.0.0.1\n", "x" * 300, "evil.example/path?", "u:p@host", "\u00e9")),
    *({"name": name} for name in ("", "lessons\n", "a/b", "x" * 300)),
    *({"startedAt": time} for time in ("2026-11-30T08:00:00", "now", 5)),
    {"patterns": ["x"] * 1_001},
    {"patterns": ["x" * 256]},
    {"version": "x" * 40_000},
    {"health": "dead"},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=str)
def test_an_instance_that_cannot_be_is_left_out(leases: Leases, changes: dict[str, object]) -> None:
    leases.apply(*record(**changes), NOON_MS, 0.0)
    assert (leases.holding(), leases.left_out) == ([], 1)


def test_nobody_tells_of_an_instance_under_the_key_of_another(leases: Leases) -> None:
    honest = info()
    tell(leases, honest, 0)
    _, value = record(host="10.0.0.1")
    for key in (honest.instance.encode(), b"", None, b"\xff"):
        leases.apply(key, value, NOON_MS, 0.0)
    assert leases.holding() == [honest]


@given(st.none() | st.binary(max_size=50), st.none() | st.binary(max_size=200), st.integers(-1, 2**63 - 1))
def test_any_record_is_taken_or_left_out(key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
    leases = Leases(lease_seconds=10)
    leases.apply(key, value, timestamp_ms, 0.0)
    leases.apply(record()[0], value, timestamp_ms, 0.0)
    assert leases.holding() == []


def test_what_is_kept_of_instances_is_bounded_and_honest_ones_stay(leases: Leases) -> None:
    honest = info()
    tell(leases, honest, 0)
    for port in range(1, MOST_INSTANCES + 10):
        tell(leases, info("stranger", port), 0)
    assert len(leases.holding()) == MOST_INSTANCES
    assert honest in leases.holding()
    assert leases.left_out == 10


def test_instances_whose_leases_have_run_out_make_room(leases: Leases) -> None:
    for port in range(1, MOST_INSTANCES + 1):
        tell(leases, info("stranger", port), 0)
    late = info("aaa-late")
    for seconds in (5, 10, 15):
        tell(leases, late, seconds)
    assert leases.holding() == [late]


def test_what_an_instance_tells_of_itself_is_read_by_others() -> None:
    told = info()
    assert info_of(*record_of(told)) == told
    with pytest.raises(ValueError, match="cannot be registered"):
        record_of(msgspec.structs.replace(told, patterns=("x" * 250,) * 500))
