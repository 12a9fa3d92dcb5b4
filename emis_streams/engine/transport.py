"""Faust's transport (`broker="slices://host:port"`), handing out slices and keeping their chains.

Faust keeps what it does well: the group, rebalances, assignment, flow control. Replaced are fetching
(one message a slice), the loop that hands messages on (it cannot block on a full queue: what is under
way is bounded by partition before fetching), and everything about acknowledgements (engine/chain.py).
"""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.services import ServiceT

from emis_streams.engine import fatal
from emis_streams.engine.chain import Broken, Chain
from emis_streams.engine.cluster import Described, Topics
from emis_streams.engine.consumer_thread import Committed, SliceConsumerThread
from emis_streams.engine.fetch import Fetched
from emis_streams.engine.hints import Hint, hint
from emis_streams.engine.membership import Membership
from emis_streams.engine.options import options_of
from emis_streams.engine.patience import patiently
from emis_streams.engine.slices import Slice

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 1.0
_ROOM_CHECK_SECONDS = 0.02


class Consumer(driver.Consumer):
    """Consumer of slices."""

    mundane_level = "debug"

    _thread: SliceConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chains: dict[TP, Chain] = {}
        self._under_way: dict[Slice, None] = {}
        """Strong references, in the order of delivery: Faust's own set of unacked messages is weak."""
        self._changed = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._committed: dict[TP, Committed] = {}
        self._topic_ids: dict[str, str] = {}
        """Of the topics that are read, or were last."""
        self.chains_broken_total = 0
        self.lost_to_retention: dict[TP, int] = {}
        self.set_by_others_total = 0
        """Partitions that went on where another program had set the group."""
        self._made_anew: dict[str, str] = {}
        """Topics that are not the ones that are read any more, with their new ids."""
        self._unfetched: dict[TP, tuple[int, float]] = {}
        """Where partitions stand that have more to fetch and room for it, and since when (monotonic)."""

    def _new_consumer_thread(self) -> SliceConsumerThread:
        return SliceConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- positions ----------------------------------------------------------------------------

    async def start_from_committed(self, tps: Collection[TP]) -> None:
        """Seeks every source partition explicitly, and begins its chain there.

        aiokafka does not seek where nothing is committed. Where the log no longer has what was to be
        read next, that is an alarm with the exact count, never a silent reset.
        """
        ids = {topic: now.id for topic, now in (await self.describe({tp.topic for tp in tps})).items()}
        committed = await self._thread.committed(tps)
        begins = await self.earliest_offsets(*tps)
        ends = await self.highwaters(*tps)
        starts = {tp: self._start_of(tp, committed[tp], ids[tp.topic], begins[tp], ends[tp]) for tp in tps}
        await self._thread.seek_all(starts)
        self._under_way.clear()
        self._unfetched.clear()
        self._made_anew.clear()
        self._note_ids(ids)
        self._chains = {tp: Chain(start, ids[tp.topic]) for tp, start in starts.items()}
        self._committed = {tp: at or Committed(0, ids[tp.topic]) for tp, at in committed.items()}

    def _start_of(self, tp: TP, committed: Committed | None, topic_id: str, begin: int, end: int) -> int:
        if committed is None:
            return begin
        offset = committed.offset
        if committed.topic_id and committed.topic_id != topic_id:
            logger.error("%s: the topic was made anew since it was read: read from its start", tp)
            return begin
        if offset < begin:
            self._alarm_lost(tp, begin - offset)
            return begin
        if offset > end:
            logger.error("%s: %d is committed but the log ends at %d: read from its start", tp, offset, end)
            return begin
        if not committed.topic_id and offset > begin:
            self.set_by_others_total += 1
            logger.error("%s: another program than a worker of this release set the group to %d", tp, offset)
        return offset

    def _note_ids(self, ids: Mapping[str, str]) -> None:
        """The brokers forget what was committed together with a topic: only here it shows that it is another one."""
        known = self._topic_ids
        anew = sorted(topic for topic, topic_id in ids.items() if known.get(topic, topic_id) != topic_id)
        if anew:
            logger.error("%s: made anew while it was read: read from its start", ", ".join(anew))
        known.update(ids)

    async def describe(self, topics: Collection[str]) -> dict[str, Described]:
        """The topics as the brokers have them. Raises aiokafka.errors.KafkaError."""
        return await self._thread.describe(topics)

    async def ask_for_topics(self, topics: Collection[str]) -> Topics:
        """The topics as the brokers have them, and which there are not. Raises aiokafka.errors.KafkaError."""
        return await self._thread.ask_for_topics(topics)

    async def topic_configs(self, topics: Collection[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Values of these configs, by topic (see `cluster.topic_configs`). Raises aiokafka.errors.KafkaError."""
        return await self._thread.topic_configs(topics, names)

    async def share_anew(self) -> None:
        """Looks at the topics' partitions now; the group shares them out anew if their number is another one."""
        await self._thread.share_anew()

    def note_topics(self, topics: Mapping[str, Described]) -> None:
        """As the brokers have them: what is not what is being read is read from its start."""
        reading = self._topic_ids
        self._made_anew = {t: now.id for t, now in topics.items() if t in reading and reading[t] != now.id}
        self._changed.set()

    async def _begin_anew(self) -> None:
        """Offsets of the old topic mean nothing in the new one, however long that is already."""
        ids, self._made_anew = self._made_anew, {}
        for tp in [tp for tp in self._chains if tp.topic in ids]:
            await self._restart_chain(tp, await self._begin_of(tp), ids[tp.topic])
        self._note_ids(ids)

    def _alarm_lost(self, tp: TP, n_records: int) -> None:
        self.lost_to_retention[tp] = self.lost_to_retention.get(tp, 0) + n_records
        logger.critical(
            "%s: %d records were deleted by retention before they were read; %s",
            tp,
            n_records,
            hint(Hint.LOST_RECORDS),
        )

    async def check_group(self) -> None:
        """Raises what taking part in the group failed with (an aiokafka.errors.KafkaError)."""
        await self._thread.check_group()

    # -- from fetch to agent ------------------------------------------------------------------

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._drain_once()
        except asyncio.CancelledError:
            # Told to stop while partitions are shared out, Faust would start the fetcher anew, and fail at it.
            if not self.app.should_stop:
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, a worker that does not fetch must end
            if not self.app.should_stop:
                fatal.end_process(self.app, "fetching failed", error)

    async def _drain_once(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        if self._made_anew:
            await self._begin_anew()
        active = self._get_active_partitions() & self._chains.keys()
        with_room = {tp for tp in active if len(self._chains[tp]) < options_of(self.app).buffered_slices}
        if not with_room:
            await self._wait_for_change(_IDLE_SECONDS)
            return
        generation = self.app.consumer_generation_id
        wait_seconds = _IDLE_SECONDS if len(with_room) == len(active) else _ROOM_CHECK_SECONDS
        fetched = await self._thread.fetch(with_room, wait_seconds, lambda: self._may_deliver(generation))
        for run in fetched:
            if not self._may_deliver(generation):
                return  # The chains are made anew when the flow goes on.
            await self._deliver(run, generation)

    def _may_deliver(self, generation: int) -> bool:
        return self.flow_active and self.app.flow_control.is_active() and generation == self.app.consumer_generation_id

    async def _deliver(self, run: Fetched, generation: int) -> None:
        tp = TP(run.tp.topic, run.tp.partition)
        chain = self._chains.get(tp)
        if chain is None:
            return
        try:
            batch = Slice(run, chain, generation, self._on_done, self._on_failure)
        except Broken as hole:
            await self._mend(tp, hole)
            return
        if not batch.records:
            batch.done_when()
            return
        self._under_way[batch] = None
        await self.callback(self._message(tp, batch))

    async def _mend(self, tp: TP, hole: Broken) -> None:
        """Records were dropped between fetch and chain: fetch them again, or say that they are gone."""
        self.chains_broken_total += 1
        logger.warning("%s: %s; fetching again", tp, hole)
        begin = await self._begin_of(tp)
        if begin > hole.expected:
            self._alarm_lost(tp, begin - hole.expected)
            await self._restart_chain(tp, begin, self._topic_ids[tp.topic])
        else:
            await self._thread.seek_all({tp: hole.expected})

    async def _begin_of(self, tp: TP) -> int:
        begins: dict[TP, int] = {}

        async def ask() -> None:
            begins.update(await self.earliest_offsets(tp))

        await patiently(ask, (KafkaError, OSError))
        return begins[tp]

    async def _restart_chain(self, tp: TP, start: int, topic_id: str) -> None:
        """Goes on at `start` when what is under way before it is done, unless the partition is given up meanwhile."""
        chain = self._chains.get(tp)
        while chain is not None and len(chain):
            await self._wait_for_change(_IDLE_SECONDS)
            chain = self._chains.get(tp)
        if chain is not None:
            self._chains[tp] = Chain(start, topic_id)
            await self._thread.seek_all({tp: start})

    def _message(self, tp: TP, batch: Slice) -> ConsumerMessage:
        first = batch.records[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            batch.base,
            first.timestamp / 1000.0,
            0,
            [],
            None,
            batch,
            None,
            tp=tp,
            generation_id=batch.generation,
        )

    def _on_done(self, batch: Slice) -> None:
        self._under_way.pop(batch, None)
        self._changed.set()

    def _on_failure(self, error: BaseException) -> None:
        fatal.end_process(self.app, "an acknowledgement failed", error)

    async def _wait_for_change(self, timeout_seconds: float) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_seconds)
        except TimeoutError:
            return

    # -- commit -------------------------------------------------------------------------------

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commits what is done, of the partitions that are owned now."""
        async with self._commit_lock:
            offsets = self._committable()
            if not offsets or not await self._thread.commit(offsets):
                return False
            self._committed.update(offsets)
            return True

    def _committable(self) -> dict[TP, Committed]:
        done = {tp: Committed(chain.done_offset, chain.topic_id) for tp, chain in self._chains.items()}
        return {tp: at for tp, at in done.items() if at != self._committed[tp]}

    # -- rebalance and stop -------------------------------------------------------------------

    async def wait_empty(self) -> None:
        """Waits until what agents have begun is durable, then commits; bounded.

        A worker that cannot finish in time before giving up partitions ends: it must not become one
        that writes what is not its own any more.
        """
        limit_seconds = options_of(self.app).drain_timeout_seconds
        try:
            async with asyncio.timeout(limit_seconds):
                while any(batch.begun for batch in self._under_way):
                    await self._wait_for_change(_ROOM_CHECK_SECONDS * 10)
                await self.commit()
        except TimeoutError as error:
            n_begun = sum(batch.begun for batch in self._under_way)
            late = f"slices not acknowledged ({n_begun})" if n_begun else "what is done could not be committed"
            fatal.end_process(self.app, f"{late} after {limit_seconds:g} s of draining", error)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        if self.app.should_stop and not self._thread.should_stop:
            await self.wait_empty()  # Faust does nothing then, but the next owner has to wait all the same.
        await super().on_partitions_revoked(revoked)
        self._chains.clear()
        self._under_way.clear()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.membership.note_answer()
        await super().on_partitions_assigned(assigned, generation_id)

    # -- for fence, watchdog and pages --------------------------------------------------------

    @property
    def membership(self) -> Membership:
        return self._thread.membership

    def slices_under_way(self) -> list[Slice]:
        return list(self._under_way)

    def note_ends(self, ends: Mapping[TP, int]) -> None:
        """The ends of the log, as the brokers say: which partitions have more to fetch, and stand still?"""
        limit = options_of(self.app).buffered_slices
        now = time.monotonic()
        for tp, chain in self._chains.items():
            if ends.get(tp, 0) <= chain.tail or len(chain) >= limit:
                self._unfetched.pop(tp, None)
            elif self._unfetched.get(tp, (None, now))[0] != chain.tail:
                self._unfetched[tp] = (chain.tail, now)

    def unfetched_since(self) -> tuple[TP, float] | None:
        """The partition that has longest stood still with more to fetch, and since when (monotonic)."""
        standing = [(since, tp) for tp, (_, since) in list(self._unfetched.items())]
        return None if not standing else (min(standing)[1], min(standing)[0])

    def forget_ends(self) -> None:
        """The brokers do not answer: standing still is no fault of this worker."""
        self._unfetched.clear()

    async def verify_all_partitions_active(self) -> None:
        """Faust's complaints about slow streams rest on its own acks; the watchdog looks instead."""


class Transport(driver.Transport):
    """`slices://`: Kafka by aiokafka, several hundred records at a time."""

    Consumer: ClassVar[type[Consumer]] = Consumer
