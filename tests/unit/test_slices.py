"""A slice counts as done when all of its acknowledgements have succeeded, and never else."""

import asyncio
from dataclasses import dataclass, field

import pytest
from aiokafka import TopicPartition

from emis_streams.engine.chain import Broken, Chain
from emis_streams.engine.fetch import Fetched
from emis_streams.engine.slices import Slice

TP = TopicPartition("events", 3)


@dataclass
class Partition:
    """A chain, and what became of its slices."""

    chain: Chain = field(default_factory=lambda: Chain(0))
    done: list[Slice] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def slice(self, base: int, end: int) -> Slice:
        return Slice(Fetched(TP, base, end, [object()] * (end - base)), self.chain, 1, self.done.append, self.failed)

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)


@pytest.fixture
def partition() -> Partition:
    return Partition()


def future() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


def succeeded() -> "asyncio.Future[None]":
    found = future()
    found.set_result(None)
    return found


async def called_back() -> None:
    """Lets the loop call what waits for a future."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_done_at_once_without_acknowledgements(partition: Partition) -> None:
    batch = partition.slice(0, 5)
    batch.done_when()
    assert batch.is_done
    assert partition.done == [batch]
    assert partition.chain.done_offset == 5


async def test_done_at_once_when_all_were_acknowledged_before(partition: Partition) -> None:
    batch = partition.slice(0, 5)
    batch.done_when(succeeded(), succeeded())
    assert partition.done == [batch]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_done_when_the_last_acknowledgement_comes(partition: Partition, order: tuple[int, ...]) -> None:
    batch = partition.slice(0, 5)
    waited = [future() for _ in order]
    batch.done_when(*waited, succeeded())
    for missing, place in zip((3, 2, 1), order, strict=True):
        assert batch.pending == missing
        assert not batch.is_done
        waited[place].set_result(None)
        await called_back()
    assert partition.done == [batch]
    assert partition.failures == []


async def test_done_when_is_called_once(partition: Partition) -> None:
    """Of two agents with the same slice the first one would say for both that it is done."""
    batch = partition.slice(0, 5)
    batch.done_when(future())
    with pytest.raises(RuntimeError, match=r"twice for <Slice events-3 0\.\.5>"):
        batch.done_when()
    assert not batch.is_done


async def test_a_coroutine_is_an_acknowledgement_as_well(partition: Partition) -> None:
    batch = partition.slice(0, 5)
    batch.done_when(called_back())
    assert not batch.is_done
    await called_back()
    await called_back()
    assert batch.is_done


async def test_begun_as_soon_as_the_agent_says_what_it_waits_for(partition: Partition) -> None:
    batch = partition.slice(0, 5)
    assert not batch.begun
    batch.done_when(future())
    assert batch.begun
    assert not batch.is_done


@pytest.mark.parametrize("before", [True, False], ids=["failed before", "fails later"])
async def test_a_failed_acknowledgement_is_told_and_nothing_is_ever_done(partition: Partition, before: bool) -> None:
    batch = partition.slice(0, 5)
    failing, other = future(), future()
    if before:
        failing.set_exception(OSError("refused"))
    batch.done_when(failing, other)
    if not before:
        failing.set_exception(OSError("refused"))
        await called_back()
    other.set_result(None)
    await called_back()
    assert [str(error) for error in partition.failures] == ["refused"]
    assert partition.done == []
    assert partition.chain.done_offset == 0


@pytest.mark.parametrize("before", [True, False], ids=["cancelled before", "cancelled later"])
async def test_a_cancelled_acknowledgement_is_a_failure(partition: Partition, before: bool) -> None:
    batch = partition.slice(0, 5)
    cancelled = future()
    if before:
        cancelled.cancel()
    batch.done_when(succeeded(), cancelled)
    cancelled.cancel()
    await called_back()
    assert [type(error) for error in partition.failures] == [asyncio.CancelledError]
    assert not batch.is_done


async def test_a_later_slice_that_is_acknowledged_first_waits_for_the_earlier_one(partition: Partition) -> None:
    first, second = partition.slice(0, 5), partition.slice(5, 9)
    late = future()
    first.done_when(late)
    second.done_when(succeeded())
    assert second.is_done
    assert partition.chain.done_offset == 0
    late.set_result(None)
    await called_back()
    assert partition.chain.done_offset == 9
    assert partition.done == [second, first]


async def test_a_slice_after_a_dropped_one_cannot_be_made(partition: Partition) -> None:
    partition.slice(0, 5)
    with pytest.raises(Broken):
        partition.slice(7, 9)


async def test_a_slice_names_its_place_in_the_log(partition: Partition) -> None:
    partition.slice(0, 5)
    batch = partition.slice(5, 8)
    assert (batch.topic, batch.partition, batch.base, batch.end, len(batch)) == ("events", 3, 5, 8, 3)
    assert repr(batch) == "<Slice events-3 5..8>"
