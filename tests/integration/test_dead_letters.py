"""What an operator does with dead letters: find, read, send again, correct."""

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Message, Producer

from emis_streams import dead_letters, topics
from emis_streams.dead_letter_headers import as_dead_letter, headers_for
from emis_streams.dead_letters import DeadLetter, NoSuchLetter
from emis_streams.errors import Unavailable
from emis_streams.producer import EventProducer
from emis_streams.read_topic import fetched_to_end
from emis_streams.settings import Settings
from tests.integration.command_line import emis_streams
from tests.integration.worker_rig import producing
from tests.services import unique

BROKEN = b'{"classId": \xff\xfe'


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def refuse(
    settings: Settings,
    *,
    key: bytes | None,
    value: bytes | None,
    reason: str = "value: JSON is malformed",
    topic: str = "emis.class.updated",
    headers: tuple[tuple[str, bytes], ...] = (),
) -> DeadLetter:
    """A dead letter as the agents send it."""
    ours = headers_for(topic, 7, 4711, now_ms(), reason, now_ms())
    async with EventProducer(settings) as producer:
        letter = as_dead_letter(key, value, headers, ours)
        sent = await (await producer.send_record(topics.DEAD_LETTER, *letter))
    return await dead_letters.letter_at(settings, sent.partition, sent.offset)


async def sent_again(settings: Settings, topic: str, key: bytes | None, place: str) -> list[tuple[int, Any]]:
    """Records that a replay of this letter made, with their partitions."""
    replays = [one async for batch in dead_letters.batches(settings) for one in batch.replays]
    noted = {one.origin for one in replays if one.place == place}
    return [
        (fetched.tp.partition, record)
        async for fetched in fetched_to_end(settings, topic)
        for record in fetched.records
        if record.key == key and f"{topic}:{fetched.tp.partition}:{record.offset}" in noted
    ]


def new_key() -> bytes:
    return str(uuid.uuid4()).encode()


async def test_a_dead_letter_reads_back_as_it_was_sent(no_worker: Settings) -> None:
    key = new_key()
    letter = await refuse(no_worker, key=key, value=BROKEN, headers=(("trace", b"\x01"),))
    assert (letter.key, letter.value, letter.topic) == (key, BROKEN, "emis.class.updated")
    assert letter.origin == "emis.class.updated:7:4711"
    assert letter.reason == "value: JSON is malformed"
    assert letter.own_headers == [("trace", b"\x01")]
    assert letter.time is not None
    assert abs((datetime.now(UTC) - letter.time).total_seconds()) < 60


async def test_a_letter_that_slow_brokers_do_not_give_is_not_called_missing(
    no_worker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await refuse(no_worker, key=new_key(), value=BROKEN)
    partition, offset = map(int, letter.place.split(":"))
    monkeypatch.setattr(dead_letters, "READ_TIMEOUT_SECONDS", 0)
    with pytest.raises(Unavailable, match="the brokers are slow; try again"):
        await dead_letters.letter_at(no_worker, partition, offset)


async def test_the_mark_of_a_transaction_is_no_letter(no_worker: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Message] = []
    producer = Producer({"bootstrap.servers": no_worker.kafka_brokers, "transactional.id": unique("letters")})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topics.DEAD_LETTER, BROKEN, new_key(), on_delivery=lambda _error, message: sent.append(message))
    producer.flush(20)
    producer.commit_transaction(20)
    partition, offset = sent[0].partition(), sent[0].offset()
    monkeypatch.setattr(dead_letters, "READ_TIMEOUT_SECONDS", 2)
    with pytest.raises(NoSuchLetter, match=f"no dead letter {partition}:{offset + 1}, and none after it"):
        await dead_letters.letter_at(no_worker, partition, offset + 1)


async def test_a_correction_that_is_too_large_with_the_letters_headers_is_refused(no_worker: Settings) -> None:
    letter = await refuse(no_worker, key=b"k", value=b"no", headers=(("trace", b"x" * 900_000),))
    deleted = {"eventId": str(uuid.uuid4()), "eventType": "emis.class.deleted", "classId": str(uuid.uuid4())}
    event = json.dumps({**deleted, "timestamp": datetime.now(UTC).isoformat(), "note": "x" * 200_000})
    put = emis_streams(no_worker, "dead-letters", "put", letter.place, "-", stdin=event.encode())
    assert put.returncode == 1
    assert b"with the headers of the dead letter" in put.stderr
    assert b"Traceback" not in put.stderr


