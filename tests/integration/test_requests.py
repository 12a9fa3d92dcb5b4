"""Request and reply over a real broker: what is asked is answered once, by whom it was meant for, or told why not."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions, NewTopic

from emis_streams import topics
from emis_streams.broker_clock import BrokerClock
from emis_streams.services import messages
from emis_streams.services.client import CallOptions
from emis_streams.services.errors import NoAnswer, Refused, ServiceBroken, ServiceUnavailable
from emis_streams.services.messages import ReplyTo, Request
from tests.integration.engine_rig import admin
from tests.integration.service_rig import ASKING, Answering, Asking, asking
from tests.services import unique, until

ONCE = CallOptions(retries=0)
QUICK = CallOptions(timeout_seconds=0.5, first_wait_seconds=0.01)
DAY = 86_400.0
SKEWS = [12.0, -12.0, 700.0, -700.0, 8 * DAY, -8 * DAY]


def wrong_by(seconds: float) -> BrokerClock:
    """Of a machine whose clock is wrong."""
    return BrokerClock(wall=lambda: time.time() + seconds)


def _headers(request: Request) -> list[messages.Header]:
    return messages.request_headers(request, time.monotonic(), time.time())


@pytest.fixture(scope="module", autouse=True)
async def reply_topic(broker: str) -> None:
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topics.reply_topic(ASKING), 2, 1)])


@pytest.fixture
async def squares(broker: str, tmp_path: Path) -> AsyncIterator[Answering]:
    service = Answering(broker, tmp_path)
    await service.make_topics()
    async with service.running():
        yield service


@pytest.fixture
async def asker(broker: str) -> AsyncIterator[Asking]:
    async with asking(broker, ONCE) as one:
        yield one


async def test_a_request_gets_its_answer(squares: Answering, asker: Asking) -> None:
    assert await asker.client.send(squares.name, "square", {"number": 7}) == {"square": 49}
    assert asker.replies.pending() == []


async def test_many_at_once_each_get_their_own(squares: Answering, asker: Asking) -> None:
    calls = [asker.client.send(squares.name, "square", {"number": n}) for n in range(200, 400)]
    assert await asyncio.gather(*calls) == [{"square": n**2} for n in range(200, 400)]
    assert asker.replies.counts.in_time == 200


async def test_who_reads_another_partition_gets_none_of_them(broker: str, squares: Answering, asker: Asking) -> None:
    async with asking(broker, ONCE, partition=1) as other:
        await other.replies.positioned.wait()
        await asker.client.send(squares.name, "square", {"number": 7})
        await other.client.send(squares.name, "square", {"number": 8})
        assert (other.replies.counts.in_time, other.replies.counts.unknown) == (1, 0)


async def test_a_refusal_travels_back(squares: Answering, asker: Asking) -> None:
    with pytest.raises(Refused, match="13 is not squared here") as told:
        await asker.client.send(squares.name, "square", {"number": 13})
    assert told.value.kind == "unlucky"


@pytest.mark.parametrize(("pattern", "data", "kind"), [("cube", {}, "unknown-pattern"), ("square", {}, "invalid")])
async def test_what_the_service_cannot_read_is_refused(
    squares: Answering, asker: Asking, pattern: str, data: object, kind: str
) -> None:
    with pytest.raises(Refused) as told:
        await asker.client.send(squares.name, pattern, data)
    assert told.value.kind == kind


async def test_a_service_that_breaks_answers_so_and_goes_on(squares: Answering, asker: Asking) -> None:
    with pytest.raises(ServiceBroken):
        await asker.client.send(squares.name, "square", {"number": 99})
    assert await asker.client.send(squares.name, "square", {"number": 2}) == {"square": 4}


async def test_a_service_without_what_it_needs_is_asked_again(squares: Answering, asker: Asking) -> None:
    squares.is_unavailable = True
    with pytest.raises(ServiceUnavailable, match="no database"):
        await asker.client.send(squares.name, "square", {"number": 2})
    call = asyncio.create_task(asker.client.send(squares.name, "square", {"number": 3}, QUICK))
    await until(lambda: 3 in squares.begun)
    squares.is_unavailable = False
    assert await call == {"square": 9}


async def test_a_reply_that_is_too_large_is_told_as_such(squares: Answering, asker: Asking) -> None:
    with pytest.raises(Refused) as told:
        await asker.client.send(squares.name, "square", {"number": 0})
    assert told.value.kind == "too-large"


async def test_a_request_that_is_too_large_is_told_as_such(squares: Answering, asker: Asking) -> None:
    with pytest.raises(Refused) as told:
        await asker.client.send(squares.name, "square", "x" * 2_000_000)
    assert told.value.kind == "too-large"
    assert squares.begun == []


async def test_a_retry_while_the_first_is_carried_out_gets_its_result(squares: Answering, asker: Asking) -> None:
    squares.may_answer.clear()
    call = asyncio.create_task(asker.client.send(squares.name, "square", {"number": 5}, QUICK))
    await until(lambda: squares.requests.counts.repeated >= 1)
    squares.may_answer.set()
    assert await call == {"square": 25}
    assert squares.begun == [5]
    await until(lambda: asker.replies.counts.late >= 1)


async def test_the_same_key_with_another_content_is_refused(squares: Answering, asker: Asking) -> None:
    squares.may_answer.clear()
    first = asyncio.create_task(asker.client.send(squares.name, "square", {"number": 5}, idempotency_key="k"))
    await until(lambda: squares.begun == [5])
    with pytest.raises(Refused) as told:
        await asker.client.send(squares.name, "square", {"number": 6}, idempotency_key="k")
    squares.may_answer.set()
    assert told.value.kind == "key-reused"
    assert await first == {"square": 25}


async def test_a_request_that_nobody_waits_for_any_more_is_not_begun(squares: Answering, asker: Asking) -> None:
    reply_to = ReplyTo(topics.reply_topic(ASKING), 0)
    expired = Request("square", "k", b'{"number": 4}', 0.0, b"nobody", reply_to)
    await asker.sender.send_and_wait(topics.request_topic(squares.name), b"k", expired.value, _headers(expired))
    await until(lambda: squares.requests.counts.expired == 1)
    assert squares.begun == []


@pytest.mark.parametrize("skew", SKEWS)
async def test_a_service_with_a_wrong_clock_answers_at_once_and_begins_nothing_that_is_over(
    broker: str, asker: Asking, tmp_path: Path, skew: float, caplog: pytest.LogCaptureFixture
) -> None:
    service = Answering(broker, tmp_path, clock=wrong_by(skew))
    await service.make_topics()
    with pytest.raises(NoAnswer):  # The service is away for longer than anybody waits.
        await asker.client.send(service.name, "square", {"number": 4}, CallOptions(timeout_seconds=0.4, retries=0))
    over = Request("square", "k", b"{}", time.monotonic() + 0.05, b"nobody", asker.replies.reply_to)
    await asker.sender.send_and_wait(topics.request_topic(service.name), b"k", over.value, _headers(over))
    await until(lambda: time.monotonic() > over.expires_at)
    async with service.running():
        await until(lambda: service.requests.counts.expired == 1)
        assert await asker.client.send(service.name, "square", {"number": 5}) == {"square": 25}
    assert "square: not carried out, as nobody waits for it any more" in caplog.text


@pytest.mark.parametrize("skew", SKEWS)
async def test_an_asker_with_a_wrong_clock_is_answered(broker: str, tmp_path: Path, skew: float) -> None:
    service = Answering(broker, tmp_path, clock=BrokerClock())
    await service.make_topics()
    async with service.running(), asking(broker, ONCE, clock=wrong_by(skew)) as one:
        assert await one.client.send(service.name, "square", {"number": 5}) == {"square": 25}
        assert service.requests.counts.expired == 0


async def test_an_asker_of_version_1_0_is_answered_by_a_service_with_a_wrong_clock(
    broker: str, asker: Asking, tmp_path: Path
) -> None:
    service = Answering(broker, tmp_path, clock=wrong_by(12.0))
    await service.make_topics()
    now_ms = int(time.time() * 1000)
    topic = topics.request_topic(service.name)
    async with service.running():
        for key, deadline_ms in ((b"over", now_ms - 1000), (b"waits", now_ms + 8000)):
            headers = [("pattern", b"square"), ("idempotency-key", key), ("deadline-ms", b"%d" % deadline_ms)]
            await asker.sender.send_and_wait(topic, key, b'{"number": 6}', headers)
        await until(lambda: service.begun == [6] and service.requests.counts.expired == 1)


async def test_what_is_emitted_is_carried_out_without_anybody_waiting(squares: Answering, asker: Asking) -> None:
    await asker.client.emit(squares.name, "square", {"number": 6})
    await until(lambda: squares.begun == [6])


async def test_what_is_emitted_while_the_service_is_away_is_carried_out_later(
    broker: str, asker: Asking, tmp_path: Path
) -> None:
    service = Answering(broker, tmp_path)
    await service.make_topics()
    await asker.client.emit(service.name, "square", {"number": 6})
    async with service.running():
        await until(lambda: service.begun == [6])


async def test_what_is_emitted_and_can_never_be_done_becomes_a_dead_letter(squares: Answering, asker: Asking) -> None:
    for data in ({"number": 13}, {"number": 99}, {"number": "many"}):
        await asker.client.emit(squares.name, "square", data)
    await until(lambda: len(squares.dead) == 3)
    assert sorted(reason.split(":")[1].strip() for _, reason in squares.dead) == [
        "KeyError('a mistake')",
        "invalid",
        "unlucky",
    ]


async def test_a_record_that_is_no_request_becomes_a_dead_letter_and_the_next_is_answered(
    squares: Answering, asker: Asking
) -> None:
    await asker.sender.send_and_wait(topics.request_topic(squares.name), b"k", b"garbage", [])
    await until(lambda: squares.dead == [(b"garbage", "header pattern: missing")])
    assert await asker.client.send(squares.name, "square", {"number": 2}) == {"square": 4}


async def test_a_request_whose_reply_partition_is_not_there_stops_nobody(squares: Answering, asker: Asking) -> None:
    reply_to = ReplyTo(topics.reply_topic(ASKING), 77)
    astray = Request("square", "k", b'{"number": 4}', time.monotonic() + 1, b"c", reply_to)
    await asker.sender.send_and_wait(topics.request_topic(squares.name), b"k", astray.value, _headers(astray))
    await until(lambda: squares.requests.counts.unreplied == 1)
    assert await asker.client.send(squares.name, "square", {"number": 2}) == {"square": 4}


async def test_nobody_there_is_told_after_the_time_out(broker: str, asker: Asking, tmp_path: Path) -> None:
    absent = Answering(broker, tmp_path)
    await absent.make_topics()
    options = CallOptions(retries=0, timeout_seconds=0.3)
    with pytest.raises(NoAnswer, match=r"no answer within 0\.3 s"):
        await asker.client.send(absent.name, "square", {"number": 2}, options)
    assert asker.replies.pending() == []


async def test_a_reply_partition_that_the_topic_does_not_have_is_named_until_the_topic_is_widened(broker: str) -> None:
    name = unique("narrow")
    topic = topics.reply_topic(name)
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topic, 2, 1)])
        async with asking(broker, name=name, partition=2) as asker:
            reason = await until(lambda: asker.replies.waiting_for)
            assert reason.startswith(f"{topic} has 2 partitions, and no partition 2: set REPLY_PARTITION to a lower")
            assert f"kafka-topics.sh --alter --topic {topic} --partitions 3" in reason
            assert not asker.replies.positioned.is_set()
            await client.create_partitions({topic: NewPartitions(3)})
            await until(asker.replies.positioned.is_set)
            assert asker.replies.waiting_for is None
