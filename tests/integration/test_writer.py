"""What the brokers refuse of single records, and take later."""

import asyncio

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from emis_streams.engine.writer import Writer
from tests.integration.engine_rig import admin, reader
from tests.services import unique, until


async def test_records_that_a_topic_is_too_small_for_are_sent_when_it_no_longer_is(broker: str) -> None:
    """Row 34a of the fault matrix: the partition that they are of waits, and the worker goes on answering."""
    topic = unique("letters")
    writer = Writer({"bootstrap_servers": broker})
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "1000"})])
        await writer.start()
        sent = [writer.send_record(topic, b"key", b"%d" % n * 2000, []) for n in range(3)]
        await until(lambda: writer._waiting.reason is not None)
        assert "MessageSizeTooLarge" in str(writer._waiting.reason)
        small = writer.send_record(topic, b"key", b"small", [])
        await small
        assert not any(one.done() for one in sent)
        larger = {"max.message.bytes": "100000"}
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, larger)])
        await asyncio.gather(*sent)
    await writer.stop()
    async with reader(broker, auto_offset_reset="earliest") as client:
        client.subscribe([topic])
        found = {(await client.getone()).value[:1] for _ in range(4)}
    assert found == {b"0", b"1", b"2", b"s"}