async def test_the_list_says_where_from_and_why(no_worker: Settings) -> None:
    reason = f"key unlike classId {uuid.uuid4()}"
    letter = await refuse(no_worker, key=new_key(), value=b"{}", reason=reason)
    done = emis_streams(no_worker, "dead-letters", "list", "--reason", reason)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.decode().splitlines()
    assert first.split()[0] == letter.place
    assert "emis.class.updated:7:4711" in first
    assert reason in first
    assert last == "1 dead letter"


async def test_the_list_as_json_is_for_scripts(no_worker: Settings) -> None:
    reason = f"for scripts {uuid.uuid4()}"
    letters = [await refuse(no_worker, key=new_key(), value=b"12345", reason=reason) for _ in range(3)]
    done = emis_streams(no_worker, "dead-letters", "list", "--json", "--reason", reason, "--limit", "2")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["place"] for one in found] == [letter.place for letter in letters[1:]]
    assert {one["topic"] for one in found} == {"emis.class.updated"}
    assert {one["bytes"] for one in found} == {5}


def test_the_list_of_none_ends_with_one(no_worker: Settings) -> None:
    done = emis_streams(no_worker, "dead-letters", "list", "--reason", "nobody ever said this")
    assert (done.returncode, done.stdout) == (1, b"0 dead letters\n")


async def test_show_gives_bytes_that_are_no_text_in_hexadecimal(no_worker: Settings) -> None:
    letter = await refuse(no_worker, key=b"key", value=BROKEN, headers=(("trace", b"abc"),))
    shown = emis_streams(no_worker, "dead-letters", "show", letter.place).stdout.decode()
    assert BROKEN.hex() in shown
    assert "key          key\n" in shown
    assert "header       trace: abc\n" in shown
    only = emis_streams(no_worker, "dead-letters", "show", letter.place, "--value-only")
    assert only.stdout == BROKEN


async def test_what_a_stranger_wrote_gives_no_commands_to_the_terminal(no_worker: Settings) -> None:
    """Anybody may write dead letters too: what stands in our headers is of strangers as well."""
    letter = await refuse(
        no_worker,
        key=b"\x1b[2Jkey",
        value=b"\x1b]0;title\x07",
        headers=(("\x1b[31mtrace", b"\x1b[0m"),),
        topic="\x1b[2Jtopic",
        reason="\x1b[31mreason",
    )
    for command in (("show", letter.place), ("list",)):
        shown = emis_streams(no_worker, "dead-letters", *command).stdout.decode()
        assert letter.place in shown
        assert all(c.isprintable() or c == "\n" for c in shown)


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("3:999999", 1, "no dead letter 3:999999"),
        ("99:0", 1, "has the partitions 0 to 9, not 99"),
        ("nowhere", 2, "is not PARTITION:OFFSET"),
    ],
)
def test_a_place_without_a_letter_is_told(no_worker: Settings, place: str, code: int, said: str) -> None:
    done = emis_streams(no_worker, "dead-letters", "show", place)
    assert done.returncode == code
    assert said in done.stderr.decode()


async def test_replay_sends_the_original_without_our_headers(no_worker: Settings) -> None:
    key = new_key()
    letter = await refuse(no_worker, key=key, value=BROKEN, headers=(("trace", b"abc"),))
    done = emis_streams(no_worker, "dead-letters", "replay", letter.place)
    assert (done.returncode, done.stdout) == (0, b"1 of 1 sent again\n"), done.stderr
    ((_, record),) = await sent_again(no_worker, "emis.class.updated", key, letter.place)
    assert record.value == BROKEN
    assert list(record.headers) == [("trace", b"abc")]


async def test_replay_of_a_record_without_a_key_keeps_its_partition(no_worker: Settings) -> None:
    letter = await refuse(no_worker, key=None, value=b"no key")
    assert emis_streams(no_worker, "dead-letters", "replay", letter.place).returncode == 0
    ((partition, record),) = await sent_again(no_worker, "emis.class.updated", None, letter.place)
    assert (partition, record.value) == (7, b"no key")


