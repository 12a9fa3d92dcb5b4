"""A sink that never answers: the follower says so, to the watchdog, to probes and to `/health`."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from emis_streams.engine.follower import ChangelogSlice, Follower, Position
from emis_streams.following import READ_MODEL, FollowerView
from emis_streams.topics import CLASSES
from tests.memory_log import Brokers, Log
from tests.services import until

TP = TopicPartition(CLASSES.changelog, 0)
LIMIT_SECONDS = 60.0


class Away(Exception):
    """What the sink keeps its rows in cannot be reached."""


class SilentSink:
    """Answers what it may answer."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.failures = 0

    async def positions(self, _tps: Iterable[TopicPartition]) -> dict[TopicPartition, Position]:
        await self._answer()
        return {}

    async def reset(self, _tp: TopicPartition) -> None:
        await self._answer()

    async def apply(self, _slices: Sequence[ChangelogSlice]) -> None:
        await self._answer()

    async def _answer(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Away("no answer in time")
        await self.may_answer.wait()


def later_one(row: bytes, _stored: bytes | None) -> bytes:
    return row


def a_follower(sink: SilentSink, **changes: Any) -> Follower:
    follower = Follower(
        name="a-copy",
        client={},
        sink=sink,
        merge=lambda row, _stored: row,
        wait_for=(Away,),
        partitions=[TP],
        **changes,
    )
    follower._consumer = Brokers({TP: Log("f" * 32)})
    return follower


def asked(follower: Follower, call: str) -> "asyncio.Task[None]":
    if call == "positions":
        return asyncio.create_task(follower.position([TP]))
    return asyncio.create_task(follower._apply([]))


@pytest.mark.parametrize("call", ["positions", "apply"])
async def test_one_that_does_not_answer_within_the_limit_is_a_standstill(call: str) -> None:
    sink = SilentSink()
    follower = a_follower(sink)
    task = asked(follower, call)
    await until(lambda: follower.sink_unanswered_seconds(time.monotonic()) > 0)
    later = time.monotonic() + LIMIT_SECONDS
    assert follower.standstill(later, LIMIT_SECONDS * 2) is None
    assert follower.standstill(later, LIMIT_SECONDS / 2) == "the sink of a-copy has not answered for 60 s"
    sink.may_answer.set()
    await task
    assert follower.standstill(later, 0.0) is None


@pytest.mark.parametrize("call", ["positions", "apply"])
async def test_one_with_a_time_out_of_its_own_gets_that_on_top(call: str) -> None:
    follower = a_follower(SilentSink(), sink_apply_seconds=600.0, sink_positions_seconds=600.0)
    task = asked(follower, call)
    await until(lambda: follower.sink_unanswered_seconds(time.monotonic()) > 0)
    now = time.monotonic()
    assert follower.standstill(now + 610.0, LIMIT_SECONDS) is None
    assert follower.standstill(now + 670.0, LIMIT_SECONDS) is not None
    task.cancel()


async def test_one_that_answers_with_errors_is_waited_for_and_no_standstill() -> None:
    """And if it falls silent after that, the reason of before does not hide it."""
    sink = SilentSink()
    sink.failures = 2
    follower = a_follower(sink)
    task = asked(follower, "apply")
    assert await until(lambda: follower.waiting_for) == "Away: no answer in time"
    await until(lambda: follower.sink_unanswered_seconds(time.monotonic()) > 0)
    assert follower.standstill(time.monotonic() + LIMIT_SECONDS * 2, LIMIT_SECONDS) is not None
    task.cancel()


@pytest.mark.parametrize(
    ("seconds", "watchdog_seconds", "shown"),
    [(9.0, 60.0, None), (12.0, 60.0, "it has not answered for 12 s"), (4.0, 6.0, "it has not answered for 4 s")],
)
def test_pages_show_it_as_waiting_before_the_watchdog_acts(
    seconds: float, watchdog_seconds: float, shown: str | None
) -> None:
    follower: Any = SimpleNamespace(
        caught_up=True,
        next_offsets={},
        records_total=0,
        waiting_for=None,
        open_transaction=None,
        last_progress=0.0,
        row_filter=SimpleNamespace(invalid={}),
        sink_unanswered_seconds=lambda _now: seconds,
    )
    assert FollowerView(READ_MODEL, follower, watchdog_seconds).status().waiting_for == shown
