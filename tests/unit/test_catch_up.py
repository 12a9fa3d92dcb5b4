"""Taking over partitions, seen from the loop that also answers pages."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from emis_streams.engine.catch_up import CatchUp
from emis_streams.engine.row_filter import RowCheck


class Store:
    """Counts how many databases were opened and closed."""

    def __init__(self, open_partitions: list[int]) -> None:
        self.open_partitions = open_partitions
        self.n_done = 0

    def partition(self, _number: int) -> SimpleNamespace:
        self.n_done += 1
        return SimpleNamespace(is_checked=True)

    def close_partition(self, _number: int) -> None:
        self.n_done += 1


async def test_pages_are_answered_between_the_databases_that_are_closed_and_opened() -> None:
    store = Store(open_partitions=[8, 9])
    table = SimpleNamespace(store=store, source_topics=["source"], changelog_name="changelog", check=RowCheck())
    catch_up = CatchUp(SimpleNamespace(), SimpleNamespace(engine_tables=lambda: [table]))  # type: ignore[arg-type]
    seen: set[int] = set()

    async def page() -> None:
        while True:
            seen.add(store.n_done)
            await asyncio.sleep(0)

    asked = asyncio.create_task(page())
    taken = await catch_up._open_stores({TP("source", number) for number in range(3)})
    asked.cancel()
    assert [(tp.topic, tp.partition) for tp in taken] == [("changelog", number) for number in range(3)]
    assert seen >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize(("end", "n_asked"), [(4, 1), (5, 0)], ids=["shorter", "as long"])
async def test_topics_are_looked_at_as_soon_as_a_changelog_is_shorter_than_what_is_kept_of_it(
    end: int, n_asked: int
) -> None:
    """It was made anew, most likely: until its owner sends the rows again, readers take old ones for fresh."""
    asked: list[set[str]] = []

    async def end_offsets(tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, end)

    async def ask_for_topics(topics: set[str]) -> None:
        asked.append(topics)
        raise KafkaConnectionError

    consumer = SimpleNamespace(
        assignment=lambda: {TP("source", 0)}, note_ends=lambda _ends: None, ask_for_topics=ask_for_topics
    )
    tables = SimpleNamespace(position_of=lambda _tp: 5, engine_tables=lambda: [], partition=lambda _tp: None)
    catch_up = CatchUp(SimpleNamespace(consumer=consumer), tables)  # type: ignore[arg-type]
    catch_up._owned = {TopicPartition("changelog", 0)}
    asker: Any = SimpleNamespace(end_offsets=end_offsets)
    await catch_up._look(asker)
    await catch_up._look_at_topics()  # The first answer of the brokers.
    asked.clear()
    await catch_up._look(asker)
    await catch_up._look_at_topics()
    assert len(asked) == n_asked
