"""A slice: consecutive records of one partition, handed to an agent as one value."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from faust.serializers.schemas import Schema
from faust.types import AppT, Message

from emis_streams.engine.chain import Chain, Link
from emis_streams.engine.fetch import Fetched


class Slice:
    """What an agent gets: `async for batch in stream`.

    The agent says by `done_when` what has to happen before the records count as done; until then
    nothing of them is committed, whatever becomes of the agent.
    """

    __slots__ = (
        "_chain",
        "_link",
        "_on_done",
        "_on_failure",
        "begun",
        "delivered_at",
        "generation",
        "pending",
        "progressed_at",
        "records",
        "tp",
    )

    def __init__(
        self,
        fetched: Fetched,
        chain: Chain,
        generation: int,
        on_done: Callable[["Slice"], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.tp = fetched.tp
        self.records = fetched.records
        self.generation = generation
        self.begun = False
        """Whether an agent has said what it waits for: a slice that was not begun may be dropped."""
        self.delivered_at = time.monotonic()
        self.progressed_at = self.delivered_at
        """Monotonic: when it was begun, or something of it was last acknowledged."""
        self.pending = 0
        """Acknowledgements that are still missing."""
        self._chain = chain
        self._link: Link = chain.enter(fetched.base, fetched.end)
        self._on_done = on_done
        self._on_failure = on_failure

    @property
    def topic(self) -> str:
        return self.tp.topic

    @property
    def partition(self) -> int:
        return self.tp.partition

    @property
    def base(self) -> int:
        return self._link.base

    @property
    def end(self) -> int:
        return self._link.end

    @property
    def is_done(self) -> bool:
        return self._link.done

    @property
    def keys(self) -> list[bytes | None]:
        return [record.key for record in self.records]

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    @property
    def timestamps_ms(self) -> list[int]:
        return [record.timestamp for record in self.records]

    @property
    def offsets(self) -> list[int]:
        return [record.offset for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __str__(self) -> str:
        """For operators."""
        return f"{self.topic}-{self.partition}, offsets {self.base} to {self.end - 1}"

    def __repr__(self) -> str:
        return f"<Slice {self.topic}-{self.partition} {self.base}..{self.end}>"

    def done_when(self, *acknowledgements: Awaitable[Any]) -> None:
        """Done when all of these have succeeded, at once if there are none; one that fails ends the process.

        To be called once for each slice, in any order. Raises RuntimeError at a second call.
        """
        if self.begun:
            raise RuntimeError(f"done_when was called twice for {self!r}: give it all acknowledgements at once")
        self.begun = True
        self.progressed_at = time.monotonic()
        self.pending = len(acknowledgements)
        for future in map(asyncio.ensure_future, acknowledgements):
            if future.done():
                self._acknowledged(future)
            else:
                future.add_done_callback(self._acknowledged)
        if not acknowledgements:
            self._finish()

    def _acknowledged(self, future: "asyncio.Future[Any]") -> None:
        error = _error_of(future)
        if error is not None:
            self._on_failure(error)  # It stays pending, so that nothing of it is ever committed.
            return
        self.pending -= 1
        self.progressed_at = time.monotonic()
        if not self.pending:
            self._finish()

    def _finish(self) -> None:
        self._chain.finish(self._link)
        self._on_done(self)


def _error_of(future: "asyncio.Future[Any]") -> BaseException | None:
    if future.cancelled():
        return asyncio.CancelledError("an acknowledgement was cancelled")
    return future.exception()


class SliceSchema(Schema):
    """Hands the slice through: Faust's codecs would decode what is not one record."""

    def loads_key(self, app: AppT, message: Message, **kwargs: Any) -> Any:
        return message.key

    def loads_value(self, app: AppT, message: Message, **kwargs: Any) -> Any:
        return message.value
