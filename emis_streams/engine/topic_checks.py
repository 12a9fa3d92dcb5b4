"""What topics have to be like for the tables that are made from them, and for the changelogs that keep these."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from emis_streams.engine.cluster import Described
from emis_streams.engine.config_error import ConfigError
from emis_streams.engine.hints import Hint, hint
from emis_streams.engine.row_size import MOST_BATCH_BYTES

CHECKED_CONFIGS = (
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "min.insync.replicas",
    "min.compaction.lag.ms",
    "max.message.bytes",
)
_UNLIMITED = "-1"

Configs = Mapping[str, Mapping[str, str]]
"""Values by name, by topic. A topic whose configs may not be read is not in it."""


class TopicsUnfit(ConfigError):
    """Topics are missing or not as their tables need them. Waiting helps once somebody corrects them."""

    def __init__(self, problems: Collection[str]) -> None:
        super().__init__(f"{'; '.join(problems)}: nothing is read ({hint(Hint.TOPICS)})")


@dataclass(frozen=True)
class TableTopics:
    """The topics of a table."""

    table: str
    sources: tuple[str, ...]
    changelog: str
    n_partitions: int | None = None
    """As declared; None: as many as its sources have."""

    def wanted_partitions(self, found: Mapping[str, Described]) -> int | None:
        """None: not known, as no source is there."""
        if self.n_partitions is not None:
            return self.n_partitions
        return next((found[topic].n_partitions for topic in self.sources if topic in found), None)


def differing(tables: Iterable[TableTopics], found: Mapping[str, Described]) -> Iterator[str]:
    """Topics that have another number of partitions than their table: keys would not be where their rows are."""
    for table in tables:
        wanted = table.wanted_partitions(found)
        for topic in (*sorted(table.sources), table.changelog):
            if topic in found and wanted is not None and found[topic].n_partitions != wanted:
                n = found[topic].n_partitions
                yield f"{topic} has another number of partitions than its table {table.table}: {n}, not {wanted}"


def missing_topics(tables: Iterable[TableTopics], missing: Collection[str]) -> Iterator[str]:
    for table in tables:
        if table.changelog in missing:
            yield f"{table.changelog}, the changelog of table {table.table}, is missing"
        for topic in table.sources:
            if topic in missing:
                yield f"{topic}, a source of table {table.table}, is missing"


def unfit_changelogs(tables: Iterable[TableTopics], found: Mapping[str, Described], configs: Configs) -> Iterator[str]:
    """Changelogs that lose rows, or that nothing can be written to."""
    for table in tables:
        name, config = table.changelog, configs.get(table.changelog, {})
        if _deletes(config):
            policy = config["cleanup.policy"]
            yield f"{name} has cleanup.policy={policy}, which deletes rows of table {table.table}: it has to be compact"
        least = int(config.get("min.insync.replicas", "1"))
        if name in found and 0 < found[name].n_replicas < least:
            n_replicas = found[name].n_replicas
            few = f"fewer replicas ({n_replicas}) than min.insync.replicas={least}"
            yield f"{name} has {few}: nothing can be written to it"
        most_bytes = int(config.get("max.message.bytes", MOST_BATCH_BYTES))
        if most_bytes < MOST_BATCH_BYTES:
            yield (
                f"{name} has max.message.bytes={most_bytes}: batches of rows of table {table.table} have up to "
                f"{MOST_BATCH_BYTES}"
            )


def _deletes(config: Mapping[str, str]) -> bool:
    limits = (config.get("retention.ms", _UNLIMITED), config.get("retention.bytes", _UNLIMITED))
    return "delete" in _policies(config) and any(limit != _UNLIMITED for limit in limits)


def _policies(config: Mapping[str, str]) -> list[str]:
    return [policy.strip() for policy in config.get("cleanup.policy", "compact").split(",")]


def questionable_changelogs(tables: Iterable[TableTopics], configs: Configs) -> Iterator[str]:
    """What works, and costs something at a bad moment. The changelogs are there."""
    for table in tables:
        config = configs.get(table.changelog)
        if config is None:
            yield f"whether {table.changelog} keeps all rows is not checked: DescribeConfigs is not granted"
            continue
        if "compact" not in _policies(config):
            yield f"{table.changelog} is not compacted: it grows for ever"
        elif config.get("min.compaction.lag.ms") == "0":
            yield (
                f"{table.changelog} has min.compaction.lag.ms=0: compaction may remove a row that an older one of a "
                "frozen worker follows, before it is sent again; set it to longer than a worker can be frozen"
            )
