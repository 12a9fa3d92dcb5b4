"""What the benchmarks rest on: the same valid events for all, rates read off right, wrong tables noticed."""

import itertools
from collections import defaultdict

import pytest

from benchmarks import report
from benchmarks.data import Load, Record, class_events, taught_class_id, teacher_events, teacher_id
from benchmarks.ingest import probes
from benchmarks.pages import percentile
from benchmarks.tables import compare
from benchmarks.watching import Progress, median
from emis_streams.events import CONTRACTS, Decoded, decode

NOW_MS = 1_800_000_000_000


def decoded_by_topic(records: list[Record]) -> dict[str, Decoded]:
    grouped: dict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
    for topic, key, value in records:
        grouped[topic].append((key.encode(), value.encode()))
    return {
        topic: decode(CONTRACTS[topic], [k for k, _ in pairs], [v for _, v in pairs], [NOW_MS] * len(pairs))
        for topic, pairs in grouped.items()
    }


@pytest.mark.parametrize(
    "records", [list(class_events(Load(2_000, 300))), list(teacher_events(20)), list(probes())], ids=["l", "t", "p"]
)
def test_every_event_keeps_the_contract(records: list[Record]) -> None:
    for decoded in decoded_by_topic(records).values():
        assert not decoded.refused
        assert decoded.unknown_fields == 0


def test_the_same_load_is_the_same_bytes() -> None:
    load = Load(500, 50)
    assert list(class_events(load)) == list(class_events(load))
    assert list(class_events(load)) != list(class_events(Load(500, 50, seed=4)))


def test_a_load_has_late_and_repeated_events() -> None:
    values = [value for _, _, value in class_events(Load(5_000, 300))]
    times = [value.split('"timestamp":"')[1][:27] for value in values]
    assert len(set(values)) < len(values)
    assert any(later < earlier for earlier, later in itertools.pairwise(times))


def test_each_measured_teacher_has_ten_classes_that_exist() -> None:
    records = list(teacher_events(3))
    created = {key for topic, key, _ in records if topic == "emis.class.created"}
    assigned = [value for topic, key, value in records if topic == "emis.assignment.created" and key == teacher_id(2)]
    assert len(assigned) == 10
    assert created >= {taught_class_id(2, place) for place in range(10)}


def test_there_is_one_probe_for_each_partition() -> None:
    assert len(probes()) == 10


def test_a_rate_is_read_between_moments_of_movement() -> None:
    progress = Progress([(0.0, 0)])
    for second, done in ((1.0, 0), (2.0, 100), (2.5, 100), (4.0, 300), (6.0, 500)):
        progress.note(second, done)
    assert progress.moments == [(0.0, 0), (2.0, 100), (4.0, 300), (6.0, 500)]
    assert progress.rate(0.2, 1.0) == pytest.approx(100)
    assert progress.second_of(400) == pytest.approx(5)


def test_a_table_with_a_lost_or_an_unsent_version_is_not_equal() -> None:
    fold = {b"a": b"2", b"b": b"5"}
    assert compare({b"a": b"2", b"b": b"5"}, fold, fold).equal
    assert not compare({b"a": b"1", b"b": b"5"}, fold, fold).equal
    assert not compare({b"a": b"2"}, fold, fold).equal
    assert not compare({b"a": b"2", b"b": b"5", b"c": b"1"}, fold, fold).equal


def test_a_table_of_a_cut_run_may_be_ahead_of_what_was_committed() -> None:
    lower, upper = {b"a": b"2"}, {b"a": b"4", b"b": b"5"}
    assert compare({b"a": b"3"}, lower, upper).equal
    assert not compare({b"a": b"1"}, lower, upper).equal
    assert not compare({b"a": b"5"}, lower, upper).equal


def test_percentile_and_median() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(100)], 0.99) == 99.0
    assert median([4.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0]) == 2.5


def ingest_line(contender: str, per_second: float, equal: bool) -> report.Line:
    return {
        "phase": "ingest",
        "contender": contender,
        "label": contender,
        "events_per_second": per_second,
        "last_fifth_per_second": per_second,
        "events": 10,
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "rss_max_mb": 1.0,
        "changelog_records": 10,
        "others_cores": 0.0,
        "table_equal": equal,
        "table_said": "equal" if equal else "DIFFERS",
    }


MACHINE: report.Line = {
    "phase": "machine",
    "at": "2026-01-01T00:00:00",
    **dict.fromkeys(("cpu", "cores", "memory_gb", "kernel", "python", "java", "commit"), "x"),
}


def test_a_figure_counts_only_with_the_right_table() -> None:
    right = report.markdown([MACHINE, ingest_line("ours", 30, True), ingest_line("peer", 10, True)])
    wrong = report.markdown([MACHINE, ingest_line("ours", 30, True), ingest_line("peer", 10, False)])
    assert "3.00 ×" in right
    assert "3.00 ×" not in wrong
    assert "DIFFERS" in wrong
