"""Metrics of a worker for Prometheus.

Names and labels of the `kafka_…` family are those of kafka-lag-exporter and klag-exporter, so that
existing dashboards work; ours begin with `emis_`. Figures come from the last measurement: a scrape
asks nobody. Labels never hold ids of teachers or classes.
"""

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

import emis_streams
from emis_streams.lag_report import SEVERITIES, FollowerLag, GroupLag, LagReport
from emis_streams.node import IngestStatus, Node
from emis_streams.services import metrics as service_metrics

GROUP = ["cluster_name", "group"]
MEMBER = ["cluster_name", "group", "topic", "partition", "member_host", "consumer_id", "client_id"]
PARTITION = ["cluster_name", "topic", "partition"]


class NodeCollector(Collector):
    """What a node knows, but for the lag report, as metric families."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask a node that is still being put together."""
        return []

    def collect(self) -> Iterator[Metric]:
        node = self._node
        yield InfoMetricFamily(
            "emis_build",
            "What runs here.",
            {"version": emis_streams.__version__, "roles": ",".join(sorted(node.roles))},
        )
        if node.service is not None:
            yield from service_metrics.of(node.service)
        yield from service_metrics.clock_skew(node.clock)
        yield service_metrics.records_left_out()
        if node.ingest is not None:
            yield from _ingest(node.ingest.status())
        yield from _followers(node)
        yield _invalid_records(node)
        yield from _latencies(node)
        if node.lag is not None:
            yield from _age(node)


class LagCollector(Collector):
    """The last lag report, as metric families. A report does not change: any thread may collect it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        report = None if self._node.lag is None else self._node.lag.snapshot()
        if report is not None:
            yield from _lag(report)


def registry(node: Node) -> CollectorRegistry:
    """A registry of its own for a node, with the process's metrics; see LagCollector for the lag report."""
    own = CollectorRegistry()
    own.register(NodeCollector(node))
    ProcessCollector(registry=own)
    PlatformCollector(registry=own)
    return own


def _ingest(status: IngestStatus) -> Iterator[Metric]:
    events = CounterMetricFamily("emis_events", "Events by what became of them.", labels=["outcome"])
    # `events_total` counts all of them; what is neither refused nor superseded was applied.
    refused, superseded = status.refused_total, status.superseded_total
    events.add_metric(["applied"], max(0, status.events_total - refused - superseded))
    events.add_metric(["superseded"], superseded)
    events.add_metric(["refused"], refused)
    yield events
    yield CounterMetricFamily(
        "emis_events_clock_skew", "Events older than one of the same key on the same topic.", status.clock_skew_total
    )
    yield CounterMetricFamily(
        "emis_events_misplaced", "Events in a partition that is not murmur2(key) % n.", status.misplaced_total
    )
    yield CounterMetricFamily(
        "emis_events_unknown_fields", "Events with fields that the contract lacks.", status.unknown_fields_total
    )
    yield CounterMetricFamily(
        "emis_offsets_set_by_others",
        "Partitions that went on where another program had set the group.",
        status.set_by_others_total,
    )
    yield CounterMetricFamily(
        "emis_events_lost_to_retention",
        "Records that left the log before they were read.",
        sum(status.lost_to_retention.values()),
    )
    yield GaugeMetricFamily("emis_partitions_assigned", "Source partitions owned now.", len(status.assigned))
    yield GaugeMetricFamily("emis_rebalancing", "1 while partitions are shared out anew.", int(status.rebalancing))
    yield GaugeMetricFamily("emis_tables_caught_up", "1 once the tables were caught up.", int(status.caught_up))


def _followers(node: Node) -> Iterator[Metric]:
    records = CounterMetricFamily("emis_follower_records", "Changelog records followed.", labels=["follower"])
    waiting = GaugeMetricFamily("emis_follower_waiting", "1 while it waits for a service.", labels=["follower"])
    parts = {"emis_read_model": node.read_model_follower, "emis_replica": node.replica_follower}
    for name, follower in parts.items():
        if follower is None:
            continue
        status = follower.status()
        records.add_metric([status.name], status.records_total)
        waiting.add_metric([status.name], int(status.waiting_for is not None))
        yield GaugeMetricFamily(
            f"{name}_caught_up", "1 once the end seen at the start was reached.", int(status.caught_up)
        )
    yield records
    yield waiting


def _invalid_records(node: Node) -> Metric:
    family = CounterMetricFamily(
        "emis_changelog_invalid_records", "Records of changelogs that are no rows, left out.", labels=["reader"]
    )
    if node.ingest is not None:
        family.add_metric(["tables"], node.ingest.status().invalid_records_total)
    for follower in (node.read_model_follower, node.replica_follower):
        if follower is not None:
            status = follower.status()
            family.add_metric([status.name], status.invalid_records_total)
    return family


def _latencies(node: Node) -> Iterator[Metric]:
    now = time.monotonic()
    name, text = "emis_sync_latency_seconds", "Event time to visible, by where; without the backlog."
    total = SummaryMetricFamily(name, text, labels=["follower"])
    quantiles = GaugeMetricFamily(
        "emis_sync_latency_quantile_seconds", "Over the last minute.", labels=["follower", "quantile"]
    )
    backlog = CounterMetricFamily("emis_sync_backlog_events", "Events older than the start.", labels=["follower"])
    for follower, latency in node.sync_latency.items():
        summary = latency.summary(now)
        total.add_metric([follower], count_value=latency.count_total, sum_value=latency.seconds_total)
        backlog.add_metric([follower], latency.backlog_total)
        for quantile, seconds in (("0.5", summary.p50_seconds), ("0.99", summary.p99_seconds)):
            if seconds is not None:
                quantiles.add_metric([follower, quantile], seconds)
    yield from (total, quantiles, backlog)