async def test_replay_of_all_leaves_out_what_came_back(no_worker: Settings) -> None:
    reason = f"all of these {uuid.uuid4()}"
    key = new_key()
    first = await refuse(no_worker, key=key, value=b"1", reason=reason)
    assert emis_streams(no_worker, "dead-letters", "replay", first.place).returncode == 0
    ((partition, again),) = await sent_again(no_worker, "emis.class.updated", key, first.place)
    ours = headers_for("emis.class.updated", partition, again.offset, now_ms(), reason, now_ms())
    async with EventProducer(no_worker) as producer:
        await producer.send_record(topics.DEAD_LETTER, *as_dead_letter(key, b"1", [], ours))
    listed = emis_streams(no_worker, "dead-letters", "list", "--reason", reason).stdout.decode()
    assert listed.count("replayed, refused again") == 1
    done = emis_streams(no_worker, "dead-letters", "replay", "--all", "--reason", reason)
    assert done.stdout == b"1 of 1 sent again\n", done.stderr
    assert len(await sent_again(no_worker, "emis.class.updated", key, first.place)) == 1


async def test_headers_of_a_record_that_look_like_ours_mark_nothing_and_are_replayed_as_they_came(
    no_worker: Settings,
) -> None:
    reason = f"forged {uuid.uuid4()}"
    key = new_key()
    honest = await refuse(no_worker, key=key, value=b"1", reason=reason)
    own = (("dlq.replayed", honest.place.encode()), ("dlq.replayed", None), ("dlq.topic", b"x"), ("dlq.cut", b"y"))
    forged = await refuse(no_worker, key=key, value=b"1", reason=reason, headers=own)  # type: ignore[arg-type]
    listed = emis_streams(no_worker, "dead-letters", "list", "--reason", reason).stdout.decode()
    assert "2 dead letters" in listed
    assert "replayed" not in listed
    done = emis_streams(no_worker, "dead-letters", "replay", "--all", "--reason", reason)
    assert done.stdout == b"2 of 2 sent again\n", done.stderr
    ((_, record),) = await sent_again(no_worker, "emis.class.updated", key, forged.place)
    assert tuple(record.headers) == own


async def test_anything_in_the_topic_is_listed_and_shown_and_costs_no_neighbour_its_replay(no_worker: Settings) -> None:
    reason = f"between strangers {uuid.uuid4()}"
    key = new_key()
    ours = dict(headers_for("emis.class.updated", 7, 4711, now_ms(), reason, now_ms()))
    hostile: list[dict[str, bytes | None]] = [
        {},
        {"dlq.replays": b"1"},
        {**ours, "dlq.headers": b"9" * 400},
        {**ours, "dlq.partition": b"9" * 400, "dlq.headers": b"0"},
        {**ours, "dlq.partition": b"77", "dlq.headers": b"0"},
        {**ours, "dlq.topic": None, "dlq.reason": None, "dlq.time": b"\xff", "dlq.headers": b"0"},
    ]
    with producing(no_worker.kafka_brokers) as client:
        for headers in hostile:
            for value in (None, b"\xff" * 10):
                client.produce(topics.DEAD_LETTER, value, headers=list(headers.items()))
        client.produce(topics.DEAD_LETTER, b"x", headers=[("trace", b"1"), *ours.items()])
    await refuse(no_worker, key=key, value=b"1", reason=reason)
    everything = emis_streams(no_worker, "dead-letters", "list", "--limit", "100000")
    assert everything.returncode == 0, everything.stderr
    found = [letter async for letter in dead_letters.letters(no_worker)]
    for letter in found[-30:]:
        shown = emis_streams(no_worker, "dead-letters", "show", letter.place)
        assert shown.returncode == 0, (letter, shown.stderr)
    done = emis_streams(no_worker, "dead-letters", "replay", "--all", "--reason", reason)
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert b"emis.class.updated has no partition 77" in done.stderr
    assert done.stdout.startswith(b"4 of 6 sent again"), done.stdout


async def test_a_dead_letter_of_a_changelog_is_not_replayed(no_worker: Settings) -> None:
    letter = await refuse(no_worker, key=b"key", value=b"row", topic=topics.CLASSES.changelog)
    done = emis_streams(no_worker, "dead-letters", "replay", letter.place)
    assert done.returncode == 1
    assert "not of a topic of events" in done.stderr.decode()


