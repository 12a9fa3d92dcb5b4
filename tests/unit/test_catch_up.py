"""Taking over partitions, seen from the loop that also answers pages."""

import asyncio
from types import SimpleNamespace

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
