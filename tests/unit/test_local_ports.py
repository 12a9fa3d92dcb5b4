import pytest

from emis_streams.local import ports


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "CANDIDATES", ports.CANDIDATES[-400:])
    monkeypatch.setattr(ports, "_reserved", set())


def test_a_port_is_given_away_once_though_nothing_listens_on_it_yet() -> None:
    given = [ports.free_port() for _ in range(100)]
    assert len(set(given)) == len(given)


def test_ports_in_a_row_are_all_given_away() -> None:
    pairs = [ports.free_port(2) for _ in range(50)]
    given = [port for first in pairs for port in (first, first + 1)]
    assert len(set(given)) == len(given)


def test_ports_that_were_named_are_not_given_away() -> None:
    named = ports.CANDIDATES[::2]
    ports.reserve(*named)
    assert not {ports.free_port() for _ in range(100)} & set(named)