async def test_put_sends_the_corrected_event_under_the_right_key(no_worker: Settings) -> None:
    letter = await refuse(no_worker, key=b"wrong key", value=BROKEN, headers=(("trace", b"abc"),))
    class_id = str(uuid.uuid4())
    corrected = {
        "eventId": str(uuid.uuid4()),
        "eventType": "emis.class.updated",
        "timestamp": datetime.now(UTC).isoformat(),
        "classId": class_id,
        "className": "Lớp 10A1",
    }
    value = json.dumps(corrected).encode()
    done = emis_streams(no_worker, "dead-letters", "put", letter.place, "-", stdin=value + b"\n")
    assert done.returncode == 0, done.stderr
    ((_, record),) = await sent_again(no_worker, "emis.class.updated", class_id.encode(), letter.place)
    assert record.value == value
    assert ("trace", b"abc") in record.headers


async def test_put_refuses_what_is_still_wrong(no_worker: Settings) -> None:
    letter = await refuse(no_worker, key=b"key", value=BROKEN)
    done = emis_streams(
        no_worker, "dead-letters", "put", letter.place, "-", stdin=b'{"eventType": "emis.class.updated"}'
    )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("emis-streams: value: Object missing required field")


async def test_reading_all_dead_letters_at_once_in_one_loop(no_worker: Settings) -> None:
    key = new_key()
    await asyncio.gather(*[refuse(no_worker, key=key, value=str(n).encode()) for n in range(5)])
    found = [letter async for letter in dead_letters.letters(no_worker) if letter.key == key]
    assert sorted(letter.value or b"" for letter in found) == [b"0", b"1", b"2", b"3", b"4"]


def a_class(class_id: str) -> dict[str, Any]:
    """An update whose number of students is a text."""
    return {
        "eventId": str(uuid.uuid4()),
        "eventType": "emis.class.updated",
        "timestamp": datetime.now(UTC).isoformat(),
        "classId": class_id,
        "className": "Lớp 10A1",
        "totalStudents": "42",
    }


async def test_letters_of_one_cause_are_exported_corrected_and_sent_together(no_worker: Settings) -> None:
    reason, n = f"totalStudents {uuid.uuid4()}", 300
    ids = [str(uuid.uuid4()) for _ in range(n)]
    ours = headers_for("emis.class.updated", 7, 4711, now_ms(), reason, now_ms())
    async with EventProducer(no_worker) as producer:
        for class_id in ids:
            value = json.dumps(a_class(class_id), indent=2).encode()
            letter = as_dead_letter(class_id.encode(), value, (("trace", b"\x01"),), ours)
            await producer.send_record(topics.DEAD_LETTER, *letter)
    exported = emis_streams(no_worker, "dead-letters", "export", "--reason", reason)
    assert exported.returncode == 0, exported.stderr
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert {line["event"]["classId"] for line in lines} == set(ids)

    typed = exported.stdout.replace(b'"42"', b"42") + b'{"place": "0:999999999", "event": {}}\n{}\n'
    done = emis_streams(no_worker, "dead-letters", "put", "-", stdin=typed)
    assert done.returncode == 1
    assert done.stdout.decode().strip().splitlines()[-1] == f"{n} sent, 2 refused"
    assert f"line {n + 1}: there is no dead letter 0:999999999" in done.stderr.decode()
    sent = [
        record
        async for fetched in fetched_to_end(no_worker, "emis.class.updated")
        for record in fetched.records
        if (record.key or b"").decode() in set(ids)
    ]
    assert sorted(record.key.decode() for record in sent) == sorted(ids)
    assert {json.loads(record.value)["totalStudents"] for record in sent} == {42}
    assert {tuple(record.headers) for record in sent} == {(("trace", b"\x01"),)}
    again = emis_streams(no_worker, "dead-letters", "export", "--reason", reason)
    assert (again.returncode, again.stdout) == (1, b"")


async def test_what_is_exported_says_its_value_whatever_it_is(no_worker: Settings) -> None:
    reason = f"value of all kinds {uuid.uuid4()}"
    for value in (b'{"classId": 1,\n "x": 1e400}', b"hello\n", BROKEN, None):
        await refuse(no_worker, key=new_key(), value=value, reason=reason)
    lines = [
        json.loads(line)
        for command in (("export",), ("list", "--json"))
        for line in emis_streams(no_worker, "dead-letters", *command, "--reason", reason).stdout.splitlines()
    ]
    assert len(lines) == 8
    for value in ("hello\n", None, '{"classId": 1,\n "x": 1e400}'):
        assert len([line for line in lines if line.get("value", "") == value]) == 2
    assert len([line for line in lines if "valueBase64" in line]) == 2
