"""When a row is red though nothing was lost: too few answers, too slow, too late; or says nothing at all."""

from dataclasses import replace

from tests.faults.checker import verdict
from tests.faults.checker.findings import Findings
from tests.faults.checker.history import Read, Send
from tests.faults.checker.truth import Truth
from tests.faults.checker.verdict import Bounds, Moments, Outage, Verdict
from tests.hand_made import an_id, right

AT = Moments(control=0.0, fault=10.0, healed=20.0, caught_up=30.0)
BOUNDS = Bounds(recovery_seconds=20.0, reads_per_second=10.0)
CLASSES = [an_id(f"class of partition {number}") for number in range(2)]


def sends() -> list[Send]:
    """One event of each partition every second."""
    return [
        Send(
            "emis.class.updated",
            key,
            key,
            (second * 1_000_000, 1, second, an_id(f"{key} {second}")),
            False,
            second,
            second,
            n,
            0,
        )
        for second in range(30)
        for n, key in enumerate(CLASSES)
    ]


def reads() -> list[Read]:
    """Ten a second, of one worker and then of the other, each with what was sent last."""
    found = []
    for n in range(300):
        due = n / 10
        key = CLASSES[n % 2]
        version = (int(due) * 1_000_000, 1, int(due), an_id(f"{key} {int(due)}"))
        found.append(Read(f"worker-{n // 2 % 2 + 1}", "classes", key, due, due, 0.02, 200, version, False, ()))
    return found


def judged(
    read: list[Read],
    sent: list[Send] | None = None,
    outages: tuple[Outage, ...] = (),
    *,
    has_bitten: bool = True,
    truth: Truth | None = None,
    bounds: Bounds = BOUNDS,
) -> Verdict:
    found = Verdict(1, "0", valid=has_bitten)
    verdict.count(found, right().truth if truth is None else truth, Findings())
    verdict.measure(found, read, sends() if sent is None else sent, outages, AT)
    verdict.judge(found, read, AT, bounds)
    return found


def test_a_right_run_is_green() -> None:
    found = judged(reads())
    assert found.green, found.broken
    assert (found.ok_pct, found.p99_ms, found.p99_control_ms) == (100.0, 20.0, 20.0)


def test_what_was_found_is_counted_and_makes_the_row_red() -> None:
    findings = Findings()
    for key in ("A", "B", "B"):
        findings.add("lost", key, "gone")
    found = Verdict(1, "0", valid=True)
    verdict.count(found, right().truth, findings)
    assert (found.lost, found.found, found.green) == (2, {"lost": 2}, False)


# -- ok_pct ---------------------------------------------------------------------------------------


def test_one_failed_answer_of_three_hundred_is_too_many() -> None:
    read = reads()
    read[150] = replace(read[150], status=503)
    found = judged(read)
    assert found.ok_pct == 99.667
    assert not found.green


def test_no_answer_at_all_is_a_failed_one() -> None:
    read = reads()
    read[150] = replace(read[150], status=0, took=5.0)
    assert not judged(read).green


def test_a_worker_that_is_down_owes_no_answers_and_the_other_does() -> None:
    down = Outage("worker-1", since=14.0, until=16.0)
    of_both = [replace(one, status=0) if 14.5 < one.due < 15.5 else one for one in reads()]
    of_one = [replace(one, status=0) if 14.5 < one.due < 15.5 and one.worker == down.worker else one for one in reads()]
    assert judged(of_one, outages=(down,)).green
    assert not judged(of_both, outages=(down,)).green


def test_an_outage_that_is_over_excuses_nothing() -> None:
    failed = [replace(one, status=0) if 16.5 < one.due < 17.5 else one for one in reads()]
    assert not judged(failed, outages=(Outage("worker-1", 14.0, 16.0), Outage("worker-2", 14.0, 16.0))).green


def test_nothing_known_and_deleted_are_answers() -> None:
    assert judged([replace(one, status=(200, 404, 410)[n % 3]) for n, one in enumerate(reads())]).ok_pct == 100.0


# -- p99 ------------------------------------------------------------------------------------------


