"""Whether a worker may send: only while the group is known to hear of it."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from emis_streams.engine.membership import Membership, SessionLost
from tests.services import until

SESSION_SECONDS = 10.0


def a_membership(silent_seconds: float, *, generation: int = 7) -> tuple[Membership, Any]:
    """Of a member whose last answered heartbeat was that long ago; and its coordinator, which answers again."""

    async def answered() -> bool:
        return True

    coordinator = SimpleNamespace(
        generation=generation, coordinator_id=1, _do_heartbeat=answered, coordinator_dead=lambda: None
    )
    membership = Membership()
    membership.watch(coordinator)
    membership.note_answer()
    membership.last_heartbeat -= silent_seconds
    return membership, coordinator


async def test_a_member_that_was_heard_of_in_time_may_send() -> None:
    membership, _ = a_membership(9.0)
    await asyncio.wait_for(membership.certain(SESSION_SECONDS), 1)


async def test_a_member_whose_coordinator_was_away_sends_when_that_answers_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    membership, coordinator = a_membership(30.0)
    with caplog.at_level(logging.WARNING):
        sending = [asyncio.create_task(membership.certain(SESSION_SECONDS)) for _ in range(3)]
        await until(lambda: "nothing is sent" in caplog.text)
        assert not any(task.done() for task in sending)
        await coordinator._do_heartbeat()
        await asyncio.wait_for(asyncio.gather(*sending), 1)
    assert caplog.text.count("nothing is sent") == caplog.text.count("goes on") == 1


async def test_a_heartbeat_counts_from_when_it_was_sent() -> None:
    membership, coordinator = a_membership(30.0)
    answer = asyncio.Event()

    async def late() -> bool:
        await answer.wait()
        return True

    coordinator._do_heartbeat = late
    membership.watch(coordinator)
    beating = asyncio.create_task(coordinator._do_heartbeat())
    await asyncio.sleep(0.2)
    answer.set()
    await beating
    assert membership.seconds_since_heartbeat() >= 0.2


async def test_a_member_that_the_group_no_longer_knows_must_not_send() -> None:
    membership, _ = a_membership(11.0, generation=-1)
    with pytest.raises(SessionLost):
        await asyncio.wait_for(membership.certain(SESSION_SECONDS), 1)


def test_that_the_coordinator_is_lost_and_when_is_known() -> None:
    membership, coordinator = a_membership(0.0)
    assert membership.has_coordinator
    assert membership.coordinator_lost_at == 0.0
    coordinator.coordinator_dead()
    coordinator.coordinator_id = None
    assert not membership.has_coordinator
    assert membership.coordinator_lost_at > 0.0
