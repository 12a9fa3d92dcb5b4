"""Taking over partitions: tables caught up from their changelogs, then the sources go on.

Stands in for Faust's recovery service, which applies changelogs record by record, and on completion
resumes before it seeks and clears, so that events can get lost (faust-streaming issue 596). Here:
catch up; seek every source; only then clear the queues, resume the partitions and the flow.
"""

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.tables import TableManager as FaustTableManager
from faust.types import TP
from mode import Service

from emis_streams.engine import fatal
from emis_streams.engine.cluster import Topics
from emis_streams.engine.copies import Copies
from emis_streams.engine.follower import Follower, Position
from emis_streams.engine.home import Home
from emis_streams.engine.options import client_of, options_of
from emis_streams.engine.patience import Reminder, Waiting, patiently
from emis_streams.engine.row_filter import RowFilter
from emis_streams.engine.starting import start
from emis_streams.engine.stopping import stop
from emis_streams.engine.store import PartitionStore
from emis_streams.engine.table import SendRows, Table, TableSink, remove_invalid_rows
from emis_streams.engine.topic_checks import (
    CHECKED_CONFIGS,
    TableTopics,
    TopicsUnfit,
    differing,
    missing_topics,
    questionable_changelogs,
    unfit_changelogs,
)
from emis_streams.engine.transport import Consumer
from emis_streams.engine.writer import Writer

logger = logging.getLogger(__name__)

UNREACHABLE = (KafkaError, OSError)
_WATCH_SECONDS = 1.0
_ASK_SECONDS = 5.0
"""aiokafka asks on for 40 s before it says that brokers do not answer: the watchdog may look earlier."""
_TOPICS_CHECK_SECONDS = 10.0
_RESTS = 3
"""Sending a lost changelog again rests so many times as long as it works: pages are answered meanwhile (0012)."""
_CATCH_UP_RECORDS = 5_000
_CATCH_UP_BYTES = 2_000_000
"""Nothing else is on the loop of an ingesting worker while it catches up: in larger slices more rows share a block."""


class _StaleAssignment(Exception):
    """The group has shared out partitions of a topic that has fewer by now."""


