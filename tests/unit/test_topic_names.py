"""What no topic can be called is refused before a client of the brokers hears of it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from emis_streams import topics
from emis_streams.cli.produce import produce
from emis_streams.cli.topics import topics as topics_command
from emis_streams.engine.topic_names import InvalidTopicName, is_topic_name, require_topic_name
from emis_streams.errors import InvalidSetting
from emis_streams.services.catalogue import service_class
from emis_streams.services.kafka_carrier import Sender
from emis_streams.services.service import Service

IMPOSSIBLE = ["", ".", "..", "a b", "a\n", "x" * 250, "lớp", "a/b", "a\0", "emis.class.created,x", "*"]


class NamedStrangely(Service):
    name = "a b"
    port = 1


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_no_topic_can_be_called(name: str) -> None:
    assert not is_topic_name(name)
    with pytest.raises(InvalidTopicName, match="is no name of a topic"):
        require_topic_name(name)


def test_all_topics_of_ours_can_be_made() -> None:
    assert all(is_topic_name(topic.name) for topic in topics.all_topics())
    assert all(topics.is_service_name(name) for name in topics.SERVICES)


@pytest.mark.parametrize("name", IMPOSSIBLE)
async def test_a_sender_refuses_it_before_its_producer_hears_of_it(name: str) -> None:
    sender = Sender({})  # Not started: that a producer is asked for would be another error.
    with pytest.raises(InvalidTopicName):
        await sender.send(name, b"", b"", [])


@pytest.mark.parametrize("name", [name for name in IMPOSSIBLE if name not in (".", "..")])
def test_commands_refuse_it_with_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("{}")
    for command, given in (
        (topics_command, ["--service", name]),
        (produce, [str(tmp_path / "lines"), "--raw", "--topic", name]),
    ):
        result = CliRunner().invoke(command, given)
        assert (result.exit_code, "a-z A-Z 0-9" in result.output) == (2, True), result.output


def test_a_service_of_ones_own_has_a_name_that_topics_can_have() -> None:
    with pytest.raises(InvalidSetting, match=r"NamedStrangely\.name is 'a b'"):
        service_class(f"{__name__}:NamedStrangely")
