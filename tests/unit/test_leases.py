"""Leases of the registry: only the brokers' time counts, as the records bring it."""

from datetime import UTC, datetime

import msgspec
import pytest

from emis_streams.services.leases import Leases
from emis_streams.services.registry import ServiceInfo

NOON_MS = 1_800_000_000_000


def info(name: str = "lessons", port: int = 8002) -> ServiceInfo:
    return ServiceInfo(name=name, version="1.0.0", host="127.0.0.1", port=port, started_at=datetime.now(UTC))


def tell(leases: Leases, told: ServiceInfo, seconds: float) -> None:
    leases.apply(told.instance.encode(), msgspec.json.encode(told), NOON_MS + round(1000 * seconds))


@pytest.fixture
def leases() -> Leases:
    return Leases(lease_seconds=10)


def test_an_instance_is_there_from_its_first_heartbeat(leases: Leases) -> None:
    assert leases.holding() == []
    one = info()
    tell(leases, one, 0)
    assert leases.holding() == [one]


def test_its_lease_runs_out_when_the_heartbeats_of_others_go_on_without_its_own(leases: Leases) -> None:
    lost, other = info("lessons"), info("users", 8001)
    tell(leases, lost, 0)
    tell(leases, other, 10)
    assert leases.holding() == [lost, other]
    tell(leases, other, 10.001)
    assert leases.holding() == [other]


def test_it_is_there_again_with_its_next_heartbeat(leases: Leases) -> None:
    back, other = info("lessons"), info("users", 8001)
    tell(leases, back, 0)
    tell(leases, other, 60)
    tell(leases, back, 61)
    assert leases.holding() == [back, other]


def test_while_no_heartbeat_of_anybody_comes_nobody_is_given_up(leases: Leases) -> None:
    one, other = info("lessons"), info("users", 8001)
    tell(leases, one, 0)
    tell(leases, other, 1)
    assert leases.holding() == [one, other]  # However long ago that was: the brokers are away.


def test_one_that_goes_is_gone_at_once(leases: Leases) -> None:
    one = info()
    tell(leases, one, 0)
    leases.apply(one.instance.encode(), None, NOON_MS)
    assert leases.holding() == []


def test_a_restart_takes_the_place_of_what_was_before(leases: Leases) -> None:
    tell(leases, info(), 0)
    again = info()
    tell(leases, again, 1)
    assert leases.holding() == [again]


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b'{"name": 7}', b"[" * 100_000])
def test_what_cannot_be_read_changes_nothing(leases: Leases, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    one = info()
    tell(leases, one, 0)
    leases.apply(b"\xffstrange", value, NOON_MS)
    leases.apply(None, value, NOON_MS)
    assert leases.holding() == [one]
    assert "cannot be read" in caplog.text
