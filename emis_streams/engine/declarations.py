"""What an application declares, looked at as a whole before anything is started."""

from collections.abc import Iterator
from typing import Any

from emis_streams.engine import SCHEME
from emis_streams.engine.assignor import Assignor
from emis_streams.engine.config_error import ConfigError
from emis_streams.engine.options import brokers_of, other_brokers
from emis_streams.engine.table import Table
from emis_streams.engine.topic_names import ALLOWED, is_topic_name

_FIXED: dict[str, tuple[Any, str]] = {
    "table_standby_replicas": (0, "any worker can take a partition over from its changelog"),
    "consumer_auto_offset_reset": ("earliest", "what nobody has read yet is read from its start"),
    "stream_wait_empty": (True, "slices under way are finished before partitions are given up"),
    "topic_allow_declare": (False, "topics are made outside of workers"),
    "topic_disable_leader": (True, "the engine has no leader topic"),
    "web_in_thread": (False, "pages are served by the worker's own loop"),
}
"""Settings of Faust that have one value here, and why."""


def check(app: Any) -> None:
    """Raises ConfigError with all that is wrong with the app."""
    problems = [*_settings(app)]
    if app.ingests:
        problems += [*_tables(app), *_changelogs(app)]
    if problems:
        raise ConfigError("; ".join(problems))


def _settings(app: Any) -> Iterator[str]:
    conf = app.conf
    for name in ("broker_consumer", "broker_producer"):
        others = [str(url) for url in getattr(conf, name) if url.scheme != SCHEME]
        if others:
            yield f"broker={';'.join(others)} has to begin with {SCHEME}://"
            break
    if conf.store.scheme != SCHEME:
        yield f"store={conf.store} has to be {SCHEME}://"
    if others := other_brokers(app):
        yield (
            f"broker= names {', '.join(brokers_of(app))}, and bootstrap_servers of Options.client "
            f"{', '.join(others)}: name the brokers in broker= only"
        )
    guarantee = getattr(conf.processing_guarantee, "value", conf.processing_guarantee)
    if guarantee != "at_least_once":
        yield (
            f"processing_guarantee={guarantee} is not supported: the engine writes without transactions; "
            "rows that hold the offset they come from make at_least_once exact"
        )
    for name, (value, why) in _FIXED.items():
        if getattr(conf, name) != value:
            yield f"{name}={getattr(conf, name)!r} is not supported, only {value!r}: {why}"
    if not issubclass(conf.PartitionAssignor, Assignor):
        yield f"PartitionAssignor={conf.PartitionAssignor.__name__} has to be the engine's own"


def _tables(app: Any) -> Iterator[str]:
    for table in app.tables.values():
        if not isinstance(table, Table):
            yield f"table {table.name} is a {type(table).__name__} of Faust: the engine has app.Table(…) only"
            continue
        if table._store is not None and table._store.scheme != SCHEME:
            yield f"table {table.name}: store={table._store} has to be {SCHEME}://"
        unread = [topic for topic in table.source_topics if topic not in app.readers]
        if unread:
            yield f"table {table.name}: no agent reads {', '.join(unread)}, so that no worker would own its partitions"


def _changelogs(app: Any) -> Iterator[str]:
    tables = [table for table in app.tables.values() if isinstance(table, Table)]
    sources = {topic for table in tables for topic in table.source_topics}
    taken: dict[str, str] = {}
    for table in tables:
        name = table.changelog_name
        if name in taken:
            yield f"tables {taken[name]} and {table.name} have the same changelog {name}: each needs one of its own"
        if name in sources or name in app.readers:
            yield f"{name} is the changelog of table {table.name}, and read as a source as well: rows are no events"
        taken[name] = table.name
        for topic in (name, *table.source_topics):
            if not is_topic_name(topic):
                yield f"table {table.name}: {topic!r} is no name of a topic: {ALLOWED}"