class CatchUp(Service):
    """Catches up what was assigned, then keeps watching the own changelogs for rows of others."""

    mundane_level = "debug"

    abstract = False

    def __init__(self, app: Any, tables: "TableManager", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.app = app
        self.tables = tables
        self.completed = asyncio.Event()
        self.follower: Follower | None = None
        """The one at work, while partitions are being taken over."""
        self.started_at: float | None = None
        """Monotonic time since when partitions are being taken over; None when they are."""
        self.waiting = Waiting(lambda text: logger.warning("brokers: %s", text))
        """What the brokers do not answer now: no progress is then no fault of this worker."""
        self.foreign_records_total = 0
        """Times that someone else's records were found in a changelog that this worker owns."""
        self.brokers_answer_since: float | None = None
        """Monotonic: for how long each look at the ends of what this worker owns was answered. None: not now."""
        self.complaints: tuple[str, ...] = ()
        """What is wrong with the topics of the tables, by the last look."""
        self._reminder = Reminder(logger.error)
        self._questioned: set[str] = set()
        """Said once already."""
        self._looked = 0.0
        self._owned: set[TopicPartition] = set()
        self._has_taken_over = False
        self._copies = Copies(tables.engine_tables, self._send_gently)
        self._topics_seen = 0.0
        self._task: asyncio.Task[None] | None = None
        self._meanwhile: asyncio.Task[None] | None = None
        """Reads records of someone else, or sends what a log lost. A rebalance ends it: that may close its stores."""

    @property
    def waits_for(self) -> str | None:
        """Why nothing is read: brokers that do not answer, or topics that are missing or not as they have to be."""
        if self.waiting.reason is not None:
            return self.waiting.reason
        follower = self.follower
        if follower is not None and follower.waiting_for is not None:
            return follower.waiting_for
        if follower is not None and follower.open_transaction is not None:
            return follower.open_transaction.in_words()
        return "; ".join(self.complaints) or None

    # -- what Faust's app and table manager call -----------------------------------------------

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._cancel()
        self._owned.clear()

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        self._cancel()
        self.started_at = time.monotonic()
        self._task = asyncio.create_task(self._take_over(assigned, generation_id), name="catch up")
        self._task.add_done_callback(self._ended)

    async def on_stop(self) -> None:
        self._cancel()

    # -----------------------------------------------------------------------------------------

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._meanwhile is not None:
            self._meanwhile.cancel()
            self._meanwhile = None
        self.follower = None
        self.started_at = None
        self._has_taken_over = False

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            # Nobody here did it, and no consumer that ends: aiokafka lets some of its own cancellations out.
            if task is self._task and not self.app.should_stop:
                fatal.end_process(self.app, "taking over partitions was cancelled")
        elif (error := task.exception()) is not None:
            fatal.end_process(self.app, "taking over partitions failed", error)

    @cached_property
    def _home(self) -> Home:
        return Home(Path(self.app.conf.datadir))

    @property
    def consumer(self) -> Consumer:
        consumer: Consumer = self.app.consumer
        return consumer

    async def _take_over(self, assigned: set[TP], generation_id: int) -> None:
        await self.waiting.for_(lambda: self._check_topics(assigned), TopicsUnfit, _StaleAssignment, *UNREACHABLE)
        changelogs = await self._open_stores(assigned)
        logger.info("taking over %d partitions, %d of changelogs", len(assigned), len(changelogs))
        await self._catch_up(changelogs, past_transactions=True)
        await self.waiting.for_(lambda: self.consumer.start_from_committed(assigned), *UNREACHABLE)
        if generation_id != self.app.consumer_generation_id:
            return  # The next rebalance has begun, and will call again.
        self._owned = set(changelogs)
        await self._go_on(assigned)

    async def _check_topics(self, assigned: set[TP]) -> None:
        """Raises TopicsUnfit: then nothing is read, and everything stays in the log, until somebody corrects it."""
        of_tables = [table.table_topics for table in self.tables.engine_tables()]
        names = {topic for table in of_tables for topic in (*table.sources, table.changelog)}
        topics = await self.consumer.ask_for_topics(names | {tp.topic for tp in assigned})
        self._raise_errors(topics, {tp.topic for tp in assigned})
        problems = await self._problems_of(of_tables, topics)
        lacking = [*missing_topics(of_tables, topics.missing & {table.changelog for table in of_tables})]
        if problems or lacking:
            raise TopicsUnfit([*lacking, *problems])
        if any(tp.partition >= topics.found[tp.topic].n_partitions for tp in assigned):
            await self.consumer.share_anew()
            raise _StaleAssignment("the group has shared out partitions that no topic has: waiting for it")

    def _raise_errors(self, topics: Topics, of: set[str]) -> None:
        for name, error in topics.errors.items():
            if name in of:
                raise error

    async def _problems_of(self, tables: list[TableTopics], topics: Topics) -> list[str]:
        """What of these topics has to be corrected, missing ones aside. Raises aiokafka.errors.KafkaError."""
        changelogs = {table.changelog for table in tables} & topics.found.keys()
        configs = await self.consumer.topic_configs(changelogs, CHECKED_CONFIGS)
        for question in questionable_changelogs([t for t in tables if t.changelog in changelogs], configs):
            if question not in self._questioned:
                self._questioned.add(question)
                logger.warning("%s", question)
        return [*differing(tables, topics.found), *unfit_changelogs(tables, topics.found, configs)]

    async def _open_stores(self, assigned: set[TP]) -> list[TopicPartition]:
        """Opens the stores of the partitions that are ours now, closes all others.

        Each takes some milliseconds of the loop (tens on a busy disk), so pages are answered between them.
        """
        changelogs = []
        for table in self.tables.engine_tables():
            wanted = {tp.partition for tp in assigned if tp.topic in table.source_topics}
            for number in table.store.open_partitions:
                if number not in wanted:
                    table.store.close_partition(number)
                    await asyncio.sleep(0)
            for number in sorted(wanted):
                store = table.store.partition(number)
                await asyncio.sleep(0)
                await remove_invalid_rows(store, table.changelog_name, table.check)
                changelogs.append(TopicPartition(table.changelog_name, number))
        self._copies.forget(changelogs)
        return changelogs

    async def _catch_up(
        self, changelogs: list[TopicPartition], send_rows: SendRows | None = None, past_transactions: bool = False
    ) -> None:
        """`send_rows`: sends what a log has lost; as fast as can be if nothing is given.

        `past_transactions`: the last owner's rows may stand behind a transaction of somebody that is open, and are
        waited for. Without them this worker would go on from older rows.
        """
        if not self.tables.writer.is_started:
            await self.waiting.for_(self.tables.writer.start, *UNREACHABLE)
        if not changelogs:
            return  # More workers than partitions: this one stands by.
        sink = TableSink(self.tables.engine_tables(), send_rows or self.tables.writer.send_rows)
        follower = self.follower = Follower(
            name=f"{self.app.conf.id}-tables",
            client=client_of(self.app),
            sink=sink,
            merge={table.changelog_name: table.merge for table in self.tables.engine_tables()},
            row_filter=self.tables.row_filter,
            partitions=changelogs,
            slice_records=_CATCH_UP_RECORDS,
            slice_bytes=_CATCH_UP_BYTES,
            check_cluster=self._home.check,
            past_transactions=past_transactions,
        )
        await follower.catch_up()
        await self._send_again(sink)
        for tp, next_offset in follower.next_offsets.items():
            sink.partition(tp).advance(Position(next_offset, follower.topic_id(tp)))
        self.follower = None

    async def _send_again(self, sink: TableSink) -> None:
        """Rows that a lower version follows in the log: a later reader must find the higher one last."""
        again = sink.rows_to_send_again()
        for tp, rows in again.items():
            logger.warning("%s: %d rows had gone back in the changelog: sent again", tp, len(rows))
        await asyncio.gather(*(self.tables.writer.send_rows(tp, rows) for tp, rows in again.items()))

    async def _go_on(self, assigned: set[TP]) -> None:
        app = self.app
        await app.on_rebalance_complete.send()
        app.in_recovery = False
        app.flow_control.resume()
        self.consumer.resume_partitions(assigned)
        self.consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        self.started_at = None
        self._has_taken_over = True
        self.completed.set()
        logger.info("ready: %d partitions", len(assigned))

    # -- the own changelogs, afterwards ---------------------------------------------------------

    @Service.task
    async def _watch(self) -> None:
        try:
            await self._watch_changelogs()
        except Exception as error:
            if self.app.should_stop:
                raise
            # Faust would stop the worker in its own order, whose pages refuse for seconds before it ends.
            fatal.end_process(self.app, "watching the changelogs failed", error)

    async def _watch_changelogs(self) -> None:
        """Looks whether the owned changelogs hold records that are not ours.

        What we send is acknowledged with its offset, so a foreign record shows as a gap, or as an end
        beyond the last row of ours. Only then is anything read: reading all of the own changelog again
        would cost a third of the throughput.
        """
        asker = AIOKafkaConsumer(**client_of(self.app), isolation_level="read_committed")
        try:
            await patiently(lambda: start(asker), UNREACHABLE)
            while True:
                await self.sleep(_WATCH_SECONDS)
                if self.should_stop:  # That ended the sleep, and may have taken the cancellation with it (`wait_for`).
                    return
                await self._check_group()
                await self._look(asker)
                await self._look_at_topics()
        finally:
            await stop(asker)

    async def _check_group(self) -> None:
        try:
            await self.consumer.check_group()
        except KafkaError as error:
            fatal.end_process(self.app, "taking part in the group failed", error)

    async def _look(self, asker: AIOKafkaConsumer) -> None:
        owned = set(self._owned)
        sources = {TopicPartition(tp.topic, tp.partition): tp for tp in self.consumer.assignment()}
        if not sources or self.started_at is not None:
            self.brokers_answer_since = None
            return
        try:
            ends = await asyncio.wait_for(asker.end_offsets([*owned, *sources]), _ASK_SECONDS)
        except (KafkaError, TimeoutError) as error:
            logger.debug("ends of the logs not known: %r", error)
            self.consumer.forget_ends()
            self.brokers_answer_since = None
            return
        self._note_answer(time.monotonic())
        self.consumer.note_ends({tp: ends[asked] for asked, tp in sources.items()})
        owned &= self._owned
        if any(ends[tp] < self.tables.position_of(tp) for tp in owned):
            self._look_at_topics_soon()  # Of a log that was made anew, readers lack what only this worker keeps.
        foreign = [tp for tp in owned if self._has_foreign(tp, ends[tp])]
        if foreign:
            self.foreign_records_total += len(foreign)
            logger.warning("records of someone else in the changelogs %s: reading them", foreign)
            await self._until_rebalance(self._catch_up(foreign))

    def _note_answer(self, now: float) -> None:
        """One that comes long after the last one (the process was stopped) begins anew."""
        if self.brokers_answer_since is None or now - self._looked > 2 * _ASK_SECONDS:
            self.brokers_answer_since = now
            self._look_at_topics_soon()
        self._looked = now

    def _look_at_topics_soon(self) -> None:
        self._topics_seen = -math.inf

    async def _look_at_topics(self) -> None:
        """Topics may be made anew or widened at any time."""
        now = time.monotonic()
        if self.started_at is not None or now - self._topics_seen < _TOPICS_CHECK_SECONDS:
            return
        self._topics_seen = now
        try:
            of_tables = [table.table_topics for table in self.tables.engine_tables()]
            sources = {topic for table in of_tables for topic in table.sources}
            changelogs = {table.changelog for table in of_tables}
            topics = await self.consumer.ask_for_topics(sources | changelogs)
            problems = await self._problems_of(of_tables, topics)
            if any(differing(of_tables, topics.found)) or sources - {tp.topic for tp in self.consumer.assignment()}:
                await self.consumer.share_anew()  # The group may not know yet of a topic that came back.
        except UNREACHABLE as error:
            logger.debug("topics not looked at: %r", error)
            return
        self.complaints = (*missing_topics(of_tables, topics.missing), *problems)
        self._reminder.note("; ".join(self.complaints))
        if topics.errors:
            return
        for topic in topics.found.values():
            self._home.check(topic.cluster_id)
        self.consumer.note_topics(topics.found)
        if self._has_taken_over:
            ids = {name: topics.found[name].id for name in changelogs}
            await self._until_rebalance(self._fill_what_was_made_anew(ids))

    async def _fill_what_was_made_anew(self, ids: Mapping[str, str]) -> None:
        made_anew = [tp for tp in self._owned if self.tables.partition(tp).rests_on_another(ids[tp.topic])]
        if made_anew:
            await self._catch_up(made_anew, self._send_gently)
        await self._copies.send_what_logs_lack(ids)

    async def _send_gently(self, tp: TopicPartition, rows: Mapping[bytes, bytes]) -> None:
        began = time.monotonic()
        await self.tables.writer.send_rows(tp, rows)
        await asyncio.sleep(_RESTS * (time.monotonic() - began))

    def _has_foreign(self, tp: TopicPartition, end: int) -> bool:
        """Behind a transaction that is open there may be a gap as well, which nobody can read yet."""
        store = self.tables.partition(tp)
        return self.tables.position_of(tp) < end and (store.has_gap or self.tables.writer.is_idle(tp))

    async def _until_rebalance(self, work: Coroutine[Any, Any, None]) -> None:
        meanwhile = self._meanwhile = asyncio.create_task(work, name="changelogs")
        await asyncio.wait([meanwhile])
        if not meanwhile.cancelled():
            meanwhile.result()


class TableManager(FaustTableManager):
    """Faust's, without its recovery and without subscribing to changelogs."""

    mundane_level = "debug"

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        options = options_of(app)
        self.writer = Writer(
            client_of(app),
            on_acknowledged=self._acknowledged,
            still_ours=self._still_ours,
            on_failure=lambda error: fatal.end_process(app, "sending failed", error),
            compression=options.changelog_compression,
        )
        self.row_filter = RowFilter(lambda changelog: self.table_of(changelog).check)
        """Counts what the changelogs of this worker's partitions hold that is no row."""
        self._catch_up: CatchUp | None = None

    @property
    def recovery(self) -> Any:
        if self._catch_up is None:
            self._catch_up = CatchUp(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._catch_up

    def engine_tables(self) -> Iterable[Table]:
        return [table for table in self.values() if isinstance(table, Table)]

    def table_of(self, changelog: str) -> Table:
        table = self._changelogs[changelog]
        assert isinstance(table, Table)
        return table

    def partition(self, tp: TopicPartition) -> PartitionStore:
        """The store behind a partition of a changelog."""
        return self.table_of(tp.topic).store.partition(tp.partition)

    def position_of(self, tp: TopicPartition) -> int:
        position = self.partition(tp).position
        return 0 if position is None else position.next_offset

    def _acknowledged(self, tp: TopicPartition, base_offset: int, n_records: int) -> None:
        store = self.table_of(tp.topic).store
        if tp.partition in store.open_partitions:
            store.partition(tp.partition).acknowledged(base_offset, n_records)

    async def _still_ours(self) -> None:
        await self.app.slice_consumer.membership.certain(self.app.conf.broker_session_timeout)

    # -- replaced parts of Faust's -------------------------------------------------------------

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()

    async def _update_channels(self) -> None:
        self._tables_finalized.set()
        for table in self.values():
            await table.maybe_start()
        self._tables_registered.set()

    async def on_stop(self) -> None:
        await self.app._fetcher.stop()
        await self.recovery.stop()
        for table in self.values():
            await table.stop()
        await self.writer.stop()
