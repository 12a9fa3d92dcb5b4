"""Turns of requests in a service: how many at once, in which order, how long anybody waits, and that none is lost."""

import asyncio

import pytest

from emis_streams.services.concurrency_limit import Bounds
from emis_streams.services.errors import ServiceOverloaded
from emis_streams.services.waiting_room import WaitingRoom, Waits
from tests.services import until
from tests.unit.test_circuit_breaker import Clock

NEVER = 3_600.0


def room_of(most: int, burst: float = NEVER, standing: float = NEVER, clock: Clock | None = None) -> WaitingRoom:
    bounds = Bounds(minimum=1, maximum=most, goal_seconds=NEVER)
    return WaitingRoom(bounds, Waits(burst_seconds=burst, standing_seconds=standing), clock or Clock())


async def enter(room: WaitingRoom) -> float:
    """As `Requests` does."""
    begun = room.enter_at_once()
    return await room.wait() if begun is None else begun


async def test_as_many_as_there_is_room_for_go_on_and_the_others_in_their_order() -> None:
    room, order = room_of(2), []

    async def ask(number: int) -> None:
        begun = await enter(room)
        order.append(number)
        room.leave(begun)

    held = [await enter(room), await enter(room)]
    asking = [asyncio.create_task(ask(n)) for n in range(5)]
    await until(lambda: room.n_waiting == 5)
    assert order == []
    for begun in held:
        room.leave(begun)
    await asyncio.gather(*asking)
    assert order == [0, 1, 2, 3, 4]
    assert (room.in_flight, room.n_waiting) == (0, 0)


async def test_a_request_that_gets_no_turn_is_told_so() -> None:
    room = room_of(1, burst=0.01)
    begun = await enter(room)
    with pytest.raises(ServiceOverloaded, match=r"no turn within 0\.01 s"):
        await enter(room)
    room.leave(begun)
    room.leave(await enter(room))
    assert (room.in_flight, room.n_waiting) == (0, 0)


async def test_in_a_standing_queue_nobody_waits_for_long() -> None:
    clock = Clock()
    room = room_of(1, burst=0.5, standing=0.01, clock=clock)
    begun = await enter(room)
    first = asyncio.create_task(enter(room))
    await until(lambda: room.n_waiting == 1)
    clock.now += 0.6  # The queue has not been empty for longer than a burst may wait.
    with pytest.raises(ServiceOverloaded, match=r"0\.01 s"):
        await enter(room)
    room.leave(begun)
    room.leave(await first)
    assert (room.in_flight, room.n_waiting) == (0, 0)


async def test_a_cancelled_request_leaves_its_place_to_the_next() -> None:
    room = room_of(1)
    begun = await enter(room)
    waiting = [asyncio.create_task(enter(room)) for _ in range(3)]
    await until(lambda: room.n_waiting == 3)
    waiting[0].cancel()
    room.leave(begun)  # The first one's turn comes in the moment that it is cancelled.
    waiting[1].cancel()
    room.leave(await waiting[2])
    assert (room.in_flight, room.n_waiting) == (0, 0)
    assert waiting[0].cancelled()
    assert waiting[1].cancelled()


async def test_a_turn_that_comes_in_the_moment_of_cancelling_is_handed_on() -> None:
    room = room_of(1)
    begun = await enter(room)
    waiting = [asyncio.create_task(enter(room)) for _ in range(2)]
    await until(lambda: room.n_waiting == 2)
    room.leave(begun)
    waiting[0].cancel()
    room.leave(await waiting[1])
    assert (room.in_flight, room.n_waiting) == (0, 0)


async def test_it_makes_room_for_fewer_while_requests_are_slow() -> None:
    clock = Clock()
    room = WaitingRoom(Bounds(minimum=2, maximum=16, goal_seconds=0.5), clock=clock)
    for _ in range(10):
        begun = await enter(room)
        clock.now += 3.0
        room.leave(begun)
    assert room.limit == 2


async def test_what_says_nothing_about_how_long_requests_take_changes_nothing() -> None:
    clock = Clock()
    room = WaitingRoom(Bounds(minimum=2, maximum=16, goal_seconds=0.5), clock=clock)
    for _ in range(10):
        await enter(room)
        clock.now += 3.0
        room.leave(None)
    assert (room.limit, room.in_flight) == (16, 0)
