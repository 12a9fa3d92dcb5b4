"""What topics are made with, and what the command says; the brokers' part is tried in tests/integration."""

from emis_streams import admin, topics
from emis_streams.admin import Difference
from emis_streams.cli.topics import report
from emis_streams.settings import Settings

SETTINGS = Settings(replication_factor=3, min_insync_replicas=2)


def configs() -> dict[str, dict[str, str]]:
    return {topic.name: admin.wanted_config(topic, SETTINGS) for topic in topics.all_topics()}


def test_the_teacher_service_has_eight_sources_three_changelogs_and_the_dead_letters() -> None:
    names = [topic.name for topic in topics.teacher_topics()]
    assert len(names) == len(set(names)) == 12
    assert sum(name.endswith("-changelog") for name in names) == 3


def test_each_service_has_a_topic_of_requests_and_one_of_replies_and_all_share_a_registry() -> None:
    names = [topic.name for topic in topics.service_topics()]
    for service in topics.SERVICES:
        assert {f"emis.request.{service}", f"emis.reply.{service}"} <= set(names)
    assert [t.name for t in topics.service_topics() if t.partitions == 1] == ["emis.registry"]


def test_every_topic_needs_two_copies_to_acknowledge() -> None:
    assert {config["min.insync.replicas"] for config in configs().values()} == {"2"}


def test_changelogs_are_compacted_only_and_not_at_once() -> None:
    for subject in topics.SUBJECTS:
        config = configs()[subject.changelog]
        assert config["cleanup.policy"] == "compact"
        assert int(config["min.compaction.lag.ms"]) >= 24 * 60 * 60 * 1000


def test_sources_keep_seven_days_and_are_stamped_by_the_brokers() -> None:
    for topic in topics.source_topics():
        assert topic.config["retention.ms"] == str(7 * 24 * 60 * 60 * 1000)
        assert topic.config["message.timestamp.type"] == "LogAppendTime"


def test_nothing_is_too_big_to_be_dead_lettered() -> None:
    dead, source = configs()[topics.DEAD_LETTER], configs()["emis.class.created"]
    assert int(dead["max.message.bytes"]) >= int(source["max.message.bytes"]) + 64 * 1024


def test_the_report_names_topic_difference_and_way_out() -> None:
    text = report([Difference("emis.class.created", "partitions", "10", "3", "do this")])
    assert text == "1 difference:\n  emis.class.created: partitions is 3, should be 10\n    do this"
    assert report([]) == "All topics are as they should be."
