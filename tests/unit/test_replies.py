"""Replies to one process: who waited gets it, and what nobody waits for is counted as what it is."""

import asyncio
from contextlib import suppress

import pytest

from emis_streams.services import messages
from emis_streams.services.errors import NotSent
from emis_streams.services.messages import ReplyTo
from emis_streams.services.replies import _REMEMBERED, Replies


@pytest.fixture
def replies() -> Replies:
    return Replies({}, ReplyTo("emis.reply.gateway", 3))


def reply_to(correlation_id: bytes) -> tuple[list[messages.Header], bytes]:
    return messages.reply(correlation_id, "done")


async def given_up(replies: Replies) -> bytes:
    """The correlation id of a request that nobody waits for any more."""
    with suppress(TimeoutError), replies.expecting("lessons", "get-lesson") as (correlation_id, reply):
        await asyncio.wait_for(reply, 0)
    return correlation_id


async def test_each_reply_goes_to_the_one_who_asked(replies: Replies) -> None:
    with (
        replies.expecting("lessons", "get-lesson") as (first, first_reply),
        replies.expecting("lessons", "get-lesson") as (second, second_reply),
    ):
        replies.take(*messages.reply(second, 2))
        replies.take(*messages.reply(first, 1))
        assert messages.result_of(*await first_reply) == 1
        assert messages.result_of(*await second_reply) == 2
    assert replies.counts.in_time == 2


async def test_who_waits_is_listed(replies: Replies) -> None:
    with replies.expecting("lessons", "get-lesson"), replies.expecting("users", "get-user"):
        assert [(p.service, p.pattern) for p in replies.pending()] == [("lessons", "get-lesson"), ("users", "get-user")]
    assert replies.pending() == []


async def test_a_reply_after_the_one_who_asked_has_gone_is_late_and_then_a_duplicate(replies: Replies) -> None:
    correlation_id = await given_up(replies)
    replies.take(*reply_to(correlation_id))
    assert replies.counts.late == 1
    replies.take(*reply_to(correlation_id))
    assert (replies.counts.late, replies.counts.duplicate) == (1, 1)


async def test_a_second_reply_is_a_duplicate(replies: Replies) -> None:
    with replies.expecting("lessons", "get-lesson") as (correlation_id, reply):
        replies.take(*messages.reply(correlation_id, "first"))
        replies.take(*messages.reply(correlation_id, "second"))
        assert messages.result_of(*await reply) == "first"
    assert (replies.counts.in_time, replies.counts.duplicate) == (1, 1)


async def test_what_answers_no_request_of_this_process_is_left_out(
    replies: Replies, caplog: pytest.LogCaptureFixture
) -> None:
    other = Replies({}, replies.reply_to)
    with other.expecting("lessons", "get-lesson") as (correlation_id, _):
        replies.take(*reply_to(correlation_id))
    with replies.expecting("lessons", "get-lesson") as (correlation_id, _):
        never_given = correlation_id[:8] + (99).to_bytes(8, "big")
        for strange in (b"", b"x", correlation_id[:-1], correlation_id + b"x", never_given):
            replies.take(*reply_to(strange))
        for headers in ([], [("correlation-id", None)], [("correlation-id", correlation_id)] * 2, [("", None)]):
            replies.take(headers, None)
    assert (replies.counts.unknown, replies.counts.in_time) == (10, 0)
    assert caplog.text.count("left out") == 1


async def test_no_more_requests_wait_than_there_is_room_for(replies: Replies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emis_streams.services.replies._MOST_PENDING", 2)
    with (
        replies.expecting("lessons", "get-lesson"),
        replies.expecting("lessons", "get-lesson"),
        pytest.raises(NotSent, match="2 requests wait"),
        replies.expecting("lessons", "get-lesson"),
    ):
        pass
    with replies.expecting("lessons", "get-lesson"):
        assert len(replies.pending()) == 1


async def test_what_is_remembered_of_requests_without_an_answer_is_bounded(replies: Replies) -> None:
    for _ in range(_REMEMBERED + 5):
        await given_up(replies)
    assert len(replies._given_up) == len(replies._given_up_in_order) == _REMEMBERED
