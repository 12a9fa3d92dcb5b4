"""Metrics of the service layer: calls, replies, requests, outbox and registry, by the counters that these keep."""

from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, StateSetMetricFamily

from emis_streams.broker_clock import BrokerClock
from emis_streams.engine.header_names import left_out
from emis_streams.services.circuit_breaker import State
from emis_streams.services.gateway import GatewayService
from emis_streams.services.service import Service

CALL = ["service", "pattern"]


def of(service: Service) -> Iterator[Metric]:
    """Families of one process; a scrape asks nobody."""
    yield from _calls(service)
    yield from _replies(service)
    if isinstance(service, GatewayService):
        yield from _admissions(service)
    text = "Requests to this service, by what became of them."
    requests = CounterMetricFamily("emis_requests", text, labels=["outcome"])
    for outcome, n in asdict(service.requests.counts).items():
        requests.add_metric([outcome], n)
    yield requests
    yield from _outbox(service)
    instances = GaugeMetricFamily("emis_registry_instances", "Instances in the registry.", labels=["service"])
    found = [info.name for info in service.registry.get_all()]
    for name in sorted(set(found)):
        instances.add_metric([name], found.count(name))
    yield instances
    text = "Records of the registry that told of no instance, or of one too many."
    yield CounterMetricFamily("emis_registry_left_out", text, service.registry.left_out)


def clock_skew(clock: BrokerClock) -> Iterator[Metric]:
    """Absent while the brokers' clock is not known."""
    text = "How far this machine's clock is ahead of the brokers' (negative: behind)."
    family = GaugeMetricFamily("emis_clock_skew_seconds", text)
    if (seconds := clock.skew_seconds()) is not None:
        family.add_metric([], seconds)
    yield family


def records_left_out() -> Metric:
    """Of this process; topics are those that it reads."""
    text = "Records that were not read, as their batch is too large when decompressed."
    family = CounterMetricFamily("emis_records_left_out", text, labels=["topic"])
    for topic, n in left_out.items():
        family.add_metric([topic], n)
    return family


def _calls(service: Service) -> Iterator[Metric]:
    calls = CounterMetricFamily("emis_calls", "Calls of other services, by how they ended.", labels=[*CALL, "outcome"])
    states = StateSetMetricFamily("emis_circuit_breaker", "State of each circuit breaker.", labels=CALL)
    for name, pattern, breaker in service.breakers:
        states.add_metric([name, pattern], {state.value: state is breaker.state for state in State})
        for outcome, n in asdict(breaker.counts).items():
            calls.add_metric([name, pattern, outcome], n)
    yield calls
    yield states


def _admissions(gateway: GatewayService) -> Iterator[Metric]:
    limits = GaugeMetricFamily("emis_gateway_call_limit", "Calls that may be under way at once, now.", labels=CALL)
    under_way = GaugeMetricFamily("emis_gateway_calls_under_way", "Calls that are not answered yet.", labels=CALL)
    refused = CounterMetricFamily("emis_gateway_refused", "Requests refused at once.", labels=[*CALL, "reason"])
    for (name, pattern), admission in sorted(gateway.admissions.items()):
        limits.add_metric([name, pattern], admission.limit)
        under_way.add_metric([name, pattern], admission.in_flight)
        for reason, n in asdict(admission.refused).items():
            refused.add_metric([name, pattern, reason], n)
    yield from (limits, under_way, refused)


def _outbox(service: Service) -> Iterator[Metric]:
    publisher = service.publisher
    n_sent = 0 if publisher is None else publisher.counts.sent
    yield CounterMetricFamily("emis_outbox_events", "Events that the outbox has sent.", n_sent)
    unsent = GaugeMetricFamily(
        "emis_outbox_unsent_events", "Events in the outbox's database; 10,000 at most are counted.", labels=[]
    )
    oldest = GaugeMetricFamily("emis_outbox_oldest_seconds", "Age of the oldest unsent event.", labels=[])
    leader = GaugeMetricFamily("emis_outbox_is_leader", "1: this instance sends the events.", labels=[])
    if publisher is not None and publisher.backlog is not None:
        unsent.add_metric([], publisher.backlog.n_events)
        oldest.add_metric([], publisher.backlog.oldest_seconds)
        leader.add_metric([], int(publisher.is_leader))
    yield from (unsent, oldest, leader)


def _replies(service: Service) -> Iterator[Metric]:
    replies = CounterMetricFamily("emis_replies", "Replies, by whether somebody waited for them.", labels=["kind"])
    for kind, n in asdict(service.replies.counts).items():
        replies.add_metric([kind], n)
    yield replies
    n_pending = len(service.replies.pending())
    yield GaugeMetricFamily("emis_replies_pending", "Requests whose reply is waited for.", n_pending)
