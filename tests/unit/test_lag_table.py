"""The tables of the consumer-lag page: which partitions, in which order, and where owners' names lead."""

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request

from emis_streams.lag_report import Owner, PartitionLag
from emis_streams.settings import Settings
from tests.pages import a_report
from web.addresses import page_of
from web.lag_table import DIRECTIONS, SORTS, LagTable, with_query

PARTITIONS = a_report(behind=True).groups[0].partitions


def rows(only_lag: bool = False, sort: str = "partition", filter_: str = "") -> list[PartitionLag]:
    return LagTable(only_lag, sort, filter_).partitions(PARTITIONS)


def test_every_sort_has_a_direction_that_can_be_said() -> None:
    assert SORTS.keys() == DIRECTIONS.keys()


@pytest.mark.parametrize("sort", ["lag", "seconds", "state"])
def test_what_is_worst_comes_first(sort: str) -> None:
    first = rows(sort=sort)[0]
    assert (first.topic, first.partition, first.state) == ("emis.class.updated", 3, "STALLED")


@pytest.mark.parametrize("sort", SORTS)
def test_sorting_loses_no_row(sort: str) -> None:
    assert sorted(rows(sort=sort), key=SORTS["partition"]) == rows()


def test_only_those_behind_are_shown_if_asked_for() -> None:
    assert [(p.topic, p.partition) for p in rows(only_lag=True)] == [("emis.class.updated", 3)]


@pytest.mark.parametrize(
    ("text", "n_rows"),
    [
        ("class.updated", 10),
        ("class updated-3", 1),
        ("updated-3 stalled", 1),
        ("emis-streams-a1", len(PARTITIONS)),
        ("nothing like it", 0),
        ("", len(PARTITIONS)),
        (".*", 0),
    ],
)
def test_a_row_is_found_by_words_of_its_topic_partition_state_and_owner(text: str, n_rows: int) -> None:
    assert len(rows(filter_=text)) == n_rows


def test_rows_without_an_owner_are_sorted_and_filtered_too() -> None:
    lonely = [msgspec.structs.replace(p, owner=None) for p in PARTITIONS[:2]] + list(PARTITIONS[2:4])
    assert LagTable(False, "owner", "").partitions(lonely)[0].owner is None
    assert len(LagTable(False, "owner", "a1").partitions(lonely)) == 2


def test_a_changed_parameter_leaves_the_others() -> None:
    request = make_mocked_request("GET", "//consumer-lag?only=lag&filter=a%20b")
    assert with_query(request, sort="lag") == "?only=lag&filter=a+b&sort=lag"
    assert with_query(request, only=None) == "?filter=a+b"


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("127.0.0.1:6066", "http://127.0.0.1:6066/"),
        ("[::1]:6066", "http://[::1]:6066/"),
        ("emis-1.example:6066", "http://emis-1.example:6066/"),
        ("hanoi-1", None),
        ("a:1/../x", None),
        ("user@host:1", None),
        ("javascript:1", "http://javascript:1/"),
        ("host:1\n", None),
    ],
)
def test_a_name_that_is_an_address_leads_to_its_pages(name: str, page: str | None) -> None:
    assert page_of(name, Settings()) == page


def test_all_speak_tls_if_this_process_does() -> None:
    owner = Owner(member_id="m", client_id="emis-1:443", host="10.0.0.1")
    assert page_of(owner.client_id, Settings(web_cert_file="c.pem")) == "https://emis-1:443/"