def _age(node: Node) -> Iterator[Metric]:
    age = node.lag.age_seconds(time.monotonic()) if node.lag is not None else None
    family = GaugeMetricFamily("emis_answer_age_seconds", "Upper bound on the age of an answer; absent if unknown.")
    if age is not None:
        family.add_metric([], age)
    yield family


def _lag(report: LagReport) -> Iterator[Metric]:
    yield GaugeMetricFamily("emis_brokers_reachable", "1 if the last look succeeded.", int(report.error is None))
    if report.error is not None:
        return  # the lag of a while ago must not look like that of now
    cluster = (report.brokers.cluster_id if report.brokers is not None else None) or ""
    if report.dead_letters is not None and report.dead_letters.count is not None:
        yield GaugeMetricFamily("emis_dead_letters", "Records in the dead-letter topic.", report.dead_letters.count)
    text = "Groups of others that read these topics and are not shown."
    yield GaugeMetricFamily("emis_groups_left_out", text, report.groups_left_out)
    yield from _partition_offsets(cluster, report.groups)
    yield from _partition_lags(cluster, report.groups)
    yield from _group_lags(cluster, report.groups)
    yield from _follower_lags(report.followers)


def _partition_offsets(cluster: str, groups: Iterable[GroupLag]) -> Iterator[Metric]:
    latest = GaugeMetricFamily("kafka_partition_latest_offset", "Offset after the last record.", labels=PARTITION)
    earliest = GaugeMetricFamily("kafka_partition_earliest_offset", "Offset of the first record.", labels=PARTITION)
    partitions = {(p.topic, p.partition): p for g in groups for p in g.partitions}
    for (topic, partition), p in partitions.items():
        for family, offset in ((latest, p.end_offset), (earliest, p.earliest_offset)):
            if offset is not None:
                family.add_metric([cluster, topic, str(partition)], offset)
    yield from (latest, earliest)


def _partition_lags(cluster: str, groups: Iterable[GroupLag]) -> Iterator[Metric]:
    prefix = "kafka_consumergroup_group"
    offset = GaugeMetricFamily(f"{prefix}_offset", "Committed offset; absent if none.", labels=MEMBER)
    lag = GaugeMetricFamily(f"{prefix}_lag", "Records not read yet.", labels=MEMBER)
    seconds = GaugeMetricFamily(f"{prefix}_lag_seconds", "Age of the first record not read.", labels=MEMBER)
    for group in groups:
        for p in group.partitions:
            owner = (p.owner.host, p.owner.member_id, p.owner.client_id) if p.owner is not None else ("", "", "")
            labels = [cluster, group.group_id, p.topic, str(p.partition), *owner]
            for family, value in ((offset, p.committed_offset), (lag, p.lag), (seconds, p.lag_seconds)):
                if value is not None:
                    family.add_metric(labels, value)
    yield from (offset, lag, seconds)


def _group_lags(cluster: str, groups: Iterable[GroupLag]) -> Iterator[Metric]:
    prefix = "kafka_consumergroup_group"
    highest = GaugeMetricFamily(f"{prefix}_max_lag", "Of its partitions.", labels=GROUP)
    seconds = GaugeMetricFamily(f"{prefix}_max_lag_seconds", "Of its partitions.", labels=GROUP)
    total = GaugeMetricFamily(f"{prefix}_sum_lag", "Of its partitions.", labels=GROUP)
    of_topic = GaugeMetricFamily(f"{prefix}_topic_sum_lag", "Of a topic's partitions.", labels=[*GROUP, "topic"])
    members = GaugeMetricFamily("emis_group_members", "Members, as the brokers say.", labels=GROUP)
    severity = GaugeMetricFamily("emis_group_severity", "0 ok, 1 warn, 2 error.", labels=[*GROUP, "state"])
    for group in groups:
        labels = [cluster, group.group_id]
        total.add_metric(labels, group.total_lag)
        severity.add_metric([*labels, group.state], SEVERITIES.index(group.severity))
        for family, value in ((highest, group.max_lag), (seconds, group.max_lag_seconds), (members, group.members)):
            if value is not None:
                family.add_metric(labels, value)
        for topic in group.topics:
            of_topic.add_metric([*labels, topic.topic], topic.lag)
    yield from (highest, seconds, total, of_topic, members, severity)


def _follower_lags(followers: Iterable[FollowerLag]) -> Iterator[Metric]:
    lag = GaugeMetricFamily("emis_follower_lag", "Changelog records not followed yet.", labels=["follower"])
    delay = GaugeMetricFamily("emis_follower_delay_seconds", "Behind the changelogs.", labels=["follower"])
    for follower in followers:
        lag.add_metric([follower.name], follower.total_lag)
        if follower.delay_seconds is not None:
            delay.add_metric([follower.name], follower.delay_seconds)
    yield from (lag, delay)
