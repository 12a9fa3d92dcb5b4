"""The thread of aiokafka's consumer: what it fetches, commits and asks the brokers, at the word of the other thread."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from emis_streams.engine import fatal
from emis_streams.engine.answers_in_time import limit_answers
from emis_streams.engine.client_tasks import watch
from emis_streams.engine.cluster import Described, Topics, ask_for_topics, described, topic_configs
from emis_streams.engine.fetch import Fetched, fetch, gathering
from emis_streams.engine.membership import Membership
from emis_streams.engine.options import options_of
from emis_streams.engine.patience import Waiting
from emis_streams.engine.stopping import end_fetches, to_the_end

logger = logging.getLogger(__name__)

_STOP_CHECK_SECONDS = 0.2
_LEAST_ANSWER_SECONDS = 3.0


class Committed(NamedTuple):
    """Where a group goes on in a partition."""

    offset: int
    topic_id: str
    """Of the topic that was read, by the word of the worker that committed; empty where another program did."""


class SliceConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread with aiokafka's consumer."""

    mundane_level = "debug"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.membership = Membership()
        self._asked: set[asyncio.Future[Any]] = set()
        self._has_ended = False

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        for name, value in gathering(options_of(self.app).linger_seconds).items():
            setattr(consumer, f"_{name}", value)
        # Else the session is over before anybody looks for the coordinator that follows one that stands still.
        limit_answers(consumer._client, max(_LEAST_ANSWER_SECONDS, self.app.conf.broker_session_timeout / 3))
        return consumer

    async def on_start(self) -> None:
        self._consumer = self._create_consumer(loop=self.thread_loop)
        self.time_started = time.monotonic()
        await self._connect()
        self.membership.watch(self._ensure_consumer()._coordinator)

    async def on_thread_stop(self) -> None:
        await to_the_end(self._stop_consumer())

    async def _stop_consumer(self) -> None:
        if self._consumer is not None:
            await end_fetches(self._consumer)
        await super().on_thread_stop()
        if self._consumer is not None:
            # Whoever asked the brokers something while it closed made connections anew.
            await self._consumer._client.close()

    def close(self) -> None:
        """Nothing: stopping closes all.

        Faust calls this when a rebalance comes while the worker stops. It would close the connections from another
        loop, before the offsets are committed and the group is left: the others would wait for a whole session.
        """

    def _start_thread(self) -> None:
        try:
            super()._start_thread()
        finally:
            self.parent_loop.call_soon_threadsafe(self._end_asked)

    def _end_asked(self) -> None:
        self._has_ended = True
        for answer in list(self._asked):
            answer.cancel()

    async def call_thread(self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """As Faust's, but what the thread has not answered when it ends is cancelled: the wait would never end."""
        answer = self.parent_loop.create_future()
        if self._has_ended:
            answer.cancel()
        else:
            self._asked.add(answer)
            answer.add_done_callback(self._asked.discard)
            await self.method_queue.call(answer, fun, *args, **kwargs)
        return await answer

    async def _connect(self) -> None:
        """Waits for the brokers. Told to stop meanwhile, the worker ends: it has begun nothing.

        Faust cannot stop a consumer that is still starting.
        """
        waiting = Waiting(lambda text: logger.warning("brokers: %s", text))
        connecting = asyncio.ensure_future(waiting.for_(self._ensure_consumer().start, KafkaError, OSError))
        while not connecting.done():
            if self.app.should_stop:
                fatal.end_process(self.app, "stopped before the brokers answered", code=fatal.EXIT_STOPPED)
            await asyncio.wait([connecting], timeout=_STOP_CHECK_SECONDS)
        await connecting
        watch(self._ensure_consumer())

    async def crash(self, reason: BaseException) -> None:
        """Faust would stop the worker in its own order, which can hang, with an exit code that says nothing."""
        if not self.app.should_stop:
            fatal.end_process(self.app, "the consumer failed", reason)
        await super().crash(reason)

    def assignment(self) -> set[TP]:
        """As Faust's, which raises before this thread has begun: pages and probes ask from the start."""
        return set() if self._consumer is None else set(super().assignment())

    async def fetch(self, tps: Collection[TP], timeout_seconds: float, is_wanted: Callable[[], bool]) -> list[Fetched]:
        options = options_of(self.app)
        return await self.call_thread(
            fetch,
            self._ensure_consumer()._fetcher,
            {TopicPartition(tp.topic, tp.partition) for tp in tps},
            timeout_seconds,
            options.slice_records,
            options.slice_bytes,
            is_wanted,
        )

    async def check_group(self) -> None:
        """Raises what the group's coordination failed with, which otherwise waits for ever to be asked."""
        await self.call_thread(self._check_group)

    async def _check_group(self) -> None:
        consumer = self._ensure_consumer()
        consumer._coordinator.check_errors()
        # Faust's assignor would go on without them.
        hidden = consumer._client.cluster.unauthorized_topics & consumer.subscription()
        if hidden:
            raise TopicAuthorizationFailedError(hidden)

    async def describe(self, topics: Collection[str]) -> dict[str, Described]:
        """The topics as the brokers have them. Raises aiokafka.errors.KafkaError."""
        return await self.call_thread(self._describe, topics)

    async def _describe(self, topics: Collection[str]) -> dict[str, Described]:
        return await described(self._ensure_consumer()._client, topics)

    async def ask_for_topics(self, topics: Collection[str]) -> Topics:
        """The topics as the brokers have them, and which there are not. Raises aiokafka.errors.KafkaError."""
        return await self.call_thread(self._ask_for_topics, topics)

    async def _ask_for_topics(self, topics: Collection[str]) -> Topics:
        return await ask_for_topics(self._ensure_consumer()._client, topics)

    async def topic_configs(self, topics: Collection[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Values of these configs, by topic (see `cluster.topic_configs`). Raises aiokafka.errors.KafkaError."""
        return await self.call_thread(self._topic_configs, topics, names)

    async def _topic_configs(self, topics: Collection[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        return await topic_configs(self._ensure_consumer()._client, topics, names)

    async def share_anew(self) -> None:
        """Looks at the topics' partitions now; the group shares them out anew if their number is another one."""
        await self.call_thread(self._share_anew)

    async def _share_anew(self) -> None:
        await self._ensure_consumer()._client.force_metadata_update()

    async def _commit(self, offsets: Mapping[TP, Committed]) -> bool:
        """As Faust's, and with each offset the id of the topic that it belongs to."""
        owned = self.assignment()
        try:
            await self._ensure_consumer().commit(
                {
                    TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(at.offset, at.topic_id)
                    for tp, at in offsets.items()
                    if tp in owned
                }
            )
        except CommitFailedError as error:
            if "already rebalanced" not in str(error):
                await self.crash(error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, a worker that cannot commit must end
            await self.crash(error)
            return False
        return True

    async def committed(self, tps: Iterable[TP]) -> dict[TP, Committed | None]:
        """What the group has committed, None where it never has."""
        return await self.call_thread(self._committed, list(tps))

    async def _committed(self, tps: list[TP]) -> dict[TP, Committed | None]:
        coordinator = self._ensure_consumer()._coordinator
        answer: Mapping[TopicPartition, OffsetAndMetadata] = await coordinator.fetch_committed_offsets(
            [TopicPartition(tp.topic, tp.partition) for tp in tps]
        )
        found = {
            TP(tp.topic, tp.partition): Committed(at.offset, at.metadata) for tp, at in answer.items() if at.offset >= 0
        }
        return {tp: found.get(tp) for tp in tps}

    async def seek_all(self, positions: Mapping[TP, int]) -> None:
        await self.call_thread(self._seek_all, dict(positions))

    async def _seek_all(self, positions: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        for tp, offset in positions.items():
            consumer.seek(TopicPartition(tp.topic, tp.partition), offset)
