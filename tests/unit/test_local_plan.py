"""What `up` would start, from the settings."""

from pathlib import Path
from typing import Any

import pytest

from emis_streams.errors import InvalidSetting
from emis_streams.local import plan as plans
from emis_streams.settings import Settings, read


def _plan(n_brokers: int = 1, one_process: bool = False, **settings: Any) -> plans.Plan:
    return plans.make(Settings(**settings), n_brokers=n_brokers, one_process=one_process)


def test_two_workers_share_the_roles_and_the_serving_one_has_the_port_that_was_set() -> None:
    ingest, serve = _plan(port=7000).workers
    assert (ingest.settings.roles, ingest.settings.port) == ("ingest,replicate", 7001)
    assert (serve.settings.roles, serve.settings.port) == ("serve", 7000)
    assert _plan().serving.settings.port == 6066


def test_one_process_has_all_roles() -> None:
    plan = _plan(one_process=True)
    assert [worker.settings.roles_enabled() for worker in plan.workers] == [{"ingest", "replicate", "serve"}]
    assert plan.serving is plan.workers[0]


def test_each_worker_has_a_data_folder_of_its_own_and_they_share_the_database(tmp_path: Path) -> None:
    ingest, serve = _plan(data_dir=str(tmp_path)).workers
    assert len({ingest.settings.data_dir, serve.settings.data_dir, str(tmp_path)}) == 3
    assert ingest.settings.database_url == serve.settings.database_url == f"sqlite:///{tmp_path}/replica.db"


def test_a_database_that_is_named_is_used() -> None:
    url = "mysql://emis:emis@127.0.0.1:3306/emis"
    assert {worker.settings.database_url for worker in _plan(database_url=url).workers} == {url}


@pytest.mark.parametrize(("n_brokers", "copies", "min_in_sync"), [(1, 1, 1), (3, 3, 2)])
def test_copies_follow_the_number_of_brokers(n_brokers: int, copies: int, min_in_sync: int) -> None:
    settings = _plan(n_brokers).settings
    assert (settings.replication_factor, settings.min_insync_replicas) == (copies, min_in_sync)


def test_a_dead_worker_is_noticed_in_ten_seconds_unless_it_was_set_otherwise() -> None:
    assert _plan().workers[0].settings.session_timeout_seconds == 10
    assert _plan(session_timeout_seconds=20.0).workers[0].settings.session_timeout_seconds == 20


def test_the_ingesting_worker_gives_way_to_the_pages_unless_it_was_set_otherwise() -> None:
    assert [w.settings.niceness for w in _plan().workers] == [plans.INGEST_NICENESS, 0]
    assert [w.settings.niceness for w in _plan(niceness=3).workers] == [3, 3]
    assert _plan(one_process=True).workers[0].settings.niceness == 0


def test_the_environment_of_a_worker_reads_back_as_its_settings() -> None:
    for worker in _plan(n_brokers=3, stale_after_seconds=2.5).workers:
        assert read(worker.environment()) == worker.settings


@pytest.mark.parametrize(
    ("kafka_brokers", "n_brokers", "ports"),
    [
        ("localhost:9092", 1, (9092,)),
        ("127.0.0.1:9092", 3, (9092, 9093, 9094)),
        ("localhost:5, localhost:7,localhost:9", 3, (5, 7, 9)),
    ],
)
def test_brokers_get_the_ports_that_clients_are_given(kafka_brokers: str, n_brokers: int, ports: tuple[int]) -> None:
    assert plans.kafka_ports(kafka_brokers, n_brokers) == ports


@pytest.mark.parametrize(
    ("kafka_brokers", "n_brokers", "told"),
    [
        ("kafka.example:9092", 1, "must name localhost:PORT"),
        ("localhost", 1, "must name localhost:PORT"),
        ("localhost:1,localhost:2", 3, "names 2 brokers, but --brokers 3"),
        ("localhost:65534", 3, "at most 65535"),
    ],
)
def test_brokers_that_up_cannot_start_are_refused(kafka_brokers: str, n_brokers: int, told: str) -> None:
    with pytest.raises(InvalidSetting, match=f"KAFKA_BROKERS={kafka_brokers!r}.*{told}"):
        plans.kafka_ports(kafka_brokers, n_brokers)


def test_the_last_port_leaves_none_for_the_ingesting_worker() -> None:
    with pytest.raises(InvalidSetting, match="PORT=65535"):
        _plan(port=65_535)


@pytest.mark.parametrize(("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")])
def test_pages_are_asked_where_this_machine_reaches_them(host: str, reached: str) -> None:
    assert _plan(host=host, web_open=True).web_host == reached