def test_a_stall_during_the_fault_is_too_slow() -> None:
    """Latency counts from when a request was due, so all that fall into a stall are slow."""
    read = [replace(one, took=max(0.02, 12.0 - one.due)) if 11 <= one.due < 12 else one for one in reads()]
    found = judged(read)
    assert found.p99_ms is not None
    assert found.p99_ms > 500
    assert not found.green


def test_slow_answers_of_many_seconds_are_too_slow() -> None:
    assert not judged([replace(one, took=0.6) if one.due >= 10 else one for one in reads()]).green


def test_one_slow_answer_of_two_hundred_is_not_the_p99() -> None:
    read = reads()
    read[150] = replace(read[150], took=3.0)
    assert judged(read).green


# -- recovery -------------------------------------------------------------------------------------


def _stuck(read: list[Read], partition: int, until: float) -> list[Read]:
    """The partition shows what was sent before the fault, until then."""
    key = CLASSES[partition]
    old = (9_000_000, 1, an_id(f"{key} 9"))
    return [replace(one, version=old) if one.key == key and 10 <= one.due < until else one for one in read]


def test_recovery_is_when_all_partitions_show_new_events() -> None:
    found = judged(_stuck(reads(), 1, until=25.0))
    assert found.rto_s is not None
    assert 5.0 <= found.rto_s < 5.5
    assert found.green


def test_what_a_worker_shows_while_it_cannot_be_asked_is_no_recovery() -> None:
    down = (Outage("worker-1", 20.0, 99.0), Outage("worker-2", 20.0, 22.0))
    recovered = verdict.recovery_seconds(reads(), sends(), down, AT.healed)
    assert recovered is not None
    assert recovered > 22.0 - AT.healed > 0


def test_a_partition_that_recovers_too_late_is_red() -> None:
    assert not judged(_stuck(reads(), 1, until=25.0), bounds=replace(BOUNDS, recovery_seconds=4.0)).green


def test_a_partition_that_never_recovers_is_red() -> None:
    found = judged(_stuck(reads(), 1, until=99.0))
    assert found.rto_s is None
    assert not found.green


def test_a_partition_that_nothing_is_sent_to_afterwards_shows_no_recovery() -> None:
    quiet = [one for one in sends() if one.partition == 0 or one.sent < 20]
    assert not judged(reads(), quiet).green


# -- delivered again ------------------------------------------------------------------------------


def test_more_deliveries_than_were_in_flight_are_red() -> None:
    """Where a row says how many may be."""
    bounds = replace(BOUNDS, redelivered_at_most=10)
    for n_again, is_green in ((10, True), (11, False)):
        found = Verdict(1, "0", valid=True, n_events=1, said={"redelivered": n_again})
        verdict.measure(found, reads(), sends(), (), AT)
        verdict.judge(found, reads(), AT, bounds)
        assert found.green is is_green


# -- ended by themselves --------------------------------------------------------------------------


def test_a_worker_that_ends_by_itself_without_a_fault_is_red() -> None:
    """Where a row says that none may; a planned end does not count, nor one before the row."""
    bounds = replace(BOUNDS, ends_at_most=0)
    planned, by_itself = Outage("worker-1", 14.0, 16.0), Outage("worker-2", 14.0, 16.0, planned=False)
    assert judged(reads(), outages=(planned, replace(by_itself, since=-2.0, until=-1.0)), bounds=bounds).green
    assert not judged(reads(), outages=(by_itself,), bounds=bounds).green


# -- invalid --------------------------------------------------------------------------------------


def test_a_fault_that_did_not_bite_shows_nothing() -> None:
    found = judged(reads(), has_bitten=False)
    assert (found.valid, found.green) == (False, False)


def test_without_a_control_nothing_can_be_compared() -> None:
    assert not judged([one for one in reads() if one.due >= 10]).valid


def test_readers_that_hardly_ask_show_nothing() -> None:
    """A reader that hangs or dies sees no failed answer."""
    assert not judged([one for one in reads() if one.due < 15]).valid


def test_a_run_without_events_shows_nothing() -> None:
    assert not judged(reads(), truth=Truth()).valid


def test_an_invalid_run_stays_red_whatever_else() -> None:
    line = judged(reads(), has_bitten=False).line()
    assert '"valid": false' in line
    assert '"lost": 0' in line
