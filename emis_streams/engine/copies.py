"""Copies of partitions that other workers own by now: what lost changelogs are filled from as well (decision 0014)."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from aiokafka import TopicPartition

from emis_streams.engine.table import SendRows, Table, send_all


class Copies:
    """What lies on this worker's disk of partitions that it does not own. Nobody may take one over meanwhile."""

    def __init__(self, tables: Callable[[], Iterable[Table]], send_rows: SendRows) -> None:
        self._tables = tables
        self._send_rows = send_rows
        self._topic_ids: dict[TopicPartition, str | None] = {}
        """Of the topics that copies rest on (None: on nothing), as far as they were opened: that changes here only."""

    def forget(self, tps: Iterable[TopicPartition]) -> None:
        """This worker owns them now."""
        for tp in tps:
            self._topic_ids.pop(tp, None)

    async def send_what_logs_lack(self, ids: Mapping[str, str]) -> None:
        """A changelog that was made anew (it has another id than its copy rests on) gets the copy's rows.

        To the partition's owner they are someone else's, who reads them and merges them with his.
        """
        for table in self._tables():
            if not table.has_merge:
                continue  # Behind a newer row of the owner an old one would win.
            for number in table.store.closed_partitions:
                tp = TopicPartition(table.changelog_name, number)
                if self._topic_ids.get(tp, "") not in (None, ids[tp.topic]):
                    await self._send_unless_of(ids[tp.topic], tp, table)
                    await asyncio.sleep(0)  # Opening one takes milliseconds, in which nobody is answered.

    async def _send_unless_of(self, topic_id: str, tp: TopicPartition, table: Table) -> None:
        copy = table.store.partition(tp.partition)
        try:
            if copy.rests_on_another(topic_id):
                await send_all(copy, tp, self._send_rows, table.check)
            self._topic_ids[tp] = None if copy.position is None else copy.position.topic_id
        finally:
            table.store.close_partition(tp.partition)
