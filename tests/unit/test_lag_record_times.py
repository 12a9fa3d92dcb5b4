"""Times of records are asked once, and of partitions that move only some at each look."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from emis_streams.lag_measurement import RECORDS_PER_LOOK, RecordTimes


class Told:
    """Answers in place of the brokers: a record's time is its offset, above an offset there is none."""

    def __init__(self, last: int = 1_000_000) -> None:
        self.last = last
        self.asked: list[dict[TopicPartition, int]] = []

    async def timestamps(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, float]:
        self.asked.append(dict(offsets))
        return {tp: float(offset) for tp, offset in offsets.items() if offset <= self.last}

    def n_asked(self) -> int:
        return sum(len(asked) for asked in self.asked)


def partitions(n: int) -> list[TopicPartition]:
    return [TopicPartition("topic", number) for number in range(n)]


async def look_up(times: RecordTimes, told: Told, *wanted: tuple[TopicPartition, int]) -> None:
    await times.look_up(told, wanted)  # type: ignore[arg-type]


async def test_a_position_that_stands_still_is_asked_once() -> None:
    times, told = RecordTimes(), Told()
    tp = partitions(1)[0]
    for _ in range(5):
        await look_up(times, told, (tp, 7))
    assert told.n_asked() == 1
    assert times.at(tp, 7) == 7.0


async def test_two_groups_at_different_offsets_of_a_partition_both_get_their_time() -> None:
    times, told = RecordTimes(), Told()
    tp = partitions(1)[0]
    await look_up(times, told, (tp, 7), (tp, 90))
    assert (times.at(tp, 7), times.at(tp, 90)) == (7.0, 90.0)


async def test_positions_that_move_are_asked_some_at_a_time_and_all_get_their_turn() -> None:
    times, told = RecordTimes(), Told()
    tps = partitions(3 * RECORDS_PER_LOOK)
    await look_up(times, told, *((tp, 10) for tp in tps))
    assert told.n_asked() == len(tps)
    for look in (1, 2, 3):
        before = told.n_asked()
        await look_up(times, told, *((tp, 10 + look) for tp in tps))
        assert told.n_asked() - before == RECORDS_PER_LOOK
        known = [times.at(tp, 10 + look) for tp in tps]
        assert all(found is not None and found <= 10 + look for found in known)  # never too young
    asked_again = {tp for asked in told.asked[1:] for tp in asked}
    assert asked_again == set(tps)


async def test_after_a_rewind_the_later_time_does_not_stand_in() -> None:
    times, told = RecordTimes(), Told()
    tps = partitions(RECORDS_PER_LOOK + 5)
    await look_up(times, told, *((tp, 500) for tp in tps))
    await look_up(times, told, *((tp, 3) for tp in tps))
    assert {times.at(tp, 3) for tp in tps} == {3.0}


async def test_a_partition_that_was_level_meanwhile_starts_anew() -> None:
    times, told = RecordTimes(), Told()
    tp = partitions(1)[0]
    await look_up(times, told, (tp, 7))
    await look_up(times, told)
    assert times.at(tp, 7) is None


async def test_a_record_that_is_not_there_is_not_asked_for_each_second() -> None:
    times, told = RecordTimes(), Told(last=5)
    tp = partitions(1)[0]
    for _ in range(3):
        await look_up(times, told, (tp, 9))
    assert told.n_asked() == 1
    assert times.at(tp, 9) is None
